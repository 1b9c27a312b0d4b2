"""One turn at a time: the lock of a branch.

Holds: `TurnLock`: a line with one place, which refuses a turn inside of a turn.
Does not hold: what a line is (line.py), nor what happens in a turn. Safe to
share between threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lionlite.exceptions import ConfigError
from lionlite.line import Line

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class TurnLock(Line):
    """Lets one turn at a time through, first come first served.

    Threads: safe to share. After a fork the child finds it free.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(1, phase="turn")

    def turn(self) -> AbstractContextManager[None]:
        """Hold the turn inside the `with`.

        Entering raises DeadlineExceeded if the turn was not free before the
        deadline, and Cancelled if the scope was cancelled.

        Raises:
            ConfigError: The running code is inside a turn of this lock already.
        """
        if self.is_held_here():
            msg = (
                "This branch is in the middle of a turn, and the chat comes from within it: "
                "use another branch, session.new_branch(), or remember=False."
            )
            raise ConfigError(msg)
        return self.place()
