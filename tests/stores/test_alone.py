"""on_store_down="share": a share of the limits while the store is down, and the way back."""

from __future__ import annotations

import threading
import time

import pytest

from lionlite import scope
from lionlite.exceptions import BudgetClosed, BudgetError, BudgetTimeout, RequestTooLarge
from lionlite.limits.rates import Rate
from lionlite.limits.shared import SharedLimiter

HOUR = 3600


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

    assert limiter._alone is not None
    assert calls > 2


def test_the_store_is_used_again_when_it_answers_and_told_what_was_used(members, redis_server):
    limiter = members({"requests": [Rate(50, HOUR), Rate(10, 0.1)]})
    call(limiter, requests=1)
    redis_server.stop()
    call(limiter, requests=2)
    redis_server.start()

    until_s = time.monotonic() + 20
    calls = 0
    while limiter._alone is not None:
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
