"""What every budget keeps, in memory or shared: one suite over all three."""

from __future__ import annotations

import pickle
import threading
import time

import pytest

from lionlite import scope
from lionlite.exceptions import (
    BudgetClosed,
    BudgetTimeout,
    Cancelled,
    ConfigError,
    RequestTooLarge,
)
from lionlite.limits.rates import Rate

HOUR = 3600


def call(limiter, actual=None, **costs):
    """One call from its grant to its end, answered at once."""
    with limiter.reserve(costs) as reservation:
        reservation.sent()
        reservation.replied()
        reservation.settle(actual or costs)
    return reservation


def used(limiter, dimension="tokens"):
    return limiter.stats().dimensions[dimension].used


class Caller(threading.Thread):
    """A thread that reserves and keeps what it got, or the error."""

    def __init__(self, limiter, *, deadline_s=None, token=None, **costs):
        super().__init__(daemon=True)
        self.limiter, self.costs = limiter, costs
        self.deadline_s, self.token = deadline_s, token
        self.reservation = self.error = self.ended_s = None
        self.start()

    def run(self):
        here = scope.Scope(token=self.token)
        if self.deadline_s is not None:
            here = scope.Scope(time.monotonic() + self.deadline_s, self.token)
        try:
            with scope.entered(here):
                self.reservation = self.limiter.reserve(self.costs)
        except Exception as error:
            self.error = error
        self.ended_s = time.monotonic()

    def done(self, timeout_s=10):
        self.join(timeout_s)
        assert not self.is_alive()
        return self.reservation or self.error


def waiting(limiter, count):
    """Wait until *count* threads wait in line, and the first has asked."""
    until_s = time.monotonic() + 10
    while limiter.stats().waiting < count:
        assert time.monotonic() < until_s
        time.sleep(0.005)
    time.sleep(0.03)


def until_told(limiter):
    """Wait until the first in line knows when it is granted."""
    until_s = time.monotonic() + 10
    while limiter.stats().next_grant_in_s is None:
        assert time.monotonic() < until_s
        time.sleep(0.005)


# All or none -------------------------------------------------------------------------


def test_a_denied_dimension_takes_nothing_from_the_others(limiter_of):
    limiter = limiter_of(requests=[Rate(5, HOUR)], tokens=[Rate(100, HOUR)])
    call(limiter, requests=1, tokens=90)

    denied = limiter.try_reserve({"requests": 1, "tokens": 11})

    assert denied is None
    assert (used(limiter, "requests"), used(limiter)) == (1, 90)


def test_a_dimension_without_a_limit_does_not_matter(limiter_of):
    limiter = limiter_of(requests=[Rate(5, HOUR)])

    call(limiter, requests=1, tokens=10**9)

    assert set(limiter.stats().dimensions) == {"requests"}


def test_without_limits_everything_is_granted(limiter_of):
    limiter = limiter_of()

    call(limiter, requests=1, tokens=10**9)

    assert limiter.stats().dimensions == {}


def test_each_rate_of_a_dimension_holds(limiter_of):
    limiter = limiter_of(requests=[Rate(2, 0.3), Rate(3, HOUR)])
    call(limiter, requests=1)
    call(limiter, requests=1)

    third = call(limiter, requests=1)

    assert third.waited_s > 0.2
    with scope.deadline(5), pytest.raises(BudgetTimeout):
        limiter.reserve({"requests": 1})


def test_input_and_output_are_counted_apart(limiter_of):
    limiter = limiter_of(input=[Rate(100, HOUR)], output=[Rate(10, HOUR)])
    call(limiter, requests=1, input=60, output=10)

    denied = limiter.try_reserve({"requests": 1, "input": 10, "output": 1})
    granted = limiter.try_reserve({"requests": 1, "input": 10})

    assert denied is None
    assert granted is not None


# What cannot be ----------------------------------------------------------------------


def test_what_can_never_fit_is_refused_at_once(limiter_of):
    limiter = limiter_of(tokens=[Rate(100, HOUR)])

    with pytest.raises(RequestTooLarge, match="can never fit into 100 per 3600 s") as caught:
        limiter.reserve({"requests": 1, "tokens": 101})

    error = caught.value
    assert (error.dimension, error.needed, error.limit) == ("tokens", 101, 100)


