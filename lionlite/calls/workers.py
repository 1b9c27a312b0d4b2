"""How many threads a run has when it is not told: as many as its chats can use.

Holds: `Crowd`, the `scope.Work` of a run with `max_workers="auto"`, which
counts the chats that wait, and the bounds. Does not hold: the threads
themselves (pool.py), nor what is remembered of items (item.py).
Safe to share between threads.

The rule: a thread that waits for a reply costs nothing, so it does not count.
Beside those, a run has `QUIET` threads, as `ThreadPoolExecutor` would have.
While any chat waits for the budget, one thread more would only wait as well,
so none is started. All runs of a process together have at most `most_threads()`
such threads; each has its first `QUIET` in any case, so nested runs go on.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from lionlite.locks import ProcessLock

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from collections.abc import Callable

    from lionlite.records import CallRecord
    from lionlite.scope import RememberedChat, Waiting, Work

# What ThreadPoolExecutor starts, for functions that do something else than chat.
QUIET = min(32, (os.cpu_count() or 1) + 4)
# A thread in a chat costs about 60 KiB and one socket. Beyond this, one process
# spends its time on switching between them (benchmarks/auto.py).
MOST_THREADS = 1_024


def most_threads() -> int:
    """Return how many threads all runs that choose for themselves may have together.

    Each may hold a socket, so a quarter of the files that the process may open
    are left to everybody else.
    """
    if sys.platform == "win32":  # pragma: no cover - has no such limit
        return MOST_THREADS
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MOST_THREADS
    return max(QUIET, min(MOST_THREADS, files - files // 4))


class _Census:
    """The threads of all crowds of the process."""

    def __init__(self) -> None:
        # Guards `threads`, for two instructions.
        self.lock = ProcessLock()
        self.threads = 0

    def add(self, number: int) -> None:
        with self.lock.inner:
            self.threads += number


_census = _Census()


class Crowd:
    """What the chats of one run are waiting for, and whether a thread more is of use.

    Args:
        outer: The work around the run, which is told everything too.

    Threads: safe anywhere.
    """

    def __init__(self, outer: Work | None) -> None:
        self._outer = outer
        self._most = most_threads()
        self._pid = os.getpid()
        # Guards the two counts, for a few instructions.
        self._lock = ProcessLock()
        self._at_budget = 0
        self._at_reply = 0
        # Starts a thread if one is wanted. None outside of the run: the pool
        # holds this crowd, and a cycle would keep items until the collector comes.
        self.grow: Callable[[], None] | None = None

    def admits(self, running: int) -> bool:
        """Return whether a thread more, beside *running*, is of use.

        Threads: asked under the pool's lock; takes none.
        """
        if self._at_budget:
            return False
        return running < QUIET or (
            running - self._at_reply < QUIET and _census.threads < self._most
        )

    def arrived(self) -> None:
        """Note that a thread took up work. Called under the pool's lock."""
        _census.add(1)

    def left(self) -> None:
        """Note that a thread has nothing to do. Called under the pool's lock."""
        _census.add(-1)

    @property
    def remembers(self) -> bool:
        """Whether the work around keeps finished chats."""
        return self._outer is not None and self._outer.remembers

    def chat(self, request: bytes) -> RememberedChat:
        """Return what the work around remembers of this chat.

        Raises:
            LookupError: There is none: ask `remembers` first.
        """
        if self._outer is None:
            msg = "No chat of this run is remembered."
            raise LookupError(msg)
        return self._outer.chat(request)

    def waits(self, what: Waiting) -> None:
        """Count the chat; if it waits for its reply, another thread may start."""
        self._count(what, 1)
        if self._outer is not None:
            self._outer.waits(what)
        # Not in a forked child: the threads of the run are not there, and
        # whoever held their locks is not either.
        if what == "reply" and self.grow is not None and os.getpid() == self._pid:
            self.grow()

    def goes_on(self, what: Waiting) -> None:
        """Count the chat no more."""
        self._count(what, -1)
        if self._outer is not None:
            self._outer.goes_on(what)

    def ended(self, record: CallRecord) -> None:
        """Tell the work around."""
        if self._outer is not None:
            self._outer.ended(record)

    def _count(self, what: Waiting, number: int) -> None:
        with self._lock.inner:
            if what == "budget":
                self._at_budget += number
            else:
                self._at_reply += number


def _after_fork_in_child() -> None:
    # No thread of a run lives here.
    _census.threads = 0


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
