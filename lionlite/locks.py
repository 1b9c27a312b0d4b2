"""A lock that a forked child finds free.

Holds: `ProcessLock`. Does not hold: what it guards, which its owner says. For
arithmetic of a few instructions: a thread that forks must not hold it.
"""

from __future__ import annotations

import os
import threading
import weakref


class ProcessLock:
    """A lock of the threads of one process.

    A fork copies a lock as it is: held for ever, if a thread that does not
    exist in the child held it. So each process takes a lock of its own.

    Attributes:
        inner: The lock of this process, for `with guard.inner:`; never to be
            kept. A `with` of our own would stay held if a signal came between
            its first step and the lock's.

    Threads: made for them; not reentrant.
    """

    __slots__ = ("__weakref__", "inner")

    def __init__(self) -> None:
        self.inner = threading.Lock()
        _live.add(self)

    def renew(self) -> None:
        """Be free, whoever held it; only for a child that has one thread yet."""
        self.inner = threading.Lock()


_live: weakref.WeakSet[ProcessLock] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lock in list(_live):
        lock.renew()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
