"""Threads that pull the items of one mapping call from one queue.

Holds: `Pool`, which keeps items and outcomes between the calling thread and
its workers. Does not hold: what is done with an item (attempt.py), how many
threads are of use (workers.py), the input, the order of results, what an error
means for the run (engine.py).

Threads: `put`, `give`, `wait`, `wait_idle`, `close` and reading `finished`
belong to the calling thread; `shut`, `grow` and `stuck` are safe anywhere,
`shut` in signal handlers too. A worker never waits inside our code: without an
item it goes back to the executor.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import get_ident
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from lionlite.calls.attempt import Job, Outcome
    from lionlite.calls.workers import Crowd

T = TypeVar("T")
R = TypeVar("R")

# How often the main thread wakes in a long wait. Not to look for work, the bell
# does that, but for Ctrl-C: Python does not see a signal that falls between its
# last look and the system call until the wait ends (measured: 4 % of signals
# sent within 40 us of the call), and on Windows never before.
PULSE_S = 0.5


class Pool(Generic[T, R]):
    """The workers of one mapping call and what they hand to its caller.

    Workers are summoned one by one, each by the caller or by the worker before
    it: while items wait and there are fewer than *max_workers*, one worker is
    on its way, and it sends for the next before it runs its own item. So slow
    items get a thread each at once, quick ones are done by a few threads, and
    there are never more threads than items.

    Args:
        attempt: What a worker does with a job.
        max_workers: The most items that run at the same time, >= 1.
        closes: Whether an error, or None after a value, means that no new item
            may start. Called by workers; must not raise.
        is_eager: Whether `wait` ends with every outcome, or only when the
            queue runs low.
        is_watched: Whether *closes* is asked after values too.
        crowd: Asked whether a thread more is of use; None = always.
    """

    def __init__(
        self,
        attempt: Callable[[Job[T]], Outcome[R]],
        *,
        max_workers: int,
        closes: Callable[[BaseException | None], bool],
        is_eager: bool,
        is_watched: bool = False,
        crowd: Crowd | None = None,
    ) -> None:
        self._attempt = attempt
        self._max_workers = max_workers
        self._closes = closes
        self._is_eager = is_eager
        self._is_watched = is_watched
        self._crowd = crowd
        self._executor = ThreadPoolExecutor(max_workers, thread_name_prefix="lionlite")
        # Outcomes in the order in which they came. The calling thread reads
        # the head, and drops it only when it has put the outcome in its place,
        # so that a Ctrl-C between the two loses nothing.
        self.finished: deque[Outcome[R]] = deque()
        # Only ever set to True; without the lock by `shut`, since a signal
        # handler may run it while this very thread holds the lock.
        self.is_closed = False
        # Rung to wake the calling thread. A ring too many is harmless.
        self._bell: SimpleQueue[None] = SimpleQueue()
        # Guards the names below, _max_workers and appending to `finished`.
        # Held for a few instructions, never while the function, the input or
        # a destructor of an item runs.
        self._lock = threading.Lock()
        self._waiting: deque[Job[T]] = deque()
        self._running = 0
        self._is_coming = False
        self._is_awaited = False
        self._low_water = 0
        # When each worker took up its item. Written by its owner only.
        self._begun_s: dict[int, float] = {}

    def put(self, job: Job[T]) -> None:
        """Hand *job* to the workers; one takes it at once if one may.

        Raises:
            RuntimeError: There is no worker and no thread can be started.
        """
        with self._lock:
            self._waiting.append(job)
            is_short = self._is_worker_wanted()
        if is_short:
            self._summon()

    def give(self, outcome: Outcome[R]) -> None:
        """Take *outcome* of an item that no worker has to run."""
        with self._lock:
            self.finished.append(outcome)

    def grow(self) -> None:
        """Send for a worker if one more is of use.

        Threads: for threads that run items; never raises there.
        """
        with self._lock:
            is_short = self._is_worker_wanted()
        if is_short:
            self._summon()

    def is_over(self) -> bool:
        """Whether nothing runs and nothing will."""
        with self._lock:
            return self._running == 0 and (self.is_closed or not self._waiting)

    def running(self) -> int:
        """Return how many items run now. Takes no lock."""
        return self._running

    def stuck(self) -> tuple[int, float]:
        """Return how many items run, and for how many seconds the oldest of them.

        Threads: safe anywhere; takes no lock, so it may be a little wrong.
        """
        begun_s = list(self._begun_s.values())
        return len(begun_s), time.monotonic() - min(begun_s, default=time.monotonic())

    def wait(self, *, low_water: int) -> None:
        """Wait until there is something for the calling thread to do.

        That is: nothing runs any more, at most *low_water* items wait, an
        error closed the pool, `shut` was called, or (if eager) an item has
        finished. It may end early, so the caller looks again. Ctrl-C
        interrupts the wait.
        """
        with self._lock:
            self._low_water = low_water
            self._is_awaited = not self._is_caller_wanted()
            is_awaited = self._is_awaited
        if is_awaited:
            is_main = threading.current_thread() is threading.main_thread()
            with suppress(Empty):
                self._bell.get(timeout=PULSE_S if is_main else None)

    def wait_idle(self, seconds: float) -> None:
        """Wait until nothing runs any more, but not longer than *seconds*."""
        ends_at_s = time.monotonic() + seconds
        while True:
            with self._lock:
                if self._running == 0:
                    return
                self._is_awaited = True
            left_s = ends_at_s - time.monotonic()
            if left_s <= 0:
                return
            with suppress(Empty):
                self._bell.get(timeout=min(left_s, PULSE_S))

    def shut(self) -> None:
        """Start no new item, and wake the calling thread.

        Threads: safe anywhere and takes no lock.
        """
        self.is_closed = True
        self._bell.put(None)

    def close(self, *, joins: bool) -> None:
        """Start no new item, forget those that wait, give the threads back.

        Args:
            joins: Whether to wait until the threads have ended; only when
                nothing runs any more. Otherwise they end when their items do,
                and until then Python's own exit waits for them.
        """
        self.is_closed = True
        with self._lock:
            forgotten, self._waiting = self._waiting, deque()
        forgotten.clear()
        self._executor.shutdown(wait=joins)

    def _is_worker_wanted(self) -> bool:
        if self._is_coming or self._running >= self._max_workers or not self._waiting:
            return False
        if self._crowd is not None and not self._crowd.admits(self._running):
            return False
        self._is_coming = True
        return True

    def _is_caller_wanted(self) -> bool:
        return (
            len(self._waiting) <= self._low_water
            or (self._running == 0 and (self.is_closed or not self._waiting))
            or (self._is_eager and bool(self.finished))
        )

    def _summon(self) -> None:
        try:
            self._executor.submit(self._work)
        except RuntimeError as error:
            # Ctrl-C inside CPython's Condition.wait, by which a thread's start
            # is awaited, can come out as "release unlocked lock" (measured: 1
            # of 20,000 at random instants).
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            # No thread to be had, or the interpreter ends. Whoever runs an
            # item now takes the waiting ones too, and no more are asked for;
            # with nobody there, the item would wait for ever.
            with self._lock:
                self._is_coming = False
                self._max_workers = max(1, self._running)
                is_stranded = self._running == 0
            if is_stranded:
                raise

    def _work(self) -> None:
        job = self._arrive()
        if job is None:
            return
        # Here and not for each item, where they would be looked up each time.
        me, attempt, begun_s, now_s = get_ident(), self._attempt, self._begun_s, time.monotonic
        while job is not None:
            begun_s[me] = now_s()
            job = self._swap(attempt(job))

    def _arrive(self) -> Job[T] | None:
        with self._lock:
            self._is_coming = False
            # A summons that failed half-way may bring one worker too many.
            if self.is_closed or not self._waiting or self._running >= self._max_workers:
                return None
            job = self._waiting.popleft()
            self._running += 1
            if self._crowd is not None:
                self._crowd.arrived()
            is_short = self._is_worker_wanted()
            # A crowd that grows empties the queue before any item ends.
            is_ringing = self._is_awaited and self._is_caller_wanted()
            if is_ringing:
                self._is_awaited = False
        if is_ringing:
            self._bell.put(None)
        if is_short:
            self._summon()
        return job

    def _swap(self, outcome: Outcome[R]) -> Job[T] | None:
        job: Job[T] | None
        error = outcome[2]
        is_last = (error is not None or self._is_watched) and self._closes(error)
        with self._lock:
            self.finished.append(outcome)
            if is_last:
                self.is_closed = True
            if self._waiting and not self.is_closed:
                job = self._waiting.popleft()
            else:
                job = None
                self._running -= 1
                self._begun_s.pop(get_ident(), None)
                if self._crowd is not None:
                    self._crowd.left()
            is_ringing = is_last or (self._is_awaited and self._is_caller_wanted())
            if is_ringing:
                self._is_awaited = False
        if is_ringing:
            self._bell.put(None)
        return job
