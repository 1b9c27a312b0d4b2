"""One HTTP/1.1 reply: its bytes in, status, headers and body out.

Holds: the caps on head and body, and what llhttp (through httptools) leaves to
its user. Does not hold: sockets, time, or what the body means. One parser
belongs to one exchange of one thread.

Source: RFC 9112; what httptools does and does not do was measured with it.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import attrs
import httptools

from lionlite.exceptions import ConnectionFailed, ResponseError, ResponseTooLarge

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_HEAD_BYTES = 64 * 1024
"""Far above any provider's; llhttp is quadratic in one header's length (26 MB cost 4.4 s)."""

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Decompressed; the longest answers of today's models are below 1 MB."""

_NO_BODY = frozenset({204, 304})
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


@attrs.frozen
class RawReply:
    """What came back, uninterpreted; a provider may have echoed the key into it.

    Attributes:
        status: The HTTP status.
        headers: Lower-case names; values of equal names joined with ", ".
        body: The body, decompressed.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(repr=lambda headers: f"<{len(headers)} headers>")
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")


class ReplyParser:
    """Reads one reply; the `on_*` methods are called by httptools.

    Args:
        max_body_bytes: Cap on the body, before and after decompression.
    """

    def __init__(self, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._max_body_bytes = max_body_bytes
        self._head_bytes = 0
        self._status = 0
        self._is_head_done = False
        self._is_close_delimited = False
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._problem: str | None = None
        self.is_done = False
        self.keeps_alive = False

    @property
    def has_begun(self) -> bool:
        """Whether any byte of the reply was fed."""
        return self._head_bytes > 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes from the socket.

        Raises:
            ResponseError: They are not a reply that we accept.
            ResponseTooLarge: The head or the body passes its cap.
        """
        if not self._is_head_done:
            # Cap before parsing: a head is cut into pieces that stay cheap.
            room = MAX_HEAD_BYTES - self._head_bytes
            head, data = data[:room], data[room:]
            self._head_bytes += len(head)
            self._parse(head)
            if data and not self._is_head_done:
                msg = f"The reply's head is longer than {MAX_HEAD_BYTES:,} bytes."
                raise ResponseTooLarge(msg)
        if data:
            self._parse(data)
        if self._body_bytes > self._max_body_bytes:
            raise self._too_large()

    def feed_end(self) -> None:
        """Take note that the server closed the connection.

        Raises:
            ConnectionFailed: The reply is not complete.
        """
        if self._is_close_delimited:
            self.is_done = True
        if not self.is_done:
            what = "inside a reply" if self.has_begun else "before it replied"
            msg = f"The provider closed the connection {what}."
            raise ConnectionFailed(msg)

    def reply(self) -> RawReply:
        """Return the complete reply.

        Raises:
            ResponseError: The body's encoding is broken or one we did not ask for.
            ResponseTooLarge: The body decompresses past its cap.
        """
        body = self._decoded(b"".join(self._chunks))
        return RawReply(self._status, self._headers, body)

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._problem = "it wants to change the protocol"
        except httptools.HttpParserError as exc:
            # Bytes after a complete reply that said "close" are an error to
            # llhttp: the reply stands, the connection is not used again.
            if not self.is_done:
                self._problem = self._problem or str(exc)
        if self._problem is not None:
            msg = f"The reply is not valid HTTP: {self._problem}."
            raise ResponseError(msg)

    # --- called by httptools; what they raise would be wrapped, so they note it

    def on_message_begin(self) -> None:
        """Note a second reply in the same bytes: it answers nothing we sent."""
        if self.is_done:
            self.keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; trailers come here too, and are left out."""
        if self._is_head_done:
            return
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1").strip(" \t")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """Judge the head."""
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        if self.is_done or status in range(100, 200):
            return
        self._is_head_done = True
        self._status = status
        if status not in range(200, 600) or version not in {"1.0", "1.1"}:
            self._problem = f"status {status} of HTTP/{version}"
        coding = self._headers.get("transfer-encoding")
        if coding is not None and coding.lower() != "chunked":
            self._problem = f"transfer-encoding {coding!r:.40}"
        has_length = coding is not None or "content-length" in self._headers
        self._is_close_delimited = not has_length and status not in _NO_BODY

    def on_body(self, data: bytes) -> None:
        """Collect a piece of the body."""
        if self.is_done:
            return
        self._body_bytes += len(data)
        if self._body_bytes <= self._max_body_bytes:
            self._chunks.append(data)

    def on_message_complete(self) -> None:
        """Note the end of a reply, or of an interim one (100 to 199)."""
        if self.is_done:
            return
        if not self._is_head_done:
            self._headers = {}
            return
        self.is_done = True
        # Only true inside this callback.
        self.keeps_alive = self._parser.should_keep_alive()

    def _too_large(self) -> ResponseTooLarge:
        msg = f"The reply's body is longer than {self._max_body_bytes:,} bytes."
        return ResponseTooLarge(msg)

    def _decoded(self, body: bytes) -> bytes:
        coding = self._headers.get("content-encoding", "identity").lower()
        if coding in {"identity", ""} or not body:
            return body
        if coding != "gzip":
            msg = f"The reply is encoded as {coding!r:.40}, which was not asked for."
            raise ResponseError(msg)
        inflater = zlib.decompressobj(_GZIP_WINDOW)
        try:
            plain = inflater.decompress(body, self._max_body_bytes + 1)
        except zlib.error as exc:
            msg = f"The reply's gzip is broken: {exc}."
            raise ResponseError(msg) from exc
        if len(plain) > self._max_body_bytes:
            raise self._too_large()
        if not inflater.eof:
            msg = "The reply's gzip ends too early."
            raise ResponseError(msg)
        return plain