def test_what_even_refunds_cannot_help_is_refused_at_once(limiter_of):
    limiter = limiter_of(requests=[Rate(1, HOUR)])
    call(limiter, requests=1)
    began_s = time.monotonic()

    with scope.deadline(30), pytest.raises(BudgetTimeout, match="before the deadline") as caught:
        limiter.reserve({"requests": 1})

    assert time.monotonic() - began_s < 15
    assert 3_500 < caught.value.retry_after_s < 3_700


def test_what_a_refund_may_help_waits_for_its_deadline(limiter_of):
    limiter = limiter_of(tokens=[Rate(100, HOUR)])
    held = limiter.reserve({"requests": 1, "tokens": 100})
    began_s = time.monotonic()

    with scope.deadline(0.3), pytest.raises(BudgetTimeout, match=r"0\.3 s of waiting"):
        limiter.reserve({"requests": 1, "tokens": 1})

    assert time.monotonic() - began_s >= 0.3
    held.cancel()


def test_one_who_waits_behind_others_is_refused_at_once_too(limiter_of):
    limiter = limiter_of(requests=[Rate(1, HOUR)])
    call(limiter, requests=1)
    patient = Caller(limiter, requests=1)
    waiting(limiter, 1)
    began_s = time.monotonic()

    with scope.deadline(30), pytest.raises(BudgetTimeout):
        limiter.reserve({"requests": 1})

    assert time.monotonic() - began_s < 15
    limiter.close()
    assert isinstance(patient.done(), BudgetClosed)


@pytest.mark.parametrize(
    "costs",
    [{}, {"requests": 0}, {"requests": -1}, {"requests": True}, {"tokens": 1.5}],
    ids=str,
)
def test_costs_that_are_no_counts_are_refused(limiter_of, costs):
    limiter = limiter_of(requests=[Rate(5, HOUR)])

    with pytest.raises(ConfigError, match="costs takes ints >= 0"):
        limiter.reserve(costs)


@pytest.mark.parametrize("charge", ["", "usual", None])
def test_an_unknown_charge_is_refused(limiter_of, charge):
    with pytest.raises(ConfigError, match="charge= takes estimate, adjust, usage"):
        limiter_of(charge=charge, requests=[Rate(5, HOUR)])


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan"), "1"])
def test_a_pause_that_is_no_length_of_time_is_refused(limiter_of, seconds):
    limiter = limiter_of(requests=[Rate(5, HOUR)])

    with pytest.raises(ConfigError):
        limiter.pause(seconds)
    with pytest.raises(ConfigError):
        limiter.refused(retry_after_s=seconds)


def test_a_pickle_is_refused_with_the_cure(limiter_of):
    limiter = limiter_of(requests=[Rate(5, HOUR)])

    with pytest.raises(ConfigError, match="other process"):
        pickle.dumps(limiter)


# Time ---------------------------------------------------------------------------------


def test_room_comes_back_one_interval_after_the_arrival(limiter_of):
    limiter = limiter_of(requests=[Rate(1, 0.4)])
    first = limiter.reserve({"requests": 1})
    sent_s = time.monotonic()
    first.sent()
    first.replied()
    first.settle({"requests": 1})

    second = limiter.reserve({"requests": 1})

    assert time.monotonic() - sent_s >= 0.4
    assert second.waited_s > 0.2


def test_what_was_not_sent_cannot_expire(limiter_of):
    limiter = limiter_of(requests=[Rate(1, 0.2)])
    held = limiter.reserve({"requests": 1})
    time.sleep(0.4)

    assert limiter.try_reserve({"requests": 1}) is None
    held.sent()
    time.sleep(0.3)
    assert limiter.try_reserve({"requests": 1}) is not None


def test_a_reply_shows_that_the_request_arrived_before_the_guard_ended(limiter_of):
    limiter = limiter_of(requests=[Rate(1, 10.0)])
    call(limiter, requests=1)

    with scope.deadline(1), pytest.raises(BudgetTimeout) as caught:
        limiter.reserve({"requests": 1})

    # The guard of 10 s is 0.1 s; a slot of the stores is 0.012 s wide.
    assert caught.value.retry_after_s < 10.05


