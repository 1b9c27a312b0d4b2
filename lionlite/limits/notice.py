"""One warning of a wait that a person would wonder about.

Holds: `Notice`. Does not hold: the waiting (limiter.py, stores/desk.py), or
why it takes long (refusals.py). A notice belongs to the thread that waits.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from lionlite.scope import Scope

LONG_WAIT_S: Final = 10.0
"""A program that prints nothing for longer looks as if it hung."""

_logger = logging.getLogger("lionlite")


class Notice:
    """Warns once of one wait, when it has become long.

    A call that is part of a run does not warn: the run's progress shows it.

    Args:
        scope: Of the call that waits, from now on.
        say: What it waits for, as a sentence; called when it is to be said.
    """

    __slots__ = ("_due_at_s", "_say")

    def __init__(self, scope: Scope, say: Callable[[], str]) -> None:
        self._due_at_s = math.inf if scope.work is not None else time.monotonic() + LONG_WAIT_S
        self._say = say

    def due_in_s(self) -> float:
        """Return the seconds until it is to be looked at again; warn if that is now."""
        left_s = self._due_at_s - time.monotonic()
        if left_s > 0:
            return left_s
        self._due_at_s = math.inf
        _logger.warning("A call has waited %.0f s for the budget. %s", LONG_WAIT_S, self._say())
        return math.inf
