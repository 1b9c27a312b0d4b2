"""Standing in line: so many at the same time, first come first served.

Holds: `Line`, and `Pace`, which lets one through every so many seconds. Does
not hold: who stands there and why (conversation/, calls/decorators/). Safe to
share between threads; a forked child finds the line empty and keeps the pace.
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

    There is no lock: to append to a list, to remove from it and to cut a slice
    are each one step of the interpreter. Whoever comes looks whether it must
    wait after it has appended itself; whoever goes wakes those inside after it
    has removed itself: of the two, one sees the other.
    """

    __slots__ = ("_by_process", "_limit", "_phase")

    def __init__(self, limit: int, *, phase: str) -> None:
        self._limit = limit
        self._phase = phase
        # Places by process, the first *limit* are inside: the threads that
        # stand in the parent's line do not exist in a child.
        self._by_process: dict[int, list[_Place]] = {}

    def place(self) -> AbstractContextManager[None]:
        """Hold a place inside the `with`, waiting for it first.

        Entering raises DeadlineExceeded if there was none before the deadline,
        and Cancelled if the scope was cancelled.
        """
        pid = os.getpid()
        return _Place(self._places_in(pid), self._limit, self._phase, pid)

    def is_held_here(self) -> bool:
        """Whether the running code is part of work that holds a place.

        In threads that carry its context too, and only while it is held.
        """
        held = _held.get()
        if not held:
            return False
        return not frozenset(held).isdisjoint(self._places_in(os.getpid())[: self._limit])

    @property
    def length(self) -> int:
        """How many stand here now, inside or waiting."""
        return len(self._places_in(os.getpid()))

    def _places_in(self, pid: int) -> list[_Place]:
        # setdefault is one step of the interpreter: two threads get one list.
        return self._by_process.get(pid) or self._by_process.setdefault(pid, [])


class _Place:
    """One place in a line, from its end to the way out.

    Ctrl-C may come between any two steps: standing in the line is all the
    state there is, and `_leave` may be called at any time, and twice.
    """

    __slots__ = ("_limit", "_phase", "_pid", "_places", "_woken")

    def __init__(self, places: list[_Place], limit: int, phase: str, pid: int) -> None:
        self._places = places
        self._limit = limit
        self._phase = phase
        self._pid = pid
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

    @property
    def _is_inside(self) -> bool:
        return self in self._places[: self._limit]

    def _take(self) -> None:
        here, places = scope.current(), self._places
        here.check(self._phase)
        places.append(self)
        if len(places) > self._limit:
            self._wait(here)
        held = _held.get()
        # Those that were left in another context are still among them.
        _held.set((*(one for one in held if one._is_inside), self) if held else (self,))  # noqa: SLF001

    def _wait(self, here: scope.Scope) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        longest_s = PULSE_S if is_main else threading.TIMEOUT_MAX
        self._woken = woken = threading.Event()
        with here.woken_by(woken.set):
            while not self._is_inside:
                here.check(self._phase)
                woken.wait(min(here.left_s, longest_s))
        # Inside: whoever leaves need not wake it again.
        self._woken = None

    def _surely_leave(self) -> None:
        try:
            self._leave()
        except BaseException:
            # Ctrl-C cut it short, and others wait for the place.
            self._leave()
            raise

    def _leave(self) -> None:
        held = _held.get()
        if self in held:
            _held.set(tuple([one for one in held if one is not self]))
        if self._pid != os.getpid():
            # Forked inside: this line is the parent's.
            return
        places = self._places
        if self in places:
            places.remove(self)
        # Who came in by this is among them. Not the last one alone: of two that
        # leave at once, each may see what both have done.
        for one in places[: self._limit]:
            woken = one._woken  # noqa: SLF001
            if woken is not None:
                woken.set()


# The places that the running code holds. A context variable and not the
# thread's name: the work may go on in other threads, with a copy of this
# context. The copy may outlive the place, so it counts only while it is held.
_held: ContextVar[tuple[_Place, ...]] = ContextVar("lionlite_places", default=())


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
