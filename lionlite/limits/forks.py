"""What a fork does to the limiters of the process.

Holds: the list of live limiters and the three hooks around `os.fork`. Does
not hold: what becomes of a budget (desk.py). A fork while another thread
holds a limiter's lock would leave the child unable to reserve; so all locks
are taken before, in the order in which the limiters were made.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from lionlite.limits.desk import Desk

_PATIENCE_S: Final = 5.0
"""How long a fork waits for a lock. No lock is held for long; but a signal
handler that forks may interrupt the very thread that holds it, and a child
with freshly made locks is better than a fork that hangs."""


class Forked(Protocol):
    """What is told of forks."""

    desk: Desk
    serial: int

    def renew_after_fork(self) -> None:
        """Become the limiter of the child."""


class _Held(threading.local):
    """The locks that this thread took for its fork."""

    def __init__(self) -> None:
        self.locks: list[threading.Lock] = []


_live: weakref.WeakSet[Forked] = weakref.WeakSet()
# Guards _live. Taken before any limiter's lock, and only here.
_live_lock = threading.Lock()
_serials = itertools.count()
_held = _Held()


def watch(limiter: Forked) -> None:
    """Have *limiter* told of forks, and give it its place in the order of locking."""
    with _live_lock:
        limiter.serial = next(_serials)
        _live.add(limiter)


def _before() -> None:
    _held.locks = []
    if not _live_lock.acquire(timeout=_PATIENCE_S):
        return
    _held.locks.append(_live_lock)
    for limiter in sorted(_live, key=lambda one: one.serial):
        lock = limiter.desk.lock
        if lock.acquire(timeout=_PATIENCE_S):
            _held.locks.append(lock)


def _after_in_parent() -> None:
    for lock in reversed(_held.locks):
        lock.release()
    _held.locks = []


def _after_in_child() -> None:
    global _live_lock  # noqa: PLW0603 - the old lock may be held by a thread of the parent
    _live_lock = threading.Lock()
    _held.locks = []
    for limiter in list(_live):
        limiter.renew_after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
