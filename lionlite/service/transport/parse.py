"""One HTTP/1.1 reply after the other: their bytes in, status, headers and body out.

Holds: the caps on head, framing and body, and what llhttp (through httptools)
leaves to its user. Does not hold: sockets, time, the coding of a body
(decode.py), or what it means. One parser belongs to one connection.

Source: RFC 9112; what httptools does and does not do was measured with it.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import httptools

from lionlite.exceptions import ConnectionFailed, ResponseError, ResponseTooLarge
from lionlite.service.transport.decode import decoded, decoded_refusal, too_large
from lionlite.service.transport.headers import Headers
from lionlite.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_HEAD_BYTES = 64 * 1024
"""Far above any provider's; llhttp is quadratic in one header's length (26 MB cost 4.4 s)."""

MAX_HEADERS = 256
"""Common servers send at most 100."""

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Decompressed; the longest answers of today's models are below 1 MB."""

MAX_FRAMING_RATIO = 16
"""Bytes of chunk sizes and the like for each byte of body; a chunk of one byte has 5."""

_NO_BODY = frozenset({204, 304})


class RawReply(Value, frozen=True):
    """What came back, uninterpreted; a provider may have echoed the key into it.

    Attributes:
        status: The HTTP status.
        headers: Lower-case names; values of equal names joined with ", ".
        body: The body, decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        headers, body = f"<{len(self.headers)} headers>", f"<{len(self.body)} bytes>"
        return f"RawReply(status={self.status}, headers={headers}, body={body})"


def is_good(status: int) -> bool:
    """Whether *status* says that the request was answered."""
    return 200 <= status < 300  # noqa: PLR2004


class ReplyParser:
    """Reads replies, one after the other; the `on_*` attributes are called by httptools.

    llhttp judges every byte. The headers are then cut out of the head that it
    accepted, when somebody asks (headers.py): a call back into Python for each
    would cost more than all the rest.

    Args:
        max_body_bytes: Cap on a body, before and after decompression.

    Attributes:
        status: The HTTP status, from the end of the head on.
        headers: Then too. Lower-case names; values of equal names joined with ", ".
        head: The same, as it came, without the blank line at its end.
        is_head_done: Whether the head is complete, interim ones aside.
        is_done: Whether the reply is complete.
        keeps_alive: Whether the connection may then be used again.
    """

    status: int
    headers: Headers
    head: str

    def __init__(self, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        # Callbacks into C where they can be: they are the most of what llhttp costs.
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self._ticks = itertools.count()
        self.on_message_begin = self._ticks.__next__
        self._parser = httptools.HttpResponseParser(self)
        self.begin(max_body_bytes=max_body_bytes)

    def begin(self, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        """Get ready for the next reply; the last one was read to its end and keeps alive."""
        self._max_body_bytes = max_body_bytes
        self._head = b""
        # What was fed since the last piece of the body: there trailers may stand.
        self._tail = b""
        self._is_chunked = False
        self._head_bytes = self._body_bytes = self._framing_bytes = self._bare_bytes = 0
        self._interims = 0
        self._first_tick = next(self._ticks)
        # Of each complete message: whether it lets the connection live, and its pieces.
        self._ends: list[tuple[bool, int]] = []
        self._body: list[bytes] = []
        self.is_head_done = self.is_done = self.keeps_alive = self._is_close_delimited = False

    @property
    def has_begun(self) -> bool:
        """Whether any byte of the reply was fed."""
        return self._head_bytes > 0

    def release(self) -> None:
        """Let go of httptools' parser, which holds this one; nothing works afterwards."""
        if hasattr(self, "_parser"):
            del self._parser

    def feed(self, data: bytes) -> None:
        """Take the next bytes from the socket.

        Raises:
            ResponseError: They are not a reply that we accept.
            ResponseTooLarge: The head, the framing or the body passes its cap.
        """
        is_body = self.is_head_done
        if not is_body:
            room = MAX_HEAD_BYTES - self._head_bytes
            if len(data) > room:
                self._feed_long(data[:room], data[room:])
                return
            self._head_bytes += len(data)
            self._head = self._head + data if self._head else data
        problem = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            problem = _UPGRADE
        except httptools.HttpParserError as exc:
            problem = str(exc)
        if not is_body:
            self._read_heads(problem)
        pieces = self._pieces
        if self._is_chunked:
            self._note_tail(pieces, data if is_body else None)
        if self.is_head_done and len(self._ends) > self._interims:
            self._finish(pieces, problem)
        elif problem is not None:
            raise _invalid(problem)
        count = self._keep(pieces) if pieces else 0
        if is_body:
            self._count_framing(len(data), count)

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

    def take_body(self) -> bytes:
        """Return what arrived of the body since the last time, still encoded."""
        body, self._body = self._body, []
        return body[0] if len(body) == 1 else b"".join(body)

    def reply(self) -> RawReply:
        """Return the complete reply.

        Raises:
            ResponseError: The status is good, but the body's encoding is broken
                or one we did not ask for.
            ResponseTooLarge: The body decompresses past its cap.
        """
        body = self.take_body()
        if self._is_coded:
            decode = decoded if is_good(self.status) else decoded_refusal
            coding = self.headers["content-encoding"]
            body = decode(body, coding, max_bytes=self._max_body_bytes)
        return RawReply(self.status, self.headers, body)

    def _feed_long(self, head: bytes, rest: bytes) -> None:
        """Feed more than a head may have: cap before parsing, so that it stays cheap."""
        if head:
            self.feed(head)
        if not self.is_head_done:
            msg = f"The reply's head is longer than {MAX_HEAD_BYTES:,} bytes."
            raise ResponseTooLarge(msg)
        if self.is_done:
            self.keeps_alive = False
        else:
            self.feed(rest)

    def _read_heads(self, problem: str | None) -> None:
        """Read the head, and pass over interim ones (100 to 199) before it."""
        # After an objection only the heads of complete messages are sound.
        while problem is None or len(self._ends) > self._interims:
            head = self._head
            end = head.find(b"\r\n\r\n")
            if head and head[0] != _FIRST:
                # llhttp passes over blank lines.
                raise _invalid(_BLANK)
            if end < 0:
                return
            text = head[:end].decode("latin-1")
            status = _status_of(text)
            if status >= 200:  # noqa: PLR2004 - no interim reply
                self._note_head(status, text)
                self._tail = head[end + 4 :]
                return
            if status == 101 or _FRAMING.search(head, 0, end):  # noqa: PLR2004
                raise _invalid(_UPGRADE)
            self._interims += 1
            self._head = head[end + 4 :]

    def _note_head(self, status: int, head: str) -> None:
        self.is_head_done = True
        self.status = status
        self.head = head
        names = head.lower()
        self.headers = Headers(head, names)
        self._head = b""
        self._is_coded = "\r\ncontent-encoding:" in names
        self._is_chunked = "\r\ntransfer-encoding:" in names
        if self._is_chunked:
            if self.headers["transfer-encoding"].lower() != "chunked":
                raise _invalid(_NOT_CHUNKED)
        elif "\r\ncontent-length:" not in names:
            self._is_close_delimited = status not in _NO_BODY

    def _note_tail(self, pieces: list[bytes], data: bytes | None) -> None:
        """Keep what came after the last piece of the body: there trailers may stand.

        Args:
            pieces: Those that *data* brought.
            data: What was fed, None if it began with the head.
        """
        is_done = len(self._ends) > self._interims
        count = self._ends[self._interims][1] if is_done else len(pieces)
        # llhttp hands out empty pieces too.
        last = next((piece for piece in reversed(pieces[:count]) if piece), b"")
        if data is not None:
            self._tail = data if last else self._tail + data
        if last:
            # The first place where it may stand: rather too much than too little.
            _, _, self._tail = self._tail.partition(last)

    def _finish(self, pieces: list[bytes], problem: str | None) -> None:
        """Note the end of the reply; what follows in the same bytes answers nothing we sent."""
        self.is_done = True
        may_keep, count = self._ends[self._interims]
        begun = next(self._ticks) - self._first_tick - 1
        self.keeps_alive = may_keep and problem is None and begun == self._interims + 1
        del pieces[count:]
        has_trailers = self._is_chunked and not self._tail.endswith(_NO_TRAILERS)
        if has_trailers and _FRAMING.search(self._tail):
            raise _invalid(_TRAILER)

    def _keep(self, pieces: list[bytes]) -> int:
        """Move the pieces of the body to the rest of it; return their bytes."""
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._body.append(piece)
        self._body_bytes += len(piece)
        if self._body_bytes > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        return len(piece)

    def _count_framing(self, fed: int, body: int) -> None:
        """Refuse what is more framing than body: chunk extensions, trailers."""
        self._framing_bytes += fed - body
        self._bare_bytes = 0 if body else self._bare_bytes + fed
        allowed = MAX_HEAD_BYTES + MAX_FRAMING_RATIO * self._body_bytes
        if self._bare_bytes > MAX_HEAD_BYTES or self._framing_bytes > allowed:
            msg = "The reply's chunk extensions or trailers are too long."
            raise ResponseTooLarge(msg)

    def on_message_complete(self) -> None:
        """Note whether the connection may be used again, and the pieces of body so far."""
        # Only told inside this callback.
        self._ends.append((self._parser.should_keep_alive(), len(self._pieces)))


