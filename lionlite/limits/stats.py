"""What a limiter is doing, as values.

Holds: `RateStats`, `DimensionStats`, `LimiterStats`. Does not hold: the
numbers' making (ledger.py, budget.py). Frozen, so safe to share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from lionlite.limits.entries import UNKNOWN

if TYPE_CHECKING:
    from lionlite.limits.budget import Budget


@attrs.frozen
class RateStats:
    """One rate now.

    Attributes:
        limit: Units allowed in any window of *interval_s*.
        interval_s: Length of the window, in seconds.
        used: Units that count now; above *limit* only by debt.
        remaining: Units left, >= 0.
    """

    limit: int
    interval_s: float
    used: int
    remaining: int


@attrs.frozen
class DimensionStats:
    """One dimension now, as its tightest rate has it.

    Attributes:
        limit: Units allowed in any window of *interval_s*.
        interval_s: Length of that window, in seconds.
        used: Units that count now; above *limit* only by debt.
        remaining: Units left, >= 0.
        rates: All rates, the shortest interval first.
    """

    limit: int
    interval_s: float
    used: int
    remaining: int
    rates: tuple[RateStats, ...]


@attrs.frozen
class LimiterStats:
    """A limiter at one instant.

    Attributes:
        dimensions: The limited ones, by name.
        waiting: Calls in the queue.
        in_flight: Calls granted and not ended.
        next_grant_in_s: Seconds until the first in the queue is granted if
            nothing else happens: 0.0 when nobody waits, None when that
            depends on calls in flight.
        waited_s: Seconds that all calls together have waited, in whole.
        granted: Calls granted, in whole.
        guard_s: Seconds that a request is taken to need at most to arrive.
        paused_for_s: Seconds left of the pause after a 429, 0.0 without one.
    """

    dimensions: dict[str, DimensionStats]
    waiting: int
    in_flight: int
    next_grant_in_s: float | None
    waited_s: float
    granted: int
    guard_s: float
    paused_for_s: float


def stats_of(budget: Budget) -> LimiterStats:
    """Return the statistics of *budget*; the caller holds its lock."""
    ledger = budget.ledger
    now = ledger.tick()
    next_at = budget.head_at if budget.queue else now
    return LimiterStats(
        dimensions={name: _dimension(budget, name) for name in ledger.limits},
        waiting=len(budget.queue),
        in_flight=len(ledger.live),
        next_grant_in_s=None if next_at >= UNKNOWN else max(0, next_at - now) / 1e9,
        waited_s=budget.waited_ns / 1e9,
        granted=budget.granted,
        guard_s=ledger.guard_ns / 1e9,
        paused_for_s=max(0, budget.gate.paused_until - now) / 1e9,
    )


def _dimension(budget: Budget, name: str) -> DimensionStats:
    rates = tuple(
        _rate(window.limits[name], window.interval_ns, window.used[name])
        for window in budget.ledger.windows
        if name in window.limits
    )
    tightest = min(rates, key=lambda rate: rate.remaining / rate.limit)
    return DimensionStats(
        tightest.limit, tightest.interval_s, tightest.used, tightest.remaining, rates
    )


def _rate(limit: int, interval_ns: int, used: int) -> RateStats:
    return RateStats(limit, interval_ns / 1e9, used, max(0, limit - used))
