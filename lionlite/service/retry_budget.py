"""How many retries a service may send in all, so that an outage is not made worse.

Holds: `RetryBudget`, a balance that answers fill and retries empty. Does not
hold: whether one call may be tried again (retry.py). Safe to share between
threads.

Source: the Google SRE book, chapter 21 (client retry budget of 10 %).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from lionlite.locks import ProcessLock

if TYPE_CHECKING:
    from collections.abc import Callable

RESERVE: Final = 10.0
"""Retries that a service may send before anything was answered."""

PER_ANSWER: Final = 0.1
"""Retries that each answer allows: 10 % more load, whatever the provider does."""

PER_SECOND: Final = 0.1
"""Retries that time allows, so that a lone script outlives an outage too."""


class RetryBudget:
    """The retries of one service; a 429 is waited for and costs nothing here.

    Args:
        clock: Seconds.

    Threads: safe to share.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Guards the two below; held for arithmetic only.
        self._lock = ProcessLock()
        self._balance = RESERVE
        self._seen_s = clock()

    def answered(self) -> None:
        """Note that the provider answered."""
        # A healthy service is at its reserve, and takes no lock.
        if self._balance < RESERVE:
            with self._lock.inner:
                self._balance = min(RESERVE, self._balance + PER_ANSWER)

    def take(self) -> bool:
        """Take one retry if there is one left; say whether there was."""
        with self._lock.inner:
            now_s = self._clock()
            earned = (now_s - self._seen_s) * PER_SECOND
            self._seen_s = now_s
            self._balance = min(RESERVE, self._balance + earned)
            if self._balance < 1:
                return False
            self._balance -= 1
            return True