_FIRST = ord("H")
_FIRST_LINE = re.compile(r"HTTP/1\.[01] [1-5][0-9][0-9](?: [\t\x20-\x7e\x80-\xff]*)?(?:\r\n|\Z)")
_USUAL_LINE = "HTTP/1.1 200 OK\r\n"
_FEW_HEADERS_CHARS = len("a:\r\n") * MAX_HEADERS
_NO_TRAILERS = b"\r\n0\r\n\r\n"
_FRAMING = re.compile(rb"\r\n(?:content-length|transfer-encoding):", re.IGNORECASE)
_TRAILER = "its trailers say how long it is"
_BLANK = "it begins with a blank line"
_NOT_CHUNKED = "its transfer-encoding is not chunked"
_UPGRADE = "it wants to change the protocol"


def _invalid(problem: str) -> ResponseError:
    msg = f"The reply is not valid HTTP: {problem}."
    return ResponseError(msg)


def _status_of(head: str) -> int:
    """Return the status in a head that llhttp accepted."""
    if head.startswith(_USUAL_LINE) and len(head) < _FEW_HEADERS_CHARS:
        return 200
    if not _FIRST_LINE.match(head):
        problem = f"status {head[9:12]} of {head[:8]}"
        if re.match(r"HTTP/1\.[01] [1-5]", head):
            # llhttp lets them pass.
            problem = "its first line holds a control character"
        raise _invalid(problem)
    if head.count("\r\n") > MAX_HEADERS:
        problem = f"it has more than {MAX_HEADERS} headers"
        raise _invalid(problem)
    return int(head[9:12])
