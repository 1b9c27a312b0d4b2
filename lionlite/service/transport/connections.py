"""The connections of one service: the last one given back is the next one used.

Holds: taking, giving back, ageing and closing connections. Does not hold:
HTTP. Sharing one connection pool between threads is what makes clients slow
and lose calls; here a thread takes a connection for itself.
"""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING

from lionlite.service.transport.connect import Origin, connect
from lionlite.service.transport.exchange import Connection

if TYPE_CHECKING:
    from lionlite.service.transport.exchange import Milestones
    from lionlite.service.transport.parse import RawReply

MAX_IDLE_S = 55.0
"""Common servers and balancers close after 60 s or more; being first avoids the race."""


class Connections:
    """Keep-alive connections to one origin.

    Args:
        origin: Where to connect.

    Threads: safe to share. deque.append and deque.pop are atomic, so there is
    no lock. After a fork the child starts with none of the parent's.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
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
        connection = self._take() or Connection(connect(self._origin))
        try:
            return connection.exchange(request, milestones)
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Close what is idle, and what is in use once it is given back."""
        self._is_closed = True
        _close_all(self._idle)

    def _take(self) -> Connection | None:
        """Return an idle connection that the server has not closed, or None."""
        if self._pid != os.getpid():  # pragma: no cover - only in forked children
            self._start_anew()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if not self._is_too_old(connection) and not connection.is_stale():
                return connection
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        if not connection.keeps_alive or self._is_closed:
            connection.close()
            return
        self._idle.append(connection)
        self._reap()
        if self._is_closed:
            _close_all(self._idle)

    def _is_too_old(self, connection: Connection) -> bool:
        return time.monotonic() - connection.idle_since_s > MAX_IDLE_S

    def _reap(self) -> None:
        """Close the longest idle one if it is too old; one a call keeps up."""
        try:
            oldest = self._idle.popleft()
        except IndexError:  # pragma: no cover - another thread was quicker
            return
        if self._is_too_old(oldest):
            oldest.close()
        else:
            self._idle.appendleft(oldest)

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
