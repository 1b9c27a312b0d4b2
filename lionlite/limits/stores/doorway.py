"""Who is at work with a file, so that a fork can wait until nobody is.

Holds: `Doorway` and the hooks around `os.fork`. Does not hold: connections.
SQLite must not be carried through a fork: its locks belong to the process, and
the child would take the parent's for its own. So a fork waits for those
inside, and closes everything before.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATIENCE_S: Final = 6.0
"""How long a fork waits: longer than any trip lasts. A signal handler that
forks may have interrupted the very thread that is inside."""


class Doorway:
    """Lets threads in, and shuts for a fork.

    Args:
        empty: Closes what is open; called when nobody is inside.

    Threads: safe to share.
    """

    def __init__(self, empty: Callable[[], None]) -> None:
        self._empty = weakref.WeakMethod(empty)
        # Guards _inside and _is_shut.
        self._changed = threading.Condition()
        self._inside = 0
        self._is_shut = False
        with _doorways_lock:
            _doorways.add(self)

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Be inside; waits while a fork is under way."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_shut)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def shut(self) -> None:
        """Let nobody in, wait until nobody is inside, and empty the room."""
        with self._changed:
            self._is_shut = True
            self._changed.wait_for(lambda: self._inside == 0, _PATIENCE_S)
        empty = self._empty()
        if empty is not None:
            empty()

    def open(self) -> None:
        """Let everyone in again, in the parent of a fork."""
        with self._changed:
            self._is_shut = False
            self._changed.notify_all()

    def renew(self) -> None:  # pragma: no cover - only in forked children
        """Become the doorway of a forked child, where no other thread lives."""
        self._changed = threading.Condition()
        self._inside = 0
        self._is_shut = False


_doorways: weakref.WeakSet[Doorway] = weakref.WeakSet()
# Guards _doorways.
_doorways_lock = threading.Lock()


def _all() -> list[Doorway]:
    with _doorways_lock:
        return list(_doorways)


def _before() -> None:
    for doorway in _all():
        doorway.shut()


def _after_in_parent() -> None:
    for doorway in _all():
        doorway.open()


def _after_in_child() -> None:  # pragma: no cover - only in forked children
    global _doorways_lock  # noqa: PLW0603 - the old lock may be held by a thread of the parent
    _doorways_lock = threading.Lock()
    for doorway in _all():
        doorway.renew()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