def test_waiters_are_granted_in_the_order_in_which_they_came(limiter_of):
    limiter = limiter_of(requests=[Rate(1, 0.1)])
    call(limiter, requests=1)
    callers = []
    for number in range(4):
        callers.append(Caller(limiter, requests=1))
        waiting(limiter, number + 1) if number < 1 else time.sleep(0.005)

    for caller in callers:
        caller.done().sent()
        caller.reservation.settle({"requests": 1})

    order = sorted(callers, key=lambda caller: caller.ended_s)
    assert order == callers


# What is given back --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charge", "left"), [("estimate", 100), ("adjust", 30), ("usage", 30)]
)
def test_the_charge_decides_what_comes_back_at_the_end(limiter_of, charge, left):
    limiter = limiter_of(charge=charge, tokens=[Rate(1_000, HOUR)])

    call(limiter, {"tokens": 30}, requests=1, tokens=100)

    assert used(limiter) == left


@pytest.mark.parametrize("charge", ["estimate", "adjust", "usage"])
def test_what_was_used_above_the_estimate_is_debt(limiter_of, charge):
    limiter = limiter_of(charge=charge, tokens=[Rate(100, HOUR)])

    call(limiter, {"tokens": 130}, requests=1, tokens=10)

    stats = limiter.stats().dimensions["tokens"]
    assert (stats.used, stats.remaining) == (130, 0)
    assert limiter.try_reserve({"requests": 1, "tokens": 1}) is None


@pytest.mark.parametrize("charge", ["estimate", "adjust", "usage"])
def test_requests_never_come_back(limiter_of, charge):
    limiter = limiter_of(charge=charge, requests=[Rate(10, HOUR)])

    call(limiter, {"requests": 0}, requests=3)

    assert used(limiter, "requests") == 3


def test_what_was_never_sent_is_given_back_whole(limiter_of):
    limiter = limiter_of(requests=[Rate(10, HOUR)], tokens=[Rate(100, HOUR)])

    with limiter.reserve({"requests": 1, "tokens": 60}):
        assert used(limiter) == 60

    assert (used(limiter, "requests"), used(limiter)) == (0, 0)


def test_what_was_sent_and_never_settled_keeps_its_estimate(limiter_of):
    limiter = limiter_of(charge="adjust", tokens=[Rate(100, HOUR)])

    with pytest.raises(OSError, match="cut"), limiter.reserve({"tokens": 60}) as reservation:
        reservation.sent()
        raise OSError("cut")

    assert used(limiter) == 60


def test_a_second_settle_does_nothing(limiter_of):
    limiter = limiter_of(charge="adjust", tokens=[Rate(100, HOUR)])
    with limiter.reserve({"tokens": 60}) as reservation:
        reservation.sent()
        reservation.settle({"tokens": 20})

        reservation.settle({"tokens": 50})
        reservation.cancel()

    assert used(limiter) == 20


@pytest.mark.parametrize("actual", [None, {}, {"tokens": -5}, {"tokens": True}, {"other": 9}])
def test_usage_that_says_nothing_keeps_the_estimate(limiter_of, actual):
    limiter = limiter_of(charge="adjust", tokens=[Rate(100, HOUR)])
    with limiter.reserve({"tokens": 60}) as reservation:
        reservation.sent()
        reservation.settle(actual)

    assert used(limiter) == 60


def test_a_refund_wakes_the_first_who_waits(limiter_of):
    limiter = limiter_of(charge="adjust", tokens=[Rate(100, HOUR)])
    held = limiter.reserve({"tokens": 100})
    held.sent()
    waiter = Caller(limiter, tokens=50)
    waiting(limiter, 1)

    held.settle({"tokens": 10})

    assert waiter.done().costs == {"tokens": 50}


