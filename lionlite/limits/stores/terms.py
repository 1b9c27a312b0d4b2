"""What all members of a shared budget have agreed on.

Holds: `SharedRate` and `Terms`: limits, charge and guard, in the integers that
the stores compute with. Does not hold: any account (book.py). Frozen, so safe
to share between threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from lionlite.exceptions import ConfigError
from lionlite.limits.accounts import checked_charge
from lionlite.limits.rates import Limits, Rate, distinct, is_requests, limit
from lionlite.limits.stores.slots import width_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SHORTEST_GUARD_US: Final = 20_000
_LONGEST_GUARD_US: Final = 100_000
# The same bounds as those of limits/accounts.py, which has their reasons.

MOST_UNITS: Final = 10**15
"""Largest limit of a shared rate: Redis counts in doubles, exact up to 2^53."""

_MUCH: Final = 10**12
"""So much usage of one call is believed, whatever the limit."""


@attrs.frozen
class SharedRate:
    """One rate of one dimension.

    Attributes:
        dimension: "requests", "tokens" and so on.
        limit: Units allowed in any window.
        interval_us: Length of the window, in microseconds.
        width_us: Width of a slot, in microseconds.
        is_on_arrival: Whether the server charges it when the request arrives,
            rather than when the reply is complete.
    """

    dimension: str
    limit: int
    interval_us: int
    width_us: int
    is_on_arrival: bool


@attrs.frozen
class Terms:
    """What one budget is like; members with other terms are refused.

    Attributes:
        rates: All rates, by dimension and interval.
        charge: What the server charges; see `Accounts`.
        guard_us: How long after the end of the sending a request may still be
            on its way, before any widening, in microseconds.
    """

    rates: tuple[SharedRate, ...]
    charge: str
    guard_us: int

    @property
    def text(self) -> str:
        """The terms in words; equal words, equal terms."""
        rates = "; ".join(f"{rate.dimension} {_words(rate)}" for rate in self.rates)
        return f"{rates or 'no limits'}; charge {self.charge!r}"

    @property
    def shortest_us(self) -> int:
        """The shortest interval, 0 without rates."""
        return min((rate.interval_us for rate in self.rates), default=0)

    @property
    def longest_us(self) -> int:
        """The longest interval, 0 without rates."""
        return max((rate.interval_us for rate in self.rates), default=0)

    def costs(self, costs: Mapping[str, int]) -> tuple[int, ...]:
        """Return what each rate counts of *costs*."""
        return tuple(costs.get(rate.dimension, 0) for rate in self.rates)

    def usage(self, actual: Mapping[str, int]) -> tuple[int, ...]:
        """Return what each rate counts of what a reply says was used.

        -1 where it says nothing, or what no server can mean: a reply is input
        from outside. What is far above the limit is cut: it blocks as long.
        """
        return tuple(_sane(actual.get(rate.dimension), rate.limit) for rate in self.rates)

    def too_large(self, costs: Mapping[str, int]) -> tuple[str, Rate] | None:
        """Return the dimension and the rate that *costs* can never fit, or None."""
        for rate in self.rates:
            if costs.get(rate.dimension, 0) > rate.limit:
                return rate.dimension, Rate(rate.limit, rate.interval_us / 1e6)
        return None


def terms_of(limits: Mapping[str, Sequence[Rate]], charge: str) -> Terms:
    """Return the terms for *limits* and *charge*.

    Raises:
        ConfigError: One of them is out of range.
    """
    checked_charge(charge)
    rates = tuple(
        _shared(dimension, rate, charge)
        for dimension, several in sorted(checked_limits(limits).items())
        for rate in several
    )
    shortest_us = min((rate.interval_us for rate in rates), default=0)
    guard_us = min(max(shortest_us // 100, _SHORTEST_GUARD_US), _LONGEST_GUARD_US)
    return Terms(rates, charge, guard_us)


def checked_limits(limits: Mapping[str, Sequence[Rate]]) -> Limits:
    """Return *limits* with every rate checked and in order.

    Raises:
        ConfigError: A rate is out of range or has another's interval.
    """
    return {
        dimension: distinct(
            [_checked(rate, f"limits[{dimension!r}]") for rate in rates],
            name=f"limits[{dimension!r}]",
        )
        for dimension, rates in limits.items()
    }


def _checked(rate: Rate, name: str) -> Rate:
    if not isinstance(rate, Rate):
        msg = f"{name} takes rates, see limit() and parse_limits(); got {rate!r}."
        raise ConfigError(msg)
    return limit(min(rate.limit, MOST_UNITS), rate.interval_s, name=name)


def _shared(dimension: str, rate: Rate, charge: str) -> SharedRate:
    interval_us = -(-rate.interval_ns // 1000)
    return SharedRate(
        dimension=dimension,
        limit=rate.limit,
        interval_us=interval_us,
        width_us=width_of(interval_us),
        is_on_arrival=charge != "usage" or is_requests(dimension),
    )


def _sane(used: object, most: int) -> int:
    if not isinstance(used, int) or isinstance(used, bool) or used < 0:
        return -1
    return min(used, max(2 * most, _MUCH))


def _words(rate: SharedRate) -> str:
    return str(Rate(rate.limit, rate.interval_us / 1e6))
