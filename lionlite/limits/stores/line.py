"""The threads of one process that wait for a shared budget, first come, first served.

Holds: `Line`: the queue, of which only the first asks the store, and the
permits of `max_concurrency=`. Does not hold: asking (shared.py), or any I/O:
its lock is held for a few instructions. Safe to share between threads.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from lionlite.limits import refusals
from lionlite.limits.alarm import Alarm

if TYPE_CHECKING:
    from collections.abc import Callable

    from lionlite.exceptions import LionError


class Waiter:
    """One thread in the line.

    Attributes:
        alarm: What wakes it.
        failure: Why it will never be granted, None if it may be.
        joined_s: When it came, on `time.monotonic`.
        has_waited: Whether it was not granted at once.
        has_permit: Whether it holds one of the permits.
        free_in_s: Seconds until there is room, as the store said last.
    """

    __slots__ = ("alarm", "failure", "free_in_s", "has_permit", "has_waited", "joined_s")

    def __init__(self) -> None:
        self.alarm = Alarm()
        self.failure: LionError | None = None
        self.joined_s = time.monotonic()
        self.has_waited = False
        self.has_permit = False
        self.free_in_s = 0.0

    @property
    def waited_s(self) -> float:
        """Seconds since it came."""
        return time.monotonic() - self.joined_s


class Line:
    """First come, first served.

    Args:
        max_concurrency: Calls granted and not ended at one time, None for any.

    Attributes:
        granted: Calls granted so far.
        waited_s: Seconds that all calls together have waited.

    Threads: safe to share; no method blocks.
    """

    def __init__(self, max_concurrency: int | None) -> None:
        self._most = max_concurrency
        # Guards everything below and the waiters' fields. Alarms are rung under it.
        self._lock = threading.Lock()
        self._queue: deque[Waiter] = deque()
        self._live = 0
        self._is_closed = False
        self.granted = 0
        self.waited_s = 0.0

    @property
    def waiting(self) -> int:
        """Threads in the line."""
        return len(self._queue)

    @property
    def in_flight(self) -> int:
        """Calls granted and not ended."""
        with self._lock:
            return self._live - sum(one.has_permit for one in self._queue)

    @property
    def free_in_s(self) -> float | None:
        """Seconds until the first is granted, as the store said last; 0.0 if nobody waits."""
        with self._lock:
            return self._queue[0].free_in_s or None if self._queue else 0.0

    def join(self, waiter: Waiter) -> bool:
        """Put *waiter* at the end; say whether the first is known to wait.

        Raises:
            BudgetClosed: The line is closed.
        """
        with self._lock:
            if self._is_closed:
                raise refusals.closed()
            waiter.has_waited = bool(self._queue)
            self._queue.append(waiter)
            return self._queue[0].has_waited

    def is_turn_of(self, waiter: Waiter) -> bool:
        """Whether *waiter* may ask the store; it then holds a permit."""
        with self._lock:
            if not self._queue or self._queue[0] is not waiter:
                return False
            if not waiter.has_permit and self._has_permit():
                waiter.has_permit = True
                self._live += 1
            waiter.has_waited |= not waiter.has_permit
            return waiter.has_permit

    def told_to_wait(self, waiter: Waiter, free_in_s: float) -> None:
        """Note what the store said."""
        with self._lock:
            waiter.has_waited = True
            waiter.free_in_s = free_in_s

    def leave(self, waiter: Waiter, *, is_granted: bool) -> float:
        """Let *waiter* go, and the next one ask; return the seconds it waited.

        Its permit goes with the grant, or back.
        """
        with self._lock:
            was_first = self._queue[0] is waiter
            self._queue.remove(waiter)
            if waiter.has_permit and not is_granted:
                self._live -= 1
            waiter.has_permit = False
            self.granted += is_granted
            waited_s = waiter.waited_s if waiter.has_waited else 0.0
            self.waited_s += waited_s
            if was_first:
                self._ring_first()
            return waited_s

    def try_permit(self) -> bool:
        """Take a permit for a call that does not wait, if there is one.

        Raises:
            BudgetClosed: The line is closed.
        """
        with self._lock:
            if self._is_closed:
                raise refusals.closed()
            if not self._has_permit():
                return False
            self._live += 1
            return True

    def note_grant(self) -> None:
        """Count a grant to a call that did not wait."""
        with self._lock:
            self.granted += 1

    def end(self, *, is_news: bool) -> None:
        """Give a permit back.

        Args:
            is_news: Whether there may now be room for the first.
        """
        with self._lock:
            self._live -= 1
            if is_news or self._most is not None:
                self._ring_first()

    def close(self) -> None:
        """Refuse everyone from now on; all who wait get BudgetClosed."""
        with self._lock:
            self._is_closed = True
            for waiter in self._queue:
                waiter.failure = refusals.closed(waiter.waited_s)
                waiter.alarm.ring()

    def fail(self, failure_of: Callable[[], LionError]) -> None:
        """End the waiting of all who wait now, each with an error of its own."""
        with self._lock:
            for waiter in self._queue:
                waiter.failure = waiter.failure or failure_of()
                waiter.alarm.ring()

    def _has_permit(self) -> bool:
        return self._most is None or self._live < self._most

    def _ring_first(self) -> None:
        if self._queue:
            self._queue[0].alarm.ring()
