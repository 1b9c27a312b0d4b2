"""What a process does while its store is down, if it was told to go on.

Holds: `Alone`: a share of the limits, in memory, until the store answers. Does
not hold: the decision (shared.py). The share: the limit divided by the
processes that were last seen, nothing at all for the first interval, and of
long intervals only what was left. If the others still reach the store, they
do not know of it. Safe to share between threads.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lionlite.exceptions import BudgetError
from lionlite.limits.limiter import RateLimiter
from lionlite.limits.rates import Limits, Rate
from lionlite.limits.stores.till import FULL_US

if TYPE_CHECKING:
    from lionlite.limits.stores.till import Till

RETRY_S: Final = 1.0
"""How often to ask whether the store is back."""

RETRY_WITHIN_S: Final = 0.5
"""How long the call that asks may have to wait for it."""


class Alone:
    """A share of a budget.

    Args:
        till: What is known of the budget.
        shares: See `shares_of`.
        max_concurrency: As given to the shared limiter.

    Attributes:
        limiter: Grants the share.

    Threads: safe to share.
    """

    def __init__(self, till: Till, shares: Limits, max_concurrency: int | None) -> None:
        self._till = till
        self.limiter = RateLimiter(
            shares, charge=till.terms.charge, max_concurrency=max_concurrency
        )
        brief = [one.interval_us for one in till.terms.rates if one.interval_us <= FULL_US]
        self.limiter.pause(max(brief, default=0) / 1e6)
        self._next_try_s = time.monotonic() + RETRY_S
        self._owed: list[int] = []
        # Held by the one thread that asks whether the store is back; never waited for.
        self._trying = threading.Lock()

    def is_store_due(self) -> bool:
        """Whether it is time to ask for the store, and nobody does; then `rejoin`."""
        if time.monotonic() < self._next_try_s:
            return False
        return self._trying.acquire(blocking=False)

    def rejoin(self) -> None:
        """Charge the store with what was used meanwhile; then `end`.

        Raises:
            BudgetError: The store is still down.
        """
        self._owed = self._used()
        try:
            self._till.enter(owed=self._owed, within_s=RETRY_WITHIN_S)
        finally:
            self._next_try_s = time.monotonic() + RETRY_S
            self._trying.release()

    def end(self) -> None:
        """Refuse whoever waits here with BudgetClosed: he finds the store again."""
        self.limiter.close()
        # What was granted while the store was told.
        more = [now - told for now, told in zip(self._used(), self._owed, strict=True)]
        if any(units > 0 for units in more):
            with suppress(BudgetError):
                self._till.enter(owed=[max(0, units) for units in more])

    def _used(self) -> list[int]:
        dimensions = self.limiter.stats().dimensions
        used = {
            (name, rate.interval_s): rate.used
            for name, one in dimensions.items()
            for rate in one.rates
        }
        return [
            used.get((one.dimension, one.interval_us / 1e6), 0) for one in self._till.terms.rates
        ]


def shares_of(till: Till) -> Limits | None:
    """Return this process's share of the limits, None if there is none.

    There is none where the store was never reached, so that nobody knows how
    many processes there are, or where a share is less than one unit.
    """
    processes = till.seen.processes
    if not processes:
        return None
    shares: Limits = {}
    used = zip(till.terms.rates, till.seen.used, strict=True)
    for rate, units in used:
        left = rate.limit - (units if rate.interval_us > FULL_US else 0)
        if left < processes:
            return None
        one = Rate(left // processes, rate.interval_us / 1e6)
        shares[rate.dimension] = (*shares.get(rate.dimension, ()), one)
    return shares