def test_what_is_given_back_wakes_the_first_who_waits(limiter_of):
    limiter = limiter_of(tokens=[Rate(100, HOUR)])
    held = limiter.reserve({"tokens": 100})
    waiter = Caller(limiter, tokens=50)
    waiting(limiter, 1)

    held.cancel()

    assert waiter.done().costs == {"tokens": 50}


# Without waiting ---------------------------------------------------------------------------


def test_try_reserve_does_not_pass_those_who_wait(limiter_of):
    limiter = limiter_of(tokens=[Rate(100, HOUR)])
    call(limiter, tokens=60)
    Caller(limiter, tokens=70)
    waiting(limiter, 1)

    assert limiter.try_reserve({"tokens": 40}) is None


def test_try_reserve_may_take_what_delays_nobody(limiter_of):
    limiter = limiter_of(tokens=[Rate(100, HOUR)])
    call(limiter, tokens=60)
    Caller(limiter, tokens=70)
    waiting(limiter, 1)

    assert limiter.try_reserve({"tokens": 30}) is not None


def test_try_reserve_never_fails_because_others_are_busy_here(limiter_of):
    limiter = limiter_of(requests=[Rate(10_000, HOUR)])
    together = threading.Barrier(8)
    failed = []

    def hammer():
        together.wait()
        tried = [limiter.try_reserve({"requests": 1}) for _ in range(10)]
        failed.extend(one for one in tried if one is None)

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert used(limiter, "requests") == 80


def test_try_reserve_takes_a_permit_that_nobody_waits_for(limiter_of):
    limiter = limiter_of(max_concurrency=3, tokens=[Rate(100, HOUR)])
    call(limiter, tokens=60)
    Caller(limiter, tokens=70)
    waiting(limiter, 1)

    tried = [limiter.try_reserve({"tokens": 1}) for _ in range(2)]

    assert None not in tried


def test_no_more_calls_are_in_flight_than_max_concurrency_allows(limiter_of):
    limiter = limiter_of(max_concurrency=1, requests=[Rate(100, HOUR)])
    held = limiter.reserve({"requests": 1})
    waiter = Caller(limiter, requests=1)
    waiting(limiter, 1)

    tried = limiter.try_reserve({"requests": 1})
    stats = limiter.stats()
    held.sent()
    held.settle()

    assert tried is None
    assert (stats.in_flight, stats.waiting) == (1, 1)
    assert waiter.done().costs == {"requests": 1}


# The end of waiting --------------------------------------------------------------------------


def test_close_wakes_everyone_who_waits(limiter_of):
    limiter = limiter_of(requests=[Rate(1, HOUR)])
    held = limiter.reserve({"requests": 1})
    waiters = [Caller(limiter, requests=1) for _ in range(4)]
    waiting(limiter, 4)

    limiter.close()

    assert [type(waiter.done()) for waiter in waiters] == [BudgetClosed] * 4
    held.sent()
    held.settle()
    with pytest.raises(BudgetClosed):
        limiter.reserve({"requests": 1})
    with pytest.raises(BudgetClosed):
        limiter.try_reserve({"requests": 1})


def test_a_cancel_wakes_only_its_own(limiter_of):
    limiter = limiter_of(tokens=[Rate(10, HOUR)])
    held = limiter.reserve({"tokens": 10})
    tokens = [scope.CancelToken() for _ in range(3)]
    waiters = [Caller(limiter, token=token, tokens=10) for token in tokens]
    waiting(limiter, 3)

    tokens[1].cancel()
    tokens[0].cancel()

    assert [type(waiters[n].done()) for n in (0, 1)] == [Cancelled] * 2
    held.cancel()
    assert waiters[2].done().costs == {"tokens": 10}


def test_a_cancelled_scope_takes_nothing(limiter_of):
    limiter = limiter_of(tokens=[Rate(10, HOUR)])
    with scope.cancellable() as token:
        token.cancel()

        with pytest.raises(Cancelled):
            limiter.reserve({"tokens": 10})
        with pytest.raises(Cancelled):
            limiter.try_reserve({"tokens": 10})

    assert used(limiter) == 0


