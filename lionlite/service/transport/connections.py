"""The connections of one service: the last one given back is the next one used.

Holds: taking, giving back, ageing and closing connections. Does not hold:
HTTP. Sharing one connection pool between threads is what makes clients slow
and lose calls; here a thread takes a connection for itself.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from typing import TYPE_CHECKING

from lionlite.exceptions import ResponseError
from lionlite.service.transport.connect import connect
from lionlite.service.transport.exchange import Connection
from lionlite.service.transport.streamed import OpenReply

if TYPE_CHECKING:
    from collections.abc import Callable

    from lionlite.service.transport.connect import Origin
    from lionlite.service.transport.exchange import Milestones
    from lionlite.service.transport.link import Carrier
    from lionlite.service.transport.parse import RawReply

MAX_IDLE_S = 55.0
"""Common servers and balancers close after 60 s or more; being first avoids the race."""


class Rest:
    """The rest of a reply that was begun, and where its connection belongs.

    Args:
        pool: Gets the connection back.
        connection: Has begun a reply.
    """

    def __init__(self, pool: Connections, connection: Connection) -> None:
        self.more = connection.more
        self._pool = pool
        self._connection = connection

    def release(self) -> None:
        """Give the connection back."""
        self._pool.give_back(self._connection)

    abandon = release


class Connections:
    """Keep-alive connections to one origin.

    Args:
        origin: Where to connect.
        dial: Makes a connection there; None = directly.
        max_idle: The most connections kept; None = all that were needed at once.

    Threads: safe to share. deque.append and deque.pop are atomic, so there is
    no lock. After a fork the child starts with none of the parent's.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        dial: Callable[[], Carrier] | None = None,
        max_idle: int | None = None,
    ) -> None:
        self._max_idle = max_idle
        self._dial = dial or (lambda: connect(origin))
        self._idle: deque[Connection] = deque()
        self._pid = os.getpid()
        self._is_closed = False
        # A service that nobody closed gives its sockets back when it is dropped.
        weakref.finalize(self, _close_all, self._idle)

    @property
    def idle_count(self) -> int:
        """Connections that wait to be used."""
        return len(self._idle)

    def exchange(self, request: memoryview, milestones: Milestones) -> RawReply:
        """Send *request* over an idle or a new connection and return the reply.

        Raises:
            ConnectionFailed: Not reached, or the connection broke.
            ResponseError: The reply is not HTTP, or past a cap.
            DeadlineExceeded: The scope's deadline passed.
            Cancelled: The scope was cancelled.
        """
        connection = self.take()
        try:
            return connection.exchange(request, milestones)
        except ResponseError as error:
            # The frames below hold what was received, which may echo the key.
            error.__traceback__ = None
            raise
        finally:
            self.give_back(connection)

    def open(
        self, request: memoryview, milestones: Milestones, *, idle_s: float | None = None
    ) -> OpenReply:
        """Send *request* and return the reply once its head is complete.

        Args:
            request: Head and body.
            milestones: Told how far it is.
            idle_s: Seconds that may pass without any byte of the reply, from
                the end of sending on; None = the deadlines alone bound it.

        Raises:
            LionError: As `exchange`.
        """
        connection = self.take()
        try:
            connection.begin(request, milestones, idle_s=idle_s)
            parser = connection.parser
            return OpenReply(parser.status, parser.headers, Rest(self, connection))
        except BaseException as error:
            connection.close()
            if isinstance(error, ResponseError):
                error.__traceback__ = None
            raise

    def close(self) -> None:
        """Close what is idle, and what is in use once it is given back."""
        self._is_closed = True
        _close_all(self._idle)

    def take(self) -> Connection:
        """Return a connection for the caller alone, who must give it back.

        It is the last one given back that the server has not closed, or a new one.

        Raises:
            LionError: As `connect`.
        """
        if self._pid != os.getpid():  # pragma: no cover - only in forked children
            self._start_anew()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if not connection.is_stale(MAX_IDLE_S):
                return connection
            connection.close()
        return Connection(self._dial())

    def give_back(self, connection: Connection) -> None:
        """Keep *connection* if it may be used again, else close it; it is not the caller's now.

        Takes no lock of ours, so that garbage collection may call it.
        """
        if not connection.keeps_alive or self._is_closed:
            connection.close()
            return
        idle = self._idle
        idle.append(connection)
        if len(idle) > 1:
            self._reap()
        if self._is_closed:
            _close_all(idle)

    def _reap(self) -> None:
        """Close the longest idle ones if they are too old or too many; two a call keep up."""
        for _ in range(2):
            try:
                oldest = self._idle.popleft()
            except IndexError:  # pragma: no cover - another thread was quicker
                return
            is_one_too_many = self._max_idle is not None and len(self._idle) >= self._max_idle
            if not is_one_too_many and not oldest.is_idle_for(MAX_IDLE_S):
                self._idle.appendleft(oldest)
                return
            oldest.close()

    def _start_anew(self) -> None:  # pragma: no cover - only in forked children
        # Closing drops the child's descriptors only: nothing goes on the wire,
        # and a reply to the parent can no longer reach the child. The pid comes
        # last: until all are closed, no other thread may take one.
        _close_all(self._idle)
        self._pid = os.getpid()


def _close_all(idle: deque[Connection]) -> None:
    while True:
        try:
            idle.pop().close()
        except IndexError:
            return
