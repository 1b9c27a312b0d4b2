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
    """One call in the line, and then the holder of its permit.

    Attributes:
        alarm: What wakes its thread.
        failure: Why it will never be granted, None if it may be.
        has_asked: Whether the store may know of it.
        has_waited: Whether it was not granted at once.
        free_in_s: Seconds until there is room, as the store said last.
    """

    __slots__ = (
        "_joined_s",
        "_left_s",
        "alarm",
        "failure",
        "free_in_s",
        "has_asked",
        "has_waited",
    )

    def __init__(self) -> None:
        self.alarm = Alarm()
        self.failure: LionError | None = None
        self.has_asked = False
        self.has_waited = False
        self.free_in_s = 0.0
        self._joined_s = time.monotonic()
        self._left_s: float | None = None

    @property
    def waited_s(self) -> float:
        """Seconds in the line until now, or until it left."""
        return (self._left_s or time.monotonic()) - self._joined_s

    def stop_waiting(self) -> None:
        """Let `waited_s` stand still."""
        self._left_s = time.monotonic()


class Line:
    """First come, first served.

    Args:
        max_concurrency: Calls granted and not ended at one time, None for any.

    Attributes:
        granted: Calls granted so far.
        waited_s: Seconds that all calls together have waited.

    Threads: safe to share; no method blocks. Ctrl-C may cut any method short;
    `leave` and `end` may be called again and do then what is left to do.
    """

    def __init__(self, max_concurrency: int | None) -> None:
        self._most = max_concurrency
        # Guards everything below and the waiters' fields. Alarms are rung under it.
        self._lock = threading.Lock()
        self._queue: deque[Waiter] = deque()
        # Who holds a permit: the calls under way, and the first when it may ask.
        self._live: set[Waiter] = set()
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
            return len(self._live.difference(self._queue))

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
            if waiter not in self._live and not self._has_permit():
                waiter.has_waited = True
                return False
            self._live.add(waiter)
            return True

    def told_to_wait(self, waiter: Waiter, free_in_s: float) -> None:
        """Note what the store said."""
        with self._lock:
            waiter.has_waited = True
            waiter.free_in_s = free_in_s

    def leave(self, waiter: Waiter, *, is_granted: bool) -> None:
        """Let *waiter* go, and the next one ask.

        Its permit stays with it if it was granted, and goes back otherwise.
        """
        with self._lock:
            if not is_granted:
                self._live.discard(waiter)
            is_here = waiter in self._queue
            # A second time, after Ctrl-C, it is not, and perhaps nobody was rung.
            is_next = not is_here or self._queue[0] is waiter
            if is_here:
                waiter.stop_waiting()
                self.granted += is_granted
                self.waited_s += waiter.waited_s if waiter.has_waited else 0.0
                self._queue.remove(waiter)
            if is_next:
                self._ring_first()

    def try_permit(self, waiter: Waiter) -> bool:
        """Take a permit for a call that does not wait, if there is one to spare.

        There is none that one who waits is about to take.

        Raises:
            BudgetClosed: The line is closed.
        """
        with self._lock:
            if self._is_closed:
                raise refusals.closed()
            is_first_served = bool(self._queue) and self._queue[0] in self._live
            if not self._has_permit(len(self._queue) - is_first_served):
                return False
            self._live.add(waiter)
            return True

    def note_grant(self) -> None:
        """Count a grant to a call that did not wait."""
        with self._lock:
            self.granted += 1

    def end(self, waiter: Waiter, *, is_news: bool) -> None:
        """Give the permit of *waiter* back.

        Args:
            waiter: Granted before.
            is_news: Whether there may now be room for the first.
        """
        with self._lock:
            self._live.discard(waiter)
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

    def _has_permit(self, ahead: int = 0) -> bool:
        return self._most is None or len(self._live) + ahead < self._most

    def _ring_first(self) -> None:
        if self._queue:
            self._queue[0].alarm.ring()
