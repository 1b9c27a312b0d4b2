"""Limits, uses and ways of charging that become known while calls are under way."""

from __future__ import annotations

import pytest

from lionlite.exceptions import ConfigError
from lionlite.limits.limiter import RateLimiter
from lionlite.limits.rates import Rate

pytestmark = pytest.mark.quick

CHARGES = ["estimate", "adjust", "usage"]
CALL = {"requests": 1, "tokens": 40, "requests@m": 1, "tokens@m": 40}


@pytest.fixture(params=CHARGES)
def charge(request):
    return request.param


@pytest.fixture
def limiter(charge, clock):
    """A limiter that has learned both limits of one model."""
    limiter = RateLimiter({}, charge=charge, clock=clock)
    limiter.set_rates("requests@m", [Rate(10, 60)])
    limiter.set_rates("tokens@m", [Rate(100, 60)])
    return limiter


def used(limiter):
    return {name: one.used for name, one in limiter.stats().dimensions.items()}


def call(limiter, actual=None, **costs):
    """Make one call from its grant to its end, in no time."""
    with limiter.reserve(costs or CALL) as reservation:
        reservation.sent()
        reservation.replied()
        reservation.settle(actual)


# Learned limits -----------------------------------------------------------------------


def test_the_limits_of_a_model_bind_its_calls_only(limiter):
    call(limiter)
    call(limiter)

    assert limiter.try_reserve(CALL) is None
    assert limiter.try_reserve({"requests": 1, "tokens": 500}) is not None
    assert used(limiter) == {"requests@m": 2, "tokens@m": 80}


def test_a_denied_model_takes_nothing_of_the_limits_of_all(charge, clock):
    limiter = RateLimiter({"requests": [Rate(10, 60)]}, charge=charge, clock=clock)
    limiter.set_rates("tokens@m", [Rate(50, 60)])
    call(limiter)

    assert limiter.try_reserve(CALL) is None
    assert used(limiter) == {"requests": 1, "tokens@m": 40}


def test_a_limit_learned_under_way_counts_the_open_calls_that_named_it(charge, clock):
    limiter = RateLimiter({}, charge=charge, clock=clock)
    pending, on_its_way = limiter.reserve(CALL), limiter.reserve(CALL)
    on_its_way.sent()

    limiter.set_rates("tokens@m", [Rate(100, 60)])
    assert used(limiter) == {"tokens@m": 80}

    pending.cancel()
    on_its_way.settle({"tokens@m": 40})
    assert used(limiter) == {"tokens@m": 40}


def test_a_limit_that_changes_keeps_what_was_charged(limiter):
    call(limiter)

    limiter.set_rates("tokens@m", [Rate(60, 60)])
    assert limiter.try_reserve(CALL) is None

    limiter.set_rates("tokens@m", [Rate(80, 60)])
    assert limiter.try_reserve(CALL) is not None


def test_a_second_interval_learned_late_leaves_the_first_as_it_was(charge, clock):
    """Merged charges were shared between the windows, and one spoilt the other's."""
    limiter = RateLimiter({"requests": [Rate(10_000, 60)]}, charge=charge, clock=clock)

    def calls(count):
        for _ in range(count):
            clock.advance(0.001)
            call(limiter, requests=1)

    calls(2_100)
    limiter.set_rates("requests@m", [Rate(10, 86_400)])
    calls(2_100)

    assert limiter.stats().dimensions["requests"].used == 4_200
    clock.advance(58)
    assert limiter.stats().dimensions["requests"].used == pytest.approx(2_000, abs=120)
    clock.advance(3)
    assert limiter.stats().dimensions["requests"].used == 0


# What the server says is used ------------------------------------------------------------


@pytest.mark.parametrize(("name", "says"), [("requests@m", 7), ("tokens@m", 75)])
def test_use_by_others_counts_for_one_interval(limiter, clock, name, says):
    call(limiter, {"tokens@m": 40})

    limiter.tighten(name, says)

    assert used(limiter)[name] == says
    clock.advance(60)
    assert used(limiter)[name] == says
    clock.advance(0.001)
    assert used(limiter) == {"requests@m": 0, "tokens@m": 0}


def test_the_same_report_twice_counts_once(limiter):
    call(limiter)

    limiter.tighten("tokens@m", 70)
    limiter.tighten("tokens@m", 70)

    assert used(limiter)["tokens@m"] == 70


def test_a_report_never_loosens(limiter):
    limiter.reserve(CALL)
    limiter.reserve(CALL).sent()

    for says in (0, 1, 79, 80):
        limiter.tighten("tokens@m", says)

    assert used(limiter) == {"requests@m": 2, "tokens@m": 80}


def test_use_by_others_beyond_the_limit_delays_us_until_it_expires(limiter, clock):
    limiter.tighten("requests@m", 25)

    assert limiter.try_reserve(CALL) is None
    assert limiter.stats().dimensions["requests@m"].remaining == 0
    clock.advance(60.001)
    assert limiter.try_reserve(CALL) is not None