def test_a_passed_deadline_lets_the_next_in_line_go_on(limiter_of):
    limiter = limiter_of(tokens=[Rate(100, HOUR)])
    held = limiter.reserve({"tokens": 60})
    large = Caller(limiter, deadline_s=0.3, tokens=100)
    waiting(limiter, 1)
    small = Caller(limiter, tokens=40)

    assert isinstance(large.done(), BudgetTimeout)
    assert small.done().costs == {"tokens": 40}
    held.cancel()


# After a 429 -----------------------------------------------------------------------------------


def test_a_pause_holds_everyone_up_and_then_lets_one_go(limiter_of):
    limiter = limiter_of(requests=[Rate(100, HOUR)])
    began_s = time.monotonic()
    limiter.pause(0.3)
    callers = [Caller(limiter, requests=1) for _ in range(3)]

    probe = limiter_first(callers)
    paused_s = time.monotonic() - began_s
    time.sleep(0.2)
    granted = [caller for caller in callers if caller.reservation is not None]
    probe.reservation.sent()
    probe.reservation.settle({"requests": 1})

    assert paused_s >= 0.3
    assert granted == [probe]
    assert [type(caller.done()) for caller in callers] == [type(probe.reservation)] * 3


def limiter_first(callers):
    until_s = time.monotonic() + 10
    while True:
        for caller in callers:
            if caller.reservation is not None:
                return caller
        assert time.monotonic() < until_s
        time.sleep(0.005)


def test_a_refusal_pauses_and_widens_the_guard(limiter_of):
    limiter = limiter_of(requests=[Rate(100, HOUR)])
    with limiter.reserve({"requests": 1}) as reservation:
        guard_s = limiter.stats().guard_s
        reservation.sent()
        limiter.refused(reservation, retry_after_s=20.0)

    stats = limiter.stats()
    assert 15 < stats.paused_for_s <= 20
    assert stats.guard_s == 2 * guard_s


def test_a_pause_longer_than_the_time_left_is_refused_at_once(limiter_of):
    limiter = limiter_of(requests=[Rate(100, HOUR)])
    limiter.pause(3_000)
    began_s = time.monotonic()

    with scope.deadline(30), pytest.raises(BudgetTimeout):
        limiter.reserve({"requests": 1})

    assert time.monotonic() - began_s < 15


# What it says of itself ---------------------------------------------------------------------------


def test_the_statistics_say_what_is_used_and_who_waits(limiter_of):
    limiter = limiter_of(requests=[Rate(10, 60)], tokens=[Rate(100, 60), Rate(1_000, HOUR)])
    call(limiter, requests=1, tokens=30)
    held = limiter.reserve({"requests": 1, "tokens": 70})
    Caller(limiter, requests=1, tokens=1)
    waiting(limiter, 1)
    until_told(limiter)

    stats = limiter.stats()

    tokens = stats.dimensions["tokens"]
    assert (tokens.limit, tokens.interval_s, tokens.used, tokens.remaining) == (100, 60, 100, 0)
    assert [(rate.limit, rate.used) for rate in tokens.rates] == [(100, 100), (1_000, 100)]
    assert (stats.waiting, stats.in_flight, stats.granted, stats.paused_for_s) == (1, 1, 2, 0)
    assert 50 < stats.next_grant_in_s < 62
    held.cancel()


def test_a_reservation_says_what_it_is(limiter_of):
    limiter = limiter_of(tokens=[Rate(10, HOUR)])

    with limiter.reserve({"requests": 1, "tokens": 4}) as reservation:
        shown = [repr(reservation)]
        reservation.sent()
        shown.append(repr(reservation))
    shown.append(repr(reservation))

    assert reservation.costs == {"requests": 1, "tokens": 4}
    assert reservation.waited_s == 0.0
    assert [text.split()[-1] for text in shown] == ["pending>", "sent>", "ended>"]


def test_absurd_usage_blocks_and_breaks_nothing(limiter_of):
    limiter = limiter_of(charge="usage", tokens=[Rate(100, HOUR)])

    for _ in range(3):
        if (reservation := limiter.try_reserve({"requests": 1})) is not None:
            reservation.sent()
            reservation.settle({"tokens": 10**30})

    assert limiter.try_reserve({"tokens": 1}) is None
    assert used(limiter) > 100
