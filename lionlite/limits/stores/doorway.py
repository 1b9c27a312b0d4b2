"""Who is at work with a file, so that a fork can wait until nobody is.

Holds: `Doorway` and the hooks around `os.fork`. Does not hold: connections.
SQLite must not be carried through a fork: its locks belong to the process, and
the child would take the parent's for its own. So a fork waits for those
inside, and closes everything before; and forks take turns, or the end of one
would let threads in before the other. Safe to share between threads.

No lock is held by those who pass, and nobody waits for a bell: what a signal
handler raises may come at every step, and must leave nothing behind.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_PATIENCE_S: Final = 6.0
"""How long a fork waits: longer than any trip lasts. A signal handler that
forks may have interrupted the very thread that is inside."""

_LONGEST_S: Final = 15.0
"""How long a fork keeps others out, and another fork waiting: longer than it
waits itself. If a signal cut its last hook short, it ends so."""

_LOOK_S: Final = 0.0005
"""How often who waits looks again; a trip takes 0.3 ms, a fork some ms."""


class Doorway:
    """Lets threads in, but not while a fork is under way.

    Args:
        empty: Closes what is open; called when nobody is inside.

    Threads: safe to share.
    """

    def __init__(self, empty: Callable[[], None]) -> None:
        self._empty = weakref.WeakMethod(empty)
        # One token for each who is inside; set.add and set.discard are atomic.
        self._inside: set[object] = set()
        with _doorways_lock:
            _doorways.add(self)

    def within(self, work: Callable[[], T], until_s: float) -> T:
        """Do *work* inside, and return what it returns.

        Args:
            work: What to do.
            until_s: When to give up waiting for a fork, on `time.monotonic`.

        Raises:
            TimeoutError: A fork is under way for too long.
        """
        token = object()
        try:
            self._enter(token, until_s)
            return work()
        finally:
            # Not a `with` of our own: a signal could come before its last step.
            self._inside.discard(token)

    def _enter(self, token: object, until_s: float) -> None:
        while True:
            # Who enters is inside before he looks for a fork, and a fork is under
            # way before it looks who is inside: of the two, one sees the other.
            self._inside.add(token)
            if not _is_fork_under_way():
                return
            self._inside.discard(token)
            if time.monotonic() >= until_s:
                msg = "a fork of this process takes too long"
                raise TimeoutError(msg)
            time.sleep(_LOOK_S)

    def clear(self, until_s: float) -> None:
        """Wait until nobody is inside, *until_s* at most, and empty the room."""
        while self._inside and time.monotonic() < until_s:
            time.sleep(_LOOK_S)
        empty = self._empty()
        if empty is not None:
            empty()

    def renew(self) -> None:  # pragma: no cover - only in forked children
        """Become the doorway of a forked child, where no other thread lives."""
        self._inside = set()


_doorways: weakref.WeakSet[Doorway] = weakref.WeakSet()
# Guards _doorways.
_doorways_lock = threading.Lock()
# Held by the thread that forks, from before to after; reentrant, as a signal
# handler may fork meanwhile.
_turn = threading.RLock()
# Until when nobody is let in, on `time.monotonic`; 0.0 if nobody forks.
_shut_until_s = 0.0


def _is_fork_under_way() -> bool:
    return _shut_until_s > 0 and time.monotonic() < _shut_until_s


def _all() -> list[Doorway]:
    with _doorways_lock:
        return list(_doorways)


def _before() -> None:
    global _shut_until_s  # noqa: PLW0603 - one state of the process
    _turn.acquire(timeout=_LONGEST_S)
    now_s = time.monotonic()
    _shut_until_s = now_s + _LONGEST_S
    for doorway in _all():
        doorway.clear(now_s + _PATIENCE_S)


def _after_in_parent() -> None:
    global _shut_until_s  # noqa: PLW0603 - as above
    _shut_until_s = 0.0
    with suppress(RuntimeError):  # the turn did not come in time
        _turn.release()


def _after_in_child() -> None:  # pragma: no cover - only in forked children
    # The old locks may be held by threads of the parent.
    global _doorways_lock, _turn, _shut_until_s  # noqa: PLW0603
    _doorways_lock = threading.Lock()
    _turn = threading.RLock()
    _shut_until_s = 0.0
    for doorway in _all():
        doorway.renew()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
