"""What a process does while its store is down, if it was told to go on.

Holds: `Alone`: a share of the limits, in memory, until the store answers;
`Fallback`, which says when; and `Place`, one call in the share. Does not hold:
who waits, and the permits of max_concurrency= (line.py): they are the same
whether the store is up or not. The share: the limit divided by the processes
that were last seen, nothing at all for the first interval, and of long
intervals only what was left. If the others still reach the store, they do not
know of it. Safe to share between threads, but for a place, which its call has.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lionlite.exceptions import BudgetError
from lionlite.limits.alarm import Alarm
from lionlite.limits.entries import Entry
from lionlite.limits.limiter import RateLimiter
from lionlite.limits.rates import Limits, Rate
from lionlite.limits.reservation import Reservation
from lionlite.limits.stores.till import FULL_US, LEAST_TRIP_S
from lionlite.locks import ProcessLock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lionlite.limits.stores.till import Till

RETRY_S: Final = 1.0
"""How often to ask whether the store is back."""

RETRY_WITHIN_S: Final = 0.5
"""How long the call that asks may have to wait for it."""


class Fallback:
    """Whether this process is alone with its share.

    Args:
        till: What is known of the budget.
        is_wanted: Whether it may be; else a store that is down is an error.

    Attributes:
        alone: What grants while the store is down, None while it is up.

    Threads: safe to share.
    """

    def __init__(self, till: Till, *, is_wanted: bool) -> None:
        self.alone: Alone | None = None
        self._till = till
        self._is_wanted = is_wanted
        # Guards the change from shared to alone and back. Held for no trip.
        self._lock = ProcessLock()

    def look(self, left_s: float) -> Alone | None:
        """Return what grants now, after asking for the store if it is time to.

        Args:
            left_s: Seconds that the call has left which looks.

        Raises:
            ConfigError: The budget has other limits there.

        Threads: one at a time asks, for half a second at most; others do not wait.
        """
        alone = self.alone
        if alone is None or not alone.is_store_back(left_s):
            return alone
        with self._lock.inner:
            if self.alone is alone:
                self.alone = None
        alone.end()
        return None

    def begins(self, error: BudgetError) -> bool:
        """Whether *error* means that the store is down and we go on without it."""
        if type(error) is not BudgetError or not self._is_wanted:
            return False
        with self._lock.inner:
            if self.alone is not None:
                return True
            shares = shares_of(self._till)
            if shares is not None:
                self.alone = Alone(self._till, shares)
        return shares is not None


class Alone:
    """A share of a budget.

    Args:
        till: What is known of the budget.
        shares: See `shares_of`.

    Attributes:
        limiter: Grants the share.

    Threads: safe to share.
    """

    def __init__(self, till: Till, shares: Limits) -> None:
        self._till = till
        self.limiter = RateLimiter(shares, charge=till.terms.charge)
        brief = [one.interval_us for one in till.terms.rates if one.interval_us <= FULL_US]
        self.limiter.pause(max(brief, default=0) / 1e6)
        self._next_try_s = time.monotonic() + RETRY_S
        self._owed: list[int] = []
        # Held by the one thread that asks whether the store is back.
        self._trying = threading.Lock()

    @property
    def try_in_s(self) -> float:
        """Seconds until the store may be asked for."""
        return max(0.0, self._next_try_s - time.monotonic())

    def is_store_back(self, left_s: float) -> bool:
        """Ask for the store, if it is time to and nobody does; if it is back, `end`.

        The store is then charged with what was used meanwhile.
        """
        if self.try_in_s > 0 or self._trying.locked():
            return False
        with self._trying:
            # Two may have come so far, and the other was first.
            if self.try_in_s > 0:
                return False
            # Now, so that nobody stays awake for it meanwhile, and after it again.
            self._next_try_s = time.monotonic() + RETRY_S
            self._owed = self._used()
            try:
                self._till.enter(owed=self._owed, within_s=_within_s(left_s))
            except BudgetError:
                self._next_try_s = time.monotonic() + RETRY_S
                return False
        return True

    def refuse_hopeless(self, costs: Mapping[str, int], left_s: float) -> None:
        """Raise if *costs* cannot fit within *left_s*, whatever happens; see `Place.ask`."""
        place = Place(self, costs, Alarm())
        try:
            place.ask(left_s)
        finally:
            place.leave()

    def end(self) -> None:
        """Refuse who asks here from now on with BudgetClosed: he finds the store again."""
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


class Place:
    """One call in the share: it waits there, and holds what it is granted.

    Args:
        alone: Whose share.
        costs: What it needs.
        alarm: What wakes its thread.

    Attributes:
        alone: See above.
        reservation: To be used once it is granted.

    Threads: one at a time.
    """

    __slots__ = ("_desk", "_entry", "_has_joined", "alone", "reservation")

    def __init__(self, alone: Alone, costs: Mapping[str, int], alarm: Alarm) -> None:
        self.alone = alone
        self._desk = alone.limiter.desk
        self._entry = Entry(costs)
        self._entry.alarm = alarm
        self._has_joined = False
        self.reservation = Reservation(self._desk, self._entry)

    @property
    def is_granted(self) -> bool:
        """Whether it has its capacity."""
        return self._entry.is_granted

    def try_now(self) -> bool:
        """Take the capacity if there is any now; say whether it was taken."""
        return self._desk.attempt(self._entry)

    def ask(self, left_s: float) -> float:
        """Wait in the share.

        Args:
            left_s: Seconds until the call's deadline, infinite without one.

        Returns:
            Seconds after which to ask again if nothing rings, negative once
            it is granted.

        Raises:
            BudgetClosed: The share has ended, or the limiter was closed.
            BudgetTimeout: It would be granted too late even at best.
            RequestTooLarge: It can never fit into the share.
        """
        if not self._has_joined:
            self._desk.join(self._entry, left_s)
            self._has_joined = True
        nap_s = self._desk.nap_s(self._entry)
        if nap_s is not None:
            return nap_s
        if self._entry.failure is not None:
            raise self._entry.failure
        return -1.0

    def leave(self) -> None:
        """Wait no longer, or give back what was granted and never used."""
        self._desk.leave(self._entry)


def _within_s(left_s: float) -> float:
    return min(RETRY_WITHIN_S, max(left_s, LEAST_TRIP_S))


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
