"""What no budget can mean is refused at once, with the argument's name and the cure."""

from __future__ import annotations

from collections import OrderedDict, UserDict
from enum import StrEnum
from types import MappingProxyType

import pytest

from lionlite.exceptions import ConfigError
from lionlite.limits.limiter import RateLimiter
from lionlite.limits.rates import Rate

CHARGES = ["estimate", "adjust", "usage"]


def tokens(n, **more):
    return RateLimiter({"tokens": [Rate(n, 60)]}, **more)


@pytest.mark.parametrize("charge", CHARGES)
@pytest.mark.parametrize("ask", [RateLimiter.reserve, RateLimiter.try_reserve])
@pytest.mark.parametrize(
    "costs", [5, None, "ab", ["tokens"], [("tokens", 5)], {1: 1}, {None: 1}, {"tokens": 1, 2: 1}]
)
def test_costs_that_are_no_units_by_dimension_are_refused(charge, ask, costs):
    limiter = tokens(10, charge=charge)

    with pytest.raises(ConfigError, match=r'costs takes ints .* such as \{"requests": 1'):
        ask(limiter, costs)

    assert (limiter.stats().in_flight, limiter.stats().waiting) == (0, 0)


class Dimension(StrEnum):
    TOKENS = "tokens"


@pytest.mark.parametrize(
    "kind", [dict, OrderedDict, UserDict, lambda pairs: MappingProxyType(dict(pairs))]
)
@pytest.mark.parametrize("dimension", ["tokens", Dimension.TOKENS])
def test_any_mapping_will_do(kind, dimension):
    limiter = tokens(10)

    limiter.reserve(kind([(dimension, 4)]))

    assert limiter.stats().dimensions["tokens"].used == 4


@pytest.mark.parametrize("actual", [5, 0, "tokens", [("tokens", 4)], []])
def test_usage_that_is_no_mapping_is_refused(actual):
    limiter = tokens(10, charge="adjust")
    reservation = limiter.reserve({"tokens": 10})
    reservation.sent()

    with pytest.raises(ConfigError, match="actual takes a mapping of units by dimension, or None"):
        reservation.settle(actual)

    reservation.settle({"tokens": 4})
    assert limiter.stats().dimensions["tokens"].used == 4


@pytest.mark.parametrize("charge", CHARGES)
def test_usage_of_what_is_no_dimension_is_dropped(charge):
    """It ended the call halfway: the reply is input from outside."""
    limiter = tokens(10, charge=charge)
    reservation = limiter.reserve({"tokens": 10})
    reservation.sent()

    reservation.settle({1: 5, "tokens": 10})

    assert (limiter.stats().in_flight, limiter.stats().dimensions["tokens"].used) == (0, 10)


@pytest.mark.parametrize("rates", [None, 5, Rate(5, 60), "5/minute", iter([Rate(5, 60)])])
def test_rates_that_are_no_list_are_refused(rates):
    limiter = tokens(10)

    with pytest.raises(ConfigError, match=r"limits\['tokens'\] takes .*see .*parse_limits\(\)"):
        limiter.set_rates("tokens", rates)

    assert limiter.stats().dimensions["tokens"].limit == 10
