"""The accounting of a budget as a bucket of pyrate-limiter.

Holds: `LedgerBucket`, the one door to pyrate_limiter: it takes its rates, and
a stock `Limiter` can drive it. Does not hold: the accounting itself
(accounts.py), or the waiting: that of a stock `Limiter` polls, starves big
requests and cannot give back, so budget.py has its own. No threads, no sleep.
Not safe to share between threads by itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import pyrate_limiter

from lionlite.exceptions import ConfigError
from lionlite.limits.accounts import Accounts, listed
from lionlite.limits.entries import Entry
from lionlite.limits.rates import REQUESTS, Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MILLISECOND_NS: Final = 1_000_000


class LedgerBucket(Accounts, pyrate_limiter.AbstractBucket):
    """Accounts that count one entry per item, whatever its weight.

    Driven as a bucket, an item charges its weight to "tokens" and 1 to
    "requests"; with a single dimension, its weight to that.

    Args:
        limits: The rates of each dimension, or rates of pyrate-limiter for a
            single one.
        charge: See `Accounts`.
        clock: Seconds, never read by anyone else.

    Raises:
        ConfigError: *limits* or *charge* is not such a value.

    Threads: not safe by itself; a stock `Limiter` brings its own lock.
    """

    is_async = False

    def __init__(
        self,
        limits: Mapping[str, Sequence[Rate | pyrate_limiter.Rate]] | Sequence[pyrate_limiter.Rate],
        *,
        charge: str = "estimate",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        given = limits if isinstance(limits, Mapping) else {REQUESTS: limits}
        own = {dimension: _own(dimension, rates) for dimension, rates in given.items()}
        super().__init__(own, charge=charge, clock=clock)
        self._weighed = "tokens" if "tokens" in self.limits else next(iter(self.limits), REQUESTS)
        # Past the setter of `rates`, which refuses lists that merely hold a
        # rate that never binds, and those of two dimensions.
        self._rates = [_theirs(rate) for rate in self.limits.get(self._weighed, ())]

    def now(self) -> int:
        """Return the clock in milliseconds."""
        return self.tick() // _MILLISECOND_NS

    def put(self, item: pyrate_limiter.RateItem) -> bool:
        """Charge *item* if it fits now, as sent and arrived; say whether it did.

        Raises:
            ConfigError: Its weight is negative.
        """
        if item.weight < 0:
            msg = f"weight takes an int >= 0; got {item.weight!r}."
            raise ConfigError(msg)
        now = self.tick()
        entry = Entry(self._costs_of(item))
        due = self.due(entry.costs) if item.weight else 0
        if due > now:
            rate = self._failing(entry.costs)
            soon = min(due, now + self._longest_ns() + 1)
            wait_ms = None if self.too_large(entry.costs) else _ceil_ms(soon - now)
            return self._record(item, pyrate_limiter.Decision(rate, wait_ms))
        if item.weight:
            self.take_arrived(entry)
        return self._record(item, pyrate_limiter.Decision())

    def waiting(self, item: pyrate_limiter.RateItem) -> int:
        """Return the milliseconds until *item* fits, -1 if it never does."""
        now = self.tick()
        costs = self._costs_of(item)
        if self.too_large(costs):
            return -1
        due = self.due(costs) if item.weight else 0
        return _ceil_ms(min(due, now + self._longest_ns() + 1) - now) if due > now else 0

    def leak(self, current_timestamp: int | None = None) -> int:
        """Drop what no longer counts; return how many nodes that were.

        *current_timestamp* is not used: the ledger has its own clock.
        """
        del current_timestamp
        before = self._logged()
        self.tick()
        return before - self._logged()

    def flush(self) -> None:
        """Forget every charge."""
        self.clear()
        self.failing_rate = None
        self._last_wait = None

    def count(self) -> int:
        """Return the units that count now in the longest window."""
        return self.windows[-1].used.get(self._weighed, 0) if self.windows else 0

    def peek(self, index: int) -> pyrate_limiter.RateItem | None:
        """Return the charge that holds the *index*-th latest unit, or None."""
        for node in reversed(self.windows[-1].nodes if self.windows else []):
            weight = node.costs.get(self._weighed, 0)
            if index < weight:
                return pyrate_limiter.RateItem("lionlite", node.stamp // _MILLISECOND_NS, weight)
            index -= weight
        return None

    def _costs_of(self, item: pyrate_limiter.RateItem) -> dict[str, int]:
        return {REQUESTS: 1, self._weighed: item.weight}

    def _failing(self, costs: Mapping[str, int]) -> pyrate_limiter.Rate | None:
        for window in self.windows:
            for dimension, most in window.limits.items():
                if window.used[dimension] + costs.get(dimension, 0) > most:
                    return _theirs(Rate(most, window.interval_ns / 1e9))
        return None

    def _longest_ns(self) -> int:
        return self.windows[-1].interval_ns if self.windows else 0

    def _logged(self) -> int:
        return sum(len(window) for window in self.windows)


def _own(dimension: str, rates: Sequence[Rate | pyrate_limiter.Rate]) -> list[Rate]:
    return [
        Rate(rate.limit, rate.interval / 1000) if isinstance(rate, pyrate_limiter.Rate) else rate
        for rate in listed(rates, f"limits[{dimension!r}]")
    ]


def _theirs(rate: Rate) -> pyrate_limiter.Rate:
    return pyrate_limiter.Rate(rate.limit, max(1, rate.interval_ns // _MILLISECOND_NS))


def _ceil_ms(nanoseconds: int) -> int:
    return -(-nanoseconds // _MILLISECOND_NS)
