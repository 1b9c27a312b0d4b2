"""One request and its reply over one connected socket.

Holds: sending, receiving, each step cut to the time left. Does not hold: the
choice of a connection (connections.py), what an open reply is for its reader
(streamed.py), or retries. A connection belongs to one thread at a time.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol

from lionlite import scope
from lionlite.service.transport.link import NOTHING, Link, broken, is_overdue
from lionlite.service.transport.linux import link_over
from lionlite.service.transport.parse import MAX_BODY_BYTES, RawReply, ReplyParser
from lionlite.service.transport.streamed import MAX_STREAM_BYTES, too_quiet

if TYPE_CHECKING:
    from lionlite.exceptions import ConnectionFailed
    from lionlite.service.transport.link import Carrier


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
        max_body_bytes: Cap on the body of a reply that is not streamed.

    Attributes:
        parser: Reads the replies.
        keeps_alive: Whether the last reply was read to its end and the server
            takes another request.

    Threads: one at a time.
    """

    def __init__(self, sock: Carrier, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._link = link_over(sock)
        self.parser = ReplyParser()
        self._max_body_bytes = max_body_bytes
        self._patience = Patience(scope.Scope(), None)
        self.keeps_alive = False
        self._idle_since_s = time.monotonic()

    def is_idle_for(self, seconds: float) -> bool:
        """Whether the last reply ended more than *seconds* ago."""
        return time.monotonic() - self._idle_since_s > seconds

    def is_stale(self, max_idle_s: float) -> bool:
        """Whether it idled too long, or the server closed it or said something unasked."""
        return time.monotonic() - self._idle_since_s > max_idle_s or self._link.has_news()

    def exchange(self, request: memoryview, milestones: Milestones) -> RawReply:
        """Send *request* and return the reply.

        Raises:
            ConnectionFailed: The connection broke.
            ResponseError: The reply is not HTTP, or past a cap.
            DeadlineExceeded: The scope's deadline passed.
            Cancelled: The scope was cancelled.
        """
        here, parser = scope.current(), self.parser
        self.keeps_alive = False
        parser.begin(max_body_bytes=self._max_body_bytes)
        with self._link.cut.on_cancel(here.token):
            failure = self._send(request, milestones, here)
            self._feed_first(self._receive(here), milestones, failure)
            while not parser.is_done:
                self._feed(self._receive(here))
        return parser.reply()

    def begin(self, request: memoryview, milestones: Milestones, *, idle_s: float | None) -> None:
        """Send *request* and read the reply up to the end of its head.

        Raises:
            LionError: As `send` and `read_head`.
        """
        failure = self.send(request, milestones)
        self.read_head(milestones, failure, idle_s=idle_s)

    def send(self, request: memoryview, milestones: Milestones) -> ConnectionFailed | None:
        """Send *request*; return what went wrong if a reply may still say more.

        Raises:
            ConnectionFailed: The connection broke.
            DeadlineExceeded: The scope's deadline passed.
            Cancelled: The scope was cancelled.
        """
        here = scope.current()
        self.keeps_alive = False
        with self._link.cut.on_cancel(here.token):
            return self._send(request, milestones, here)

    def read_head(
        self, milestones: Milestones, failure: ConnectionFailed | None, *, idle_s: float | None
    ) -> None:
        """Read the reply to what was sent up to the end of its head.

        Args:
            milestones: Told when it begins.
            failure: What `send` returned.
            idle_s: Seconds that may pass without any byte of the reply; None
                = the deadlines alone bound it.

        Raises:
            ConnectionFailed: The connection broke.
            ResponseError: The reply is not HTTP, or past a cap.
            DeadlineExceeded: The scope's deadline passed, or *idle_s*.
            Cancelled: The scope was cancelled.
        """
        parser = self.parser
        parser.begin(max_body_bytes=MAX_STREAM_BYTES)
        self._patience = Patience(scope.current(), idle_s)
        self._feed_first(self._patience.receive(self._link), milestones, failure)
        while not parser.is_head_done:
            self._feed(self._patience.receive(self._link))

    def more(self) -> bytes | None:
        """Return what arrived next of the reply's body, None at its end.

        Raises:
            LionError: As `read_head`; the deadline and the cancel of the current
                scope count as well as those of the scope it began in.
        """
        parser = self.parser
        while not (body := parser.take_body()):
            if parser.is_done:
                return None
            self._feed(self._patience.receive(self._link))
        return body

    def close(self) -> None:
        """Give the socket back to the system; nothing is sent."""
        self.keeps_alive = False
        self._link.close()
        self.parser.release()

    def _send(
        self, request: memoryview, milestones: Milestones, here: scope.Scope
    ) -> ConnectionFailed | None:
        """Send all of *request*; return the failure if the server stopped taking it.

        It is not raised yet: a server that refuses a request (too large, bad
        key) may answer and close before it has read everything.
        """
        here.check("send")
        try:
            self._link.send(request, here.ends_at_s)
        except (BrokenPipeError, ConnectionResetError) as exc:
            return broken(exc, "send", here)
        except OSError as exc:
            raise broken(exc, "send", here) from exc
        finally:
            # A request cut half way may have arrived: it counts.
            milestones.sent()
        return None

    def _receive(self, here: scope.Scope) -> bytes:
        try:
            data = self._link.receive(here.ends_at_s)
        except OSError as exc:
            raise broken(exc, "read", here) from exc
        if not data:
            here.check("read")
        return data

    def _feed_first(
        self, data: bytes, milestones: Milestones, failure: ConnectionFailed | None
    ) -> None:
        """Feed the first bytes of a reply; without any, a failure to send is the outcome."""
        if data:
            milestones.replied()
        elif failure is not None:
            raise failure
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        """Give the parser what arrived, b"" for the end."""
        parser = self.parser
        if data:
            parser.feed(data)
        else:
            parser.feed_end()
        if parser.is_done:
            self.keeps_alive = parser.keeps_alive
            self._idle_since_s = time.monotonic()


class Patience:
    """How long the reader of an open reply waits for its next bytes.

    Args:
        opened: The scope in which the reply was opened. The scope that is
            current at a read counts too: either may end it.
        idle_s: Seconds without any byte; None = no bound of its own.
    """

    __slots__ = ("_idle_s", "_opened")

    def __init__(self, opened: scope.Scope, idle_s: float | None) -> None:
        self._opened = opened
        self._idle_s = math.inf if idle_s is None else idle_s

    def receive(self, link: Link) -> bytes:
        """Return what arrived, b"" when the other side closed.

        Raises:
            ConnectionFailed: The connection broke.
            DeadlineExceeded: A deadline passed, or nothing came for too long.
            Cancelled: A scope was cancelled.
        """
        opened, here = self._opened, scope.current()
        if here is not opened:
            here.check("read")
        opened.check("read")
        ends_at_s = min(opened.ends_at_s, here.ends_at_s, time.monotonic() + self._idle_s)
        cut = link.cut
        also = NOTHING if here.token is opened.token else cut.on_cancel(here.token)
        with cut.on_cancel(opened.token), also:
            try:
                data = link.receive(ends_at_s)
            except OSError as exc:
                if is_overdue(exc) and time.monotonic() < min(opened.ends_at_s, here.ends_at_s):
                    raise too_quiet(self._idle_s) from None
                raise broken(exc, "read", opened, here) from exc
        if not data:
            opened.check("read")
            here.check("read")
        return data
