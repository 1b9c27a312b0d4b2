"""Standing in line: so many at the same time, first come first served.

Holds: `Line`, and `Pace`, which lets one through every so many seconds. Does
not hold: who stands there and why (cd.py, memo.py). Safe to share
between threads; a forked child finds both free.
"""

from __future__ import annotations

import os
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

from lionlite import scope

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

# How often the main thread wakes in a long wait, for Ctrl-C: a signal between
# Python's last look and the system call is seen only when the wait ends.
PULSE_S = 0.5


class Line:
    """Lets *limit* pieces of work through at the same time.

    Args:
        limit: Places, >= 1.
        phase: What waiting here is called in errors.

    Threads: safe to share. A forked child has a line of its own, empty.
    """

    def __init__(self, limit: int, *, phase: str) -> None:
        self._limit = limit
        self._phase = phase
        # One hall a process: the threads in the parent's do not exist in the
        # child, and one of them may hold its lock for ever.
        self._halls: dict[int, _Hall] = {}

    def place(self) -> AbstractContextManager[None]:
        """Hold a place inside the `with`, waiting for it first.

        Entering raises DeadlineExceeded if there was none before the deadline,
        and Cancelled if the scope was cancelled.
        """
        return _Place(self._hall(), self._phase)

    def is_held_here(self) -> bool:
        """Whether the running code is part of work that holds a place.

        In threads that carry its context too, and only while it is held.
        """
        held = _held.get()
        return bool(held) and self._hall().is_any_in(held)

    def _hall(self) -> _Hall:
        pid = os.getpid()
        # setdefault is one step of the interpreter: two threads get one hall.
        return self._halls.get(pid) or self._halls.setdefault(pid, _Hall(self._limit, pid))


class _Hall:
    """The places of one line in one process: the first *limit* are inside."""

    __slots__ = ("limit", "lock", "pid", "places")

    def __init__(self, limit: int, pid: int) -> None:
        self.limit = limit
        self.pid = pid
        # Guards places; held for a few instructions only.
        self.lock = threading.Lock()
        self.places: list[_Place] = []

    def is_any_in(self, places: frozenset[_Place]) -> bool:
        """Whether one of *places* is inside."""
        with self.lock:
            inside = self.places[: self.limit]
        return not places.isdisjoint(inside)


class _Place:
    """One place in a line, from its end to the way out.

    Ctrl-C may come between any two steps: standing in the line is all the
    state there is, and `_leave` may be called at any time, and twice.
    """

    __slots__ = ("_hall", "_phase", "_woken")

    def __init__(self, hall: _Hall, phase: str) -> None:
        self._hall = hall
        self._phase = phase
        # Made only if it has to wait.
        self._woken: threading.Event | None = None

    def __enter__(self) -> None:
        try:
            self._take()
        except BaseException:
            self._surely_leave()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._surely_leave()

    def _take(self) -> None:
        scope.current().check(self._phase)
        hall = self._hall
        with hall.lock:
            if len(hall.places) >= hall.limit:
                self._woken = threading.Event()
            hall.places.append(self)
        if self._woken is not None:
            self._wait(self._woken)
        _held.set(_held.get() | {self})

    def _wait(self, woken: threading.Event) -> None:
        here = scope.current()
        is_main = threading.current_thread() is threading.main_thread()
        longest_s = PULSE_S if is_main else threading.TIMEOUT_MAX
        alone = frozenset((self,))
        with here.woken_by(woken.set):
            while not self._hall.is_any_in(alone):
                here.check(self._phase)
                woken.wait(min(here.left_s, longest_s))

    def _surely_leave(self) -> None:
        try:
            self._leave()
        except BaseException:
            # Ctrl-C cut it short, and others wait for the place.
            self._leave()
            raise

    def _leave(self) -> None:
        _held.set(_held.get() - {self})
        hall = self._hall
        if hall.pid != os.getpid():
            # Forked inside: this hall is the parent's.
            return
        with hall.lock:
            if self in hall.places:
                hall.places.remove(self)
            # Whoever came in by this is the last one inside. To wake one that
            # was inside already is harmless.
            last = hall.places[hall.limit - 1] if len(hall.places) >= hall.limit else None
        if last is not None and last._woken is not None:  # noqa: SLF001
            last._woken.set()  # noqa: SLF001


# The places that the running code holds. A context variable and not the
# thread's name: the work may go on in other threads, with a copy of this
# context. The copy may outlive the place, so it counts only while it is held.
_held: ContextVar[frozenset[_Place]] = ContextVar("lionlite_places", default=frozenset())


class Pace:
    """Lets one piece of work start, then none for a while.

    Args:
        period_s: Seconds from one start to the next, at least.

    Threads: safe to share; first come first served.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._line = Line(1, phase="throttle")
        # Written by whoever is at the head of the line. Waiting there, and not
        # for an instant booked in advance, lets those behind move up when one
        # that waits is cancelled.
        self._free_at_s = -scope.FOREVER_S

    def wait(self) -> None:
        """Wait for the next start.

        Raises:
            DeadlineExceeded: It would not be before the deadline.
            Cancelled: The scope was or is cancelled.
        """
        with self._line.place():
            while (left_s := self._free_at_s - time.monotonic()) > 0:
                scope.sleep(left_s, phase="throttle")
            self._free_at_s = time.monotonic() + self._period_s
