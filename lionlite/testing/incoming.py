"""Requests read from a connection, one after the other.

Holds: finding where a head and a body end, and the caps on both. Does not
hold: sockets' lives or threads (server.py), or the grammar of a head
(message.py). The head is read by hand: the standard library's http.server
spends more on its mail parser than a whole exchange costs here. A reader
belongs to one connection and its thread.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lionlite.testing.message import BadHeadError, Head, HttpReply, HttpRequest, parse_head

if TYPE_CHECKING:
    import socket

_CHUNK = 65_536
_MAX_HEAD = 65_536
_MAX_BODY = 64 * 1024 * 1024  # more than any provider takes; bounds our memory


class RefusedError(Exception):
    """The request cannot be read; carries the status to say so with."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.reply = HttpReply(status, f"{why}\n".encode(), "text/plain", after="close")


class Requests:
    """Reads one request after the other from a connection.

    Attributes:
        client_port: The client's end of the connection.
        arrival_s: When the first bytes of the last request were read, on
            `time.monotonic`.
    """

    def __init__(self, connection: socket.socket, client_port: int) -> None:
        self._connection = connection
        self.client_port = client_port
        self.arrival_s = 0.0
        self._unread = bytearray()

    def next_head(self) -> Head | None:
        """Return the head of the next request, or None when the client has gone.

        Raises:
            RefusedError: It is not a request that can be answered.
        """
        if not self._unread and not self._fill():
            return None
        # The instant that every window is judged by: as early as Python sees
        # the request, before its body is read, decoded or counted.
        self.arrival_s = time.monotonic()
        raw = self._read_head()
        if raw is None:
            return None
        try:
            return parse_head(raw)
        except BadHeadError as exc:
            raise RefusedError(400, str(exc)) from None

    def rest_of(self, head: Head) -> HttpRequest | None:
        """Return the request that *head* begins, or None when the client has gone.

        Raises:
            RefusedError: Its body cannot be read.
        """
        body = self._read_body(_body_length(head))
        if body is None:
            return None
        return HttpRequest(head, body, self.arrival_s, self.client_port)

    def _read_head(self) -> bytes | None:
        while (end := self._unread.find(b"\r\n\r\n")) < 0:
            if len(self._unread) > _MAX_HEAD:
                raise RefusedError(431, "the head is too large")
            if not self._fill():
                return None
        return self._take(end, skip=4)

    def _read_body(self, length: int) -> bytes | None:
        while len(self._unread) < length:
            if not self._fill():
                return None
        return self._take(length)

    def _fill(self) -> bool:
        received = self._connection.recv(_CHUNK)
        self._unread += received
        return bool(received)

    def _take(self, length: int, *, skip: int = 0) -> bytes:
        taken = bytes(self._unread[:length])
        del self._unread[: length + skip]
        return taken


def _body_length(head: Head) -> int:
    if "transfer-encoding" in head.headers:
        raise RefusedError(411, "send a Content-Length; this server takes no chunked body")
    text = head.headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise RefusedError(400, "Content-Length is not a number")
    # 19 digits hold any length that exists; int() of 5,000 digits would raise.
    if len(text.lstrip("0")) > 19 or int(text) > _MAX_BODY:  # noqa: PLR2004
        raise RefusedError(413, "the body is too large")
    return int(text)
