"""Limits in words, and what is wrong with them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionlite.exceptions import ConfigError
from lionlite.limits.rates import Rate, limit, parse_limits

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("words", "rate"),
    [
        ("500/minute", Rate(500, 60)),
        ("10/second", Rate(10, 1)),
        ("90_000/minute", Rate(90_000, 60)),
        ("2_000_000/day", Rate(2_000_000, 86_400)),
        ("5/30s", Rate(5, 30)),
        ("5 / 1.5 minutes", Rate(5, 90)),
        ("7/h", Rate(7, 3_600)),
        ("7/WEEK", Rate(7, 604_800)),
        ("3/2 days", Rate(3, 172_800)),
        ("1/min", Rate(1, 60)),
        ("1/10mins", Rate(1, 600)),
    ],
)
def test_words_become_a_rate(words, rate):
    assert parse_limits({"tokens": words}) == {"tokens": (rate,)}


def test_several_rates_come_shortest_interval_first():
    limits = parse_limits({"requests": ["500/minute", "10/second"], "tokens": Rate(9, 60)})

    assert limits == {"requests": (Rate(10, 1), Rate(500, 60)), "tokens": (Rate(9, 60),)}


def test_a_rate_that_can_never_bind_is_accepted():
    assert parse_limits({"requests": ["500/minute", "9_999_999/day"]})


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        ({"requests": 500}, r"limits\['requests'\] needs an interval: write \"500/minute\""),
        ({"requests": []}, "needs an interval"),
        ({"requests": None}, "needs an interval"),
        ({"requests": [500]}, "takes words such as"),
        ({"requests": "500"}, "takes words such as"),
        ({"requests": "-5/minute"}, "takes words such as"),
        ({"requests": "0/minute"}, r"limits\['requests'\] takes a whole number >= 1"),
        ({"requests": "5/0s"}, "interval takes seconds, > 0"),
        ({"requests": "5/fortnight"}, "unknown unit 'fortnight'; units are second, minute, hour"),
        ({"requests": ["5/minute", "9/60s"]}, "two rates of one interval"),
        ({"request": "5/minute"}, "knows requests, tokens, input, output; got 'request'"),
        ({"requests": "9" * 30 + "/minute"}, "out of range"),
        ({"requests": "9/" + "9" * 400 + "s"}, "out of range"),
        ({"requests": Rate(True, 60)}, "whole number >= 1"),
        ("500/minute", "limits= takes a dict"),
        (None, "limits= takes a dict"),
    ],
)
def test_a_wrong_limit_names_the_argument_and_the_cure(limits, match):
    with pytest.raises(ConfigError, match=match):
        parse_limits(limits)


@pytest.mark.parametrize("n", [0, -1, True, 1.5, math.nan, math.inf, "9", None])
def test_a_limit_that_is_no_count_names_its_argument(n):
    with pytest.raises(ConfigError, match="max_requests takes a whole number >= 1"):
        limit(n, 60, name="max_requests")


@pytest.mark.parametrize("interval", [0, -1, math.nan, math.inf, True, "60", None, 1e12])
def test_an_interval_that_is_no_length_names_itself(interval):
    with pytest.raises(ConfigError, match="interval takes seconds"):
        limit(5, interval)


@given(st.text() | st.lists(st.text()) | st.integers() | st.none())
def test_no_words_raise_anything_but_a_config_error(words):
    try:
        parse_limits({"requests": words})
    except ConfigError:
        return
