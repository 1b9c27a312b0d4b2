"""One request and its reply over one connected socket.

Holds: sending, receiving, each step cut to the time left. Does not hold: the
choice of a connection (connections.py), or retries. A connection belongs to
one thread at a time.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Protocol

from lionlite import scope
from lionlite.exceptions import ConnectionFailed
from lionlite.service.transport.connect import cut_on_cancel
from lionlite.service.transport.parse import MAX_BODY_BYTES, RawReply, ReplyParser

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

RECEIVE_BYTES = 64 * 1024

MAX_STEP_S = 1_000_000.0
"""Longest wait of one step; sockets refuse timeouts of 2^31 ms (25 days) and more."""


class Milestones(Protocol):
    """Who wants to know how far an exchange is; called in its thread."""

    def sent(self) -> None:
        """The last byte of the request left."""

    def replied(self) -> None:
        """The first byte of the reply arrived."""


class Connection:
    """One connected socket, used for one exchange after the other.

    Args:
        sock: Connected, after the TLS handshake if any; owned from now on.
        max_body_bytes: Cap on a reply's body.

    Threads: one at a time.
    """

    def __init__(self, sock: socket.socket, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._sock = sock
        self._max_body_bytes = max_body_bytes
        self.keeps_alive = False
        self.idle_since_s = time.monotonic()

    def is_stale(self) -> bool:
        """Whether the server closed it, or said something unasked, while idle."""
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        return bool(poller.poll(0))

    def exchange(self, request: memoryview, milestones: Milestones) -> RawReply:
        """Send *request* and return the reply.

        Afterwards the connection may be used again only if `keeps_alive`.

        Raises:
            ConnectionFailed: The connection broke.
            ResponseError: The reply is not HTTP, or past a cap.
            DeadlineExceeded: The scope's deadline passed.
            Cancelled: The scope was cancelled.
        """
        self.keeps_alive = False
        parser = ReplyParser(max_body_bytes=self._max_body_bytes)
        with cut_on_cancel(self._sock):
            try:
                failure = self._send(request)
            finally:
                # A request cut half way may have arrived: it counts.
                milestones.sent()
            for data in self._received():
                if not parser.has_begun:
                    milestones.replied()
                parser.feed(data)
                if parser.is_done:
                    break
            else:
                if failure is not None and not parser.has_begun:
                    raise failure
                parser.feed_end()
        self.keeps_alive = parser.keeps_alive
        self.idle_since_s = time.monotonic()
        return parser.reply()

    def close(self) -> None:
        """Give the socket back to the system; nothing is sent."""
        self._sock.close()

    def _send(self, request: memoryview) -> ConnectionFailed | None:
        """Send all of *request*; return the failure if the server stopped taking it.

        It is not raised yet: a server that refuses a request (too large, bad
        key) may answer and close before it has read everything.
        """
        # A loop over send: SSLSocket.sendall takes its timeout once a record.
        while request:
            self._bound("send")
            try:
                count = self._sock.send(request)
            except (BrokenPipeError, ConnectionResetError) as exc:
                return _broken(exc, "send")
            except OSError as exc:
                raise _broken(exc, "send") from exc
            request = request[count:]
        return None

    def _received(self) -> Iterator[bytes]:
        while True:
            self._bound("read")
            try:
                data = self._sock.recv(RECEIVE_BYTES)
            except OSError as exc:
                raise _broken(exc, "read") from exc
            if not data:
                scope.current().check("read")
                return
            yield data

    def _bound(self, phase: str) -> None:
        """Let the next step on the socket take no longer than is left."""
        here = scope.current()
        here.check(phase)
        self._sock.settimeout(min(max(here.left_s, 0.001), MAX_STEP_S))


def _broken(exc: OSError, phase: str) -> ConnectionFailed:
    """Return the error for a broken socket, unless the scope ended it.

    The cause loses its traceback: a frame of ssl.py holds the request's bytes,
    and with them the key.
    """
    exc.with_traceback(None)
    scope.current().check(phase)
    if isinstance(exc, TimeoutError):
        raise scope.too_late(phase) from None
    return ConnectionFailed(f"The connection broke during {phase}: {exc.strerror or exc}.")
