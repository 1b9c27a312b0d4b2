"""Whether a reply that was asked for as a stream is one.

Holds: the first bytes until they tell, and all bytes of a body that is no
stream of events, within its cap. Does not hold: what either means (chunks.py,
wire.py). One per reply of one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lionlite.exceptions import ResponseTooLarge
from lionlite.service.transport.parse import MAX_BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

_BOM: Final = b"\xef\xbb\xbf"
_FIELDS: Final = (b":", b"data:", b"event:", b"id:", b"retry:")
_LONGEST_FIELD: Final = 6


class BodyKind:
    """Tells a stream of events from a whole body by its first bytes.

    The bytes count for more than the content type: servers that take no notice
    of `stream` name it wrong either way.

    Args:
        headers: Of the reply, lower-case names.

    Attributes:
        is_stream: Whether the body is a stream of events, None while unknown.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.is_stream: bool | None = None
        self._is_named_so = "event-stream" in headers.get("content-type", "").lower()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._is_blank = True

    def put(self, data: bytes) -> bytes:
        """Take the next bytes; return those of a stream that are not read yet.

        Raises:
            ResponseTooLarge: The body is no stream and passes its cap.
        """
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > MAX_BODY_BYTES:
            msg = f"The reply's body is longer than {MAX_BODY_BYTES:,} bytes."
            raise ResponseTooLarge(msg)
        if self.is_stream is not None:
            return b""
        if self._is_blank and data.isspace():
            # To join what is held at every piece would be quadratic.
            return b""
        head = self.body()
        told = _stripped(head)
        self._is_blank = not told
        if len(told) >= _LONGEST_FIELD:
            self._decide(head)
        if not self.is_stream:
            return b""
        self._held.clear()
        return head

    def end(self) -> None:
        """Decide by what there is: no more bytes come."""
        if self.is_stream is None:
            self._decide(self.body())

    def body(self) -> bytes:
        """Return the body, if it is no stream."""
        return b"".join(self._held)

    def _decide(self, head: bytes) -> None:
        head = _stripped(head)
        self.is_stream = head.startswith(_FIELDS) or (
            self._is_named_so and not head.startswith((b"{", b"[", b"<", b'"'))
        )


def _stripped(head: bytes) -> bytes:
    return head.removeprefix(_BOM).lstrip()
