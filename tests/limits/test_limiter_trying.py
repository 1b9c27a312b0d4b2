"""What a try may have: room that nobody needs, whoever else tries or waits."""

from __future__ import annotations

import math
import sys
import threading

import pytest

from lionlite.exceptions import BudgetClosed, RequestTooLarge
from lionlite.limits.budget import BACKFILL, Budget
from lionlite.limits.entries import Entry
from lionlite.limits.ledger import LedgerBucket
from lionlite.limits.limiter import RateLimiter
from lionlite.limits.rates import Rate


@pytest.fixture
def _eager_switching():
    """Let threads race at every few bytecodes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_eager_switching")
def test_a_try_in_vain_is_in_nobodys_way():
    """One in five failed beside a thread that tried for more than there was."""
    limiter = RateLimiter({"tokens": [Rate(10, 3_600)]})
    limiter.reserve({"tokens": 5}).sent()
    is_over = threading.Event()

    def try_for_too_much():
        while not is_over.is_set():
            limiter.try_reserve({"tokens": 6})

    other = threading.Thread(target=try_for_too_much)
    other.start()
    outcomes = []
    for _ in range(5_000):
        reservation = limiter.try_reserve({"tokens": 5})
        outcomes.append(reservation is not None)
        if reservation is not None:
            reservation.cancel()
    is_over.set()
    other.join(10)

    assert outcomes.count(False) == 0


# By the budget alone --------------------------------------------------------------


def budget_of(clock, **more):
    rates = {"requests": [Rate(100, 60)], "tokens": [Rate(100, 60)]}
    return Budget(LedgerBucket(rates, charge="adjust", clock=clock), **more)


def waiter(budget, **costs):
    entry = Entry(costs)
    budget.join(entry, math.inf)
    return entry


def tried(budget, **costs):
    entry = Entry(costs)
    budget.attempt(entry)
    return entry.is_granted


def held(budget, **costs):
    entry = Entry(costs)
    assert budget.admit(entry)
    return entry


def test_a_try_finds_the_room_that_the_head_does_not_need(clock):
    budget = budget_of(clock)
    held(budget, tokens=30)
    head = waiter(budget, tokens=80)

    assert [tried(budget, tokens=n) for n in (21, 20)] == [False, False]
    assert tried(budget, requests=1)
    assert list(budget.queue) == [head]


def test_a_try_takes_what_expires_before_the_head_is_due(clock):
    budget = budget_of(clock)
    first = held(budget, tokens=40)
    budget.settle(first, {"tokens": 40})
    clock.advance(30)
    budget.settle(held(budget, tokens=30), {"tokens": 30})
    waiter(budget, tokens=80)

    assert [tried(budget, tokens=n) for n in (21, 20, 1)] == [False, True, False]


def test_a_try_comes_after_those_who_were_due(clock):
    budget = budget_of(clock)
    budget.settle(held(budget, tokens=100), {"tokens": 100})
    head = waiter(budget, tokens=60)
    clock.advance(61)
    entry = Entry({"tokens": 50})

    decided = budget.attempt(entry)

    assert (decided, head.is_granted, entry.is_granted) == ([head], True, False)


def test_a_try_has_what_is_left_when_those_who_were_due_are_gone(clock):
    budget = budget_of(clock)
    budget.settle(held(budget, tokens=100), {"tokens": 100})
    waiter(budget, tokens=60)
    clock.advance(61)

    assert tried(budget, tokens=40)


def test_a_try_behind_too_many_has_nothing(clock):
    budget = budget_of(clock)
    held(budget, tokens=100)
    for _ in range(BACKFILL):
        waiter(budget, tokens=60)

    assert tried(budget, requests=1)
    waiter(budget, tokens=60)
    assert not tried(budget, requests=1)


def test_a_try_during_a_pause_has_nothing(clock):
    budget = budget_of(clock)
    budget.pause(5)

    assert not tried(budget, requests=1)
    waiter(budget, tokens=100)
    assert not tried(budget, requests=1)


def test_a_try_without_a_permit_has_nothing(clock):
    budget = budget_of(clock, max_concurrency=1)
    held(budget, tokens=1)

    assert not tried(budget, requests=1)
    waiter(budget, tokens=60)
    assert not tried(budget, requests=1)


def test_a_try_leaves_no_trace_in_the_time_waited(clock):
    budget = budget_of(clock)
    held(budget, tokens=100)

    clock.advance(5)
    tried(budget, tokens=1)

    assert (budget.waited_ns, budget.granted, len(budget.queue)) == (0, 1, 0)


def test_a_try_of_what_can_never_be_says_so(clock):
    budget = budget_of(clock)

    with pytest.raises(RequestTooLarge):
        tried(budget, tokens=101)
    budget.close()
    with pytest.raises(BudgetClosed):
        tried(budget, tokens=1)
