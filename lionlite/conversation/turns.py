"""One turn at a time: the lock of a branch.

Holds: `TurnLock`, whose waits end with the scope, and which knows whether the
running code is inside its turn. Does not hold: what happens in a turn. Safe to
share between threads.
"""

from __future__ import annotations

import os
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

from lionlite import scope
from lionlite.exceptions import ConfigError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType


class TurnLock:
    """Lets one turn at a time through, first come first served.

    Threads: safe to share. After a fork the child finds it free.
    """

    def __init__(self) -> None:
        # One line a process: the threads in the parent's do not exist in the
        # child, and one of them may hold its lock for ever.
        self._lines: dict[int, _Line] = {}

    def turn(self) -> AbstractContextManager[None]:
        """Hold the turn inside the `with`.

        Entering raises DeadlineExceeded if the turn was not free before the
        deadline, and Cancelled if the scope was cancelled.

        Raises:
            ConfigError: The running code is inside a turn of this lock already.
        """
        pid = os.getpid()
        # setdefault is one step of the interpreter: two threads get one line.
        line = self._lines.get(pid) or self._lines.setdefault(pid, _Line(pid))
        if line.is_held_here():
            msg = (
                "This branch is in the middle of a turn, and the chat comes from within it: "
                "use another branch, session.new_branch(), or remember=False."
            )
            raise ConfigError(msg)
        return _Turn(line)


class _Line:
    """The turns of one lock in one process; the first is the one under way."""

    __slots__ = ("lock", "pid", "turns")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        # Guards turns; held for a few instructions only, never during a turn.
        self.lock = threading.Lock()
        self.turns: list[_Turn] = []

    def is_held_here(self) -> bool:
        """Whether the running code is part of the turn under way."""
        with self.lock:
            return bool(self.turns) and self.turns[0] in _held.get()


class _Turn:
    """One turn, from its place in the line to its end.

    Ctrl-C may come between any two steps: standing in the line is all the
    state there is, and `_leave` may be called at any time, and twice.
    """

    __slots__ = ("_line", "_woken")

    def __init__(self, line: _Line) -> None:
        self._line = line
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
        scope.current().check("turn")
        with self._line.lock:
            if self._line.turns:
                self._woken = threading.Event()
            self._line.turns.append(self)
        if self._woken is not None:
            self._wait(self._woken)
        _held.set(_held.get() | {self})

    def _wait(self, woken: threading.Event) -> None:
        here = scope.current()
        with here.woken_by(woken.set):
            while self._line.turns[0] is not self:
                here.check("turn")
                woken.wait(min(here.left_s, threading.TIMEOUT_MAX))

    def _surely_leave(self) -> None:
        try:
            self._leave()
        except BaseException:
            # Ctrl-C cut it short, and others wait for the turn.
            self._leave()
            raise

    def _leave(self) -> None:
        _held.set(_held.get() - {self})
        line = self._line
        if line.pid != os.getpid():
            # Forked during the turn: this line is the parent's.
            return
        with line.lock:
            if self in line.turns:
                line.turns.remove(self)
            following = line.turns[0] if line.turns else None
        if following is not None and following._woken is not None:  # noqa: SLF001
            following._woken.set()  # noqa: SLF001


# The turns that the running code is part of. A context variable and not the
# thread's name: a tool may run in a pool, with a copy of this context. The copy
# may outlive the turn, so a turn counts only while it is under way.
_held: ContextVar[frozenset[_Turn]] = ContextVar("lionlite_turns", default=frozenset())
