"""on_store_down="share": a share of the limits while the store is down, and the way back."""

from __future__ import annotations

import threading
import time

import pytest

from lionlite import scope
from lionlite.exceptions import (
    BudgetClosed,
    BudgetError,
    BudgetTimeout,
    Cancelled,
    RequestTooLarge,
)
from lionlite.limits.rates import Rate
from lionlite.limits.shared import SharedLimiter
from lionlite.limits.stores.opening import open_store
from lionlite.limits.stores.protocol import store_down

HOUR = 3600
LONG = 500
"""Seconds; the share grants nothing for so long."""


@pytest.fixture
def members(redis_server):
    made = []

    def make(limits, **kwargs):
        made.append(
            SharedLimiter(
                limits, store=redis_server.url, budget="b", on_store_down="share", **kwargs
            )
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


def call(limiter, **costs):
    with limiter.reserve(costs) as reservation:
        reservation.sent()
        reservation.replied()
        reservation.settle(costs)


def test_a_share_is_the_limit_divided_by_the_processes_last_seen(members, redis_server):
    limits = {"requests": [Rate(9, 0.2)], "tokens": [Rate(100, 0.2)]}
    first, second = members(limits), members(limits)
    for one in (first, second, first):
        call(one, requests=1, tokens=1)

    redis_server.stop()
    call(first, requests=1, tokens=1)

    dimensions = first.stats().dimensions
    assert {name: one.limit for name, one in dimensions.items()} == {"requests": 4, "tokens": 50}


def test_nothing_is_granted_before_what_was_used_has_expired(members, redis_server):
    limiter = members({"requests": [Rate(4, 0.5)]})
    call(limiter, requests=4)
    used_s = time.monotonic()
    redis_server.stop()

    call(limiter, requests=1)

    assert time.monotonic() - used_s >= 0.5


def test_of_a_long_interval_only_what_was_left_is_shared(members, redis_server):
    limiter = members({"requests": [Rate(100, 0.1), Rate(10, HOUR)]})
    call(limiter, requests=8)
    redis_server.stop()
    call(limiter, requests=1)

    with scope.deadline(1), pytest.raises((BudgetTimeout, RequestTooLarge)):
        limiter.reserve({"requests": 2})


def test_a_store_that_was_never_reached_leaves_no_share(members, redis_server):
    redis_server.stop()

    with pytest.raises(BudgetError, match="failed"):
        members({"requests": [Rate(100, 1)]}).reserve({"requests": 1})


def test_a_share_of_less_than_one_unit_is_none(members, redis_server):
    limits = {"requests": [Rate(1, 0.1)]}
    first, second = members(limits), members(limits)
    call(first, requests=1)
    call(second, requests=1)
    call(first, requests=1)
    redis_server.stop()

    with pytest.raises(BudgetError, match="failed"):
        first.reserve({"requests": 1})


def test_those_who_wait_go_on_with_the_share(members, redis_server):
    limiter = members({"requests": [Rate(4, 0.3)]})
    call(limiter, requests=4)
    done = []
    threads = [
        threading.Thread(target=lambda: done.append(call(limiter, requests=1))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()

    redis_server.stop()
    for thread in threads:
        thread.join(30)

    assert len(done) == 6


def test_the_share_lasts_as_long_as_the_store_is_down(members, redis_server):
    limiter = members({"requests": [Rate(100, 0.1)]})
    call(limiter, requests=1)
    redis_server.stop()
    until_s = time.monotonic() + 1.2

    calls = 0
    while time.monotonic() < until_s:
        call(limiter, requests=1)
        calls += 1
        time.sleep(0.05)

    assert limiter._desk.fallback.alone is not None
    assert calls > 2


def test_the_store_is_used_again_when_it_answers_and_told_what_was_used(members, redis_server):
    limiter = members({"requests": [Rate(50, HOUR), Rate(10, 0.1)]})
    call(limiter, requests=1)
    redis_server.stop()
    call(limiter, requests=2)
    redis_server.start()

    until_s = time.monotonic() + 20
    calls = 0
    while limiter._desk.fallback.alone is not None:
        assert time.monotonic() < until_s
        call(limiter, requests=1)
        calls += 1
        time.sleep(0.2)

    hour = limiter.stats().dimensions["requests"].rates[1]
    # What it knew, what it used alone, and the last call, which the store granted.
    assert hour.used == 1 + 2 + calls


def test_a_limiter_that_is_alone_can_be_closed_paused_and_tried(members, redis_server):
    limiter = members({"requests": [Rate(4, 0.1)]})
    call(limiter, requests=1)
    redis_server.stop()
    call(limiter, requests=1)

    with limiter.reserve({"requests": 1}) as reservation:
        reservation.sent()
        limiter.refused(reservation, retry_after_s=500)
    limiter.pause(1_000)
    tried = limiter.try_reserve({"requests": 1})
    paused_s = limiter.stats().paused_for_s
    limiter.close()

    assert tried is None
    assert paused_s > 900
    with pytest.raises(BudgetClosed):
        limiter.reserve({"requests": 1})


# While nobody calls anew --------------------------------------------------------------


class Flaky:
    """A store that is down when the test says so."""

    where = "flaky://"

    def __init__(self, url):
        self.inner, self.is_down, self.trips = open_store(url), False, 0

    def trip(self, deed, within_s):
        self.trips += 1
        if self.is_down:
            raise store_down(self.where, "no answer")
        return self.inner.trip(deed, within_s)

    def close(self):
        self.inner.close()


@pytest.fixture
def flaky(sqlite_url, monkeypatch):
    """Makes a limiter that has called once, and whose store is down then."""
    monkeypatch.setattr("lionlite.limits.stores.alone.RETRY_S", 0.1)
    store, made = Flaky(sqlite_url), []

    def make(interval_s, **kwargs):
        limits = {"requests": [Rate(100, interval_s)]}
        limiter = SharedLimiter(limits, store=store, budget="b", on_store_down="share", **kwargs)
        made.append(limiter)
        call(limiter, requests=1)
        store.is_down = True
        return store, limiter

    yield make
    for one in made:
        one.close()
    store.close()


def in_thread(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def until_closed(limiter):
    with pytest.raises(BudgetClosed):
        limiter.reserve({"requests": 1})


def waiting(limiter, count):
    until_s = time.monotonic() + 10
    while limiter.stats().waiting < count:
        assert time.monotonic() < until_s
        time.sleep(0.002)


def test_those_who_wait_find_the_store_again_though_nobody_calls(flaky):
    store, limiter = flaky(LONG)
    threads = [in_thread(lambda: call(limiter, requests=1)) for _ in range(4)]
    waiting(limiter, 4)

    store.is_down = False
    for thread in threads:
        thread.join(5)

    assert not any(thread.is_alive() for thread in threads)
    assert limiter.stats().dimensions["requests"].used == 5


def test_those_who_wait_keep_their_places_when_the_store_is_back(flaky):
    store, limiter = flaky(LONG)
    served = []

    def caller(number):
        with limiter.reserve({"requests": 1}):
            served.append(number)

    threads = []
    for number in range(6):
        threads.append(in_thread(lambda number=number: caller(number)))
        waiting(limiter, number + 1)

    time.sleep(0.3)
    store.is_down = False
    for thread in threads:
        thread.join(5)

    assert served == list(range(6))


def test_calls_of_both_ways_together_keep_max_concurrency(flaky):
    store, limiter = flaky(0.1, max_concurrency=2)
    store.is_down = False
    of_store = limiter.reserve({"requests": 1})
    store.is_down = True
    of_share = limiter.reserve({"requests": 1})

    in_flight = limiter.stats().in_flight
    third = limiter.try_reserve({"requests": 1})
    with scope.deadline(0.2), pytest.raises(BudgetTimeout):
        limiter.reserve({"requests": 1})

    assert (in_flight, third) == (2, None)
    store.is_down = False
    time.sleep(0.2)
    assert limiter.try_reserve({"requests": 1}) is None
    of_share.cancel()
    again = limiter.try_reserve({"requests": 1})
    assert again is not None
    assert limiter._desk.fallback.alone is None
    of_store.cancel()
    again.cancel()
    assert limiter.stats().in_flight == 0


@pytest.mark.parametrize("ahead", [0, 2], ids=["the first", "one behind others"])
def test_what_comes_too_late_even_at_best_is_refused_at_once_by_the_share(flaky, ahead):
    _, limiter = flaky(100)
    for number in range(ahead):
        in_thread(lambda: until_closed(limiter))
        waiting(limiter, number + 1)
    time.sleep(0.05)
    began_s = time.monotonic()

    with scope.deadline(5), pytest.raises(BudgetTimeout) as caught:
        limiter.reserve({"requests": 1})

    assert time.monotonic() - began_s < 1
    assert 90 < caught.value.retry_after_s <= 101


def test_a_deadline_that_passes_in_the_share_ends_the_wait_then(flaky):
    _, limiter = flaky(0.1)
    held = limiter.reserve({"requests": 100})
    began_s = time.monotonic()

    with scope.deadline(0.3), pytest.raises(BudgetTimeout):
        limiter.reserve({"requests": 1})

    assert 0.3 <= time.monotonic() - began_s < 1
    assert limiter.stats().waiting == 0
    held.cancel()
    call(limiter, requests=100)


def test_a_cancel_ends_the_wait_for_a_share_and_takes_nothing(flaky):
    _, limiter = flaky(0.1)
    held = limiter.reserve({"requests": 100})
    token, errors = scope.CancelToken(), []

    def caller():
        with scope.entered(scope.Scope(token=token)), pytest.raises(Cancelled) as caught:
            limiter.reserve({"requests": 1})
        errors.append(caught.value)

    thread = in_thread(caller)
    waiting(limiter, 1)
    token.cancel()
    thread.join(5)

    assert len(errors) == 1
    held.cancel()
    assert limiter.stats().dimensions["requests"].used == 0
    assert limiter.stats().in_flight == 0


def test_the_store_is_not_asked_more_often_the_more_there_are_who_wait(flaky):
    store, limiter = flaky(LONG)
    for number in range(20):
        in_thread(lambda: until_closed(limiter))
        waiting(limiter, number + 1)
    before = store.trips

    time.sleep(0.5)

    assert 1 <= store.trips - before <= 8


def test_a_call_of_the_share_ends_in_the_share_though_the_store_is_back(flaky):
    store, limiter = flaky(0.1)
    of_share = limiter.reserve({"requests": 1})
    store.is_down = False
    time.sleep(0.2)
    call(limiter, requests=1)

    of_share.sent()
    of_share.replied()
    of_share.settle({"requests": 1})
    of_share.cancel()

    assert limiter._desk.fallback.alone is None
    assert limiter.stats().in_flight == 0