def test_a_report_tightens_its_own_dimension_only(limiter):
    call(limiter)

    limiter.tighten("requests@m", 9)

    assert used(limiter) == {"requests@m": 9, "tokens@m": 40}


def test_a_report_on_what_is_not_limited_is_forgotten(limiter):
    limiter.tighten("requests@other", 7)

    limiter.set_rates("requests@other", [Rate(10, 60)])

    assert used(limiter)["requests@other"] == 0


def test_a_report_is_measured_against_the_window_that_knows_it(charge, clock):
    limiter = RateLimiter({"requests": [Rate(1_000, 86_400)]}, charge=charge, clock=clock)
    limiter.set_rates("requests@m", [Rate(10, 60)])
    for _ in range(5):
        call(limiter, **{"requests": 1, "requests@m": 1})

    limiter.tighten("requests@m", 8)

    assert used(limiter) == {"requests": 5, "requests@m": 8}


# What a call is charged, and from when ------------------------------------------------------


def test_requests_of_a_model_are_never_given_back(limiter):
    call(limiter, {"requests@m": 0, "requests": 0, "tokens@m": 1})

    assert used(limiter)["requests@m"] == 1


@pytest.mark.parametrize(
    ("charge", "after"), [("estimate", 40), ("adjust", 12), ("usage", 12)], indirect=["charge"]
)
def test_unused_tokens_of_a_model_come_back_as_the_mode_says(limiter, after):
    call(limiter, {"tokens@m": 12})

    assert used(limiter) == {"requests@m": 1, "tokens@m": after}


def test_tokens_beyond_the_estimate_are_debt_in_every_mode(limiter, clock):
    call(limiter, {"tokens@m": 130})

    assert used(limiter)["tokens@m"] == 130
    assert limiter.try_reserve({"tokens@m": 1}) is None
    clock.advance(60.001)
    assert limiter.try_reserve({"tokens@m": 1}) is not None


@pytest.mark.parametrize(
    ("charge", "at_90_s"), [("estimate", 0), ("adjust", 0), ("usage", 40)], indirect=["charge"]
)
def test_requests_expire_from_arrival_and_tokens_as_the_mode_says(limiter, clock, at_90_s):
    with limiter.reserve(CALL) as reservation:
        reservation.sent()
        reservation.replied()
        clock.advance(50)
        reservation.settle({"tokens@m": 40})
    clock.advance(40)

    assert used(limiter) == {"requests@m": 0, "tokens@m": at_90_s}


@pytest.mark.parametrize(
    ("charge", "held"), [("estimate", 0), ("adjust", 0), ("usage", 40)], indirect=["charge"]
)
def test_an_answer_that_takes_longer_than_the_interval_counts_until_it_is_complete(
    limiter, clock, held
):
    with limiter.reserve(CALL) as reservation:
        reservation.sent()
        reservation.replied()
        clock.advance(100)

        assert used(limiter) == {"requests@m": 0, "tokens@m": held}
        reservation.settle({"tokens@m": 30})

    assert used(limiter) == {"requests@m": 0, "tokens@m": held * 30 // 40}


# A way of charging that changes ----------------------------------------------------------------


def test_calls_under_way_are_corrected_as_the_new_way_says(clock):
    limiter = RateLimiter({"tokens@m": [Rate(100, 60)]}, clock=clock)
    with limiter.reserve(CALL) as reservation:
        reservation.sent()
        reservation.replied()

        limiter.set_charge("usage")
        reservation.settle({"tokens@m": 12})

    assert used(limiter) == {"tokens@m": 12}


def test_calls_under_way_keep_their_estimate_when_refunds_end(charge, clock):
    limiter = RateLimiter({"tokens@m": [Rate(100, 60)]}, charge=charge, clock=clock)
    with limiter.reserve(CALL) as reservation:
        reservation.sent()
        reservation.replied()

        limiter.set_charge("estimate")
        reservation.settle({"tokens@m": 12})

    assert used(limiter) == {"tokens@m": 40}


@pytest.mark.parametrize("before", CHARGES)
@pytest.mark.parametrize("after", CHARGES)
def test_no_change_of_the_way_leaves_anything_behind(clock, before, after):
    limiter = RateLimiter(
        {"requests@m": [Rate(10, 60)], "tokens@m": [Rate(100, 60)]}, charge=before, clock=clock
    )
    open_calls = [limiter.reserve(CALL), limiter.reserve(CALL)]
    open_calls[0].sent()

    limiter.set_charge(after)
    for reservation in open_calls:
        reservation.cancel()
    limiter.tighten("tokens@m", 90)
    assert used(limiter) == {"requests@m": 1, "tokens@m": 90}

    clock.advance(61)
    assert used(limiter) == {"requests@m": 0, "tokens@m": 0}
    assert limiter.stats().in_flight == 0


def test_a_way_that_does_not_exist_is_refused_and_changes_nothing(limiter, charge):
    with pytest.raises(ConfigError, match="charge= takes estimate, adjust, usage; got 'bill'"):
        limiter.set_charge("bill")

    call(limiter, {"tokens@m": 12})
    assert used(limiter)["tokens@m"] == (40 if charge == "estimate" else 12)
