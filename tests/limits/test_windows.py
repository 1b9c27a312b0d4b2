"""When something fits at best, as its definition has it, without a walk over all that counts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionlite.limits.budget import Budget
from lionlite.limits.entries import UNKNOWN, Entry
from lionlite.limits.ledger import LedgerBucket
from lionlite.limits.rates import Rate, is_requests

pytestmark = pytest.mark.quick

RATES = {"requests": [Rate(4, 1), Rate(9, 10)], "tokens": [Rate(30, 1), Rate(100, 10)]}


# The definition -------------------------------------------------------------------


def by_definition(ledger, costs, now):
    """Give back all that is pending or refundable, have every reply come now, and wait."""
    refunds = ledger.charge == "adjust"
    soonest = 0
    for window in ledger.windows:
        for dimension, limit in window.limits.items():
            stay = [
                (0 if refunds and not node.is_final and not is_requests(dimension) else cost, node)
                for node in window.nodes
                for cost in [node.costs.get(dimension, 0)]
            ]
            over = sum(cost for cost, _ in stay) + costs.get(dimension, 0) - limit
            for cost, node in stay if costs.get(dimension) else ():
                if over <= 0:
                    break
                over -= cost
                soonest = max(soonest, min(node.stamp, now) + window.interval_ns + 1)
    return soonest


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "sent", "replied", "settle", "give back"]),
        st.sampled_from([0.0, 0.0, 0.01, 0.3, 0.9, 4.0]),
        st.integers(0, 30),
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from(["estimate", "adjust", "usage"]))
def test_at_best_is_what_the_definition_says_at_every_step(steps, charge):
    now_s = [100.0]
    ledger = LedgerBucket(RATES, charge=charge, clock=lambda: now_s[0])
    entries = []

    for step, wait_s, number in steps:
        now_s[0] += wait_s
        now = ledger.tick()
        entry = entries[number % len(entries)] if entries else None
        if step == "take" or entry is None:
            entries.append(Entry({"requests": number % 3, "tokens": number}))
            ledger.take(entries[-1])
        elif step == "sent":
            ledger.sent(entry)
        elif step == "replied":
            ledger.replied(entry)
        elif step == "settle":
            ledger.settle(entry, {"tokens": number * 2} if number else {})
        elif not entry.is_sent:
            ledger.give_back(entry)
        ledger.tick()
        for costs in ({"requests": 1}, {"tokens": 25}, {"requests": 2, "tokens": 7}):
            assert ledger.soonest(costs) == by_definition(ledger, costs, now)
            # So that the estimate of an error need not ask for both.
            assert ledger.expected(costs) + 1 >= ledger.soonest(costs)


def test_at_best_never_is_never(clock):
    ledger = LedgerBucket(RATES, clock=clock)

    assert ledger.soonest({"tokens": 31}) == UNKNOWN


# Its cost -------------------------------------------------------------------------


class Counted(dict):
    """Costs that count how often they are looked at."""

    looks = 0

    def get(self, *args):
        Counted.looks += 1
        return super().get(*args)


@pytest.mark.parametrize("holder", [[], [{"tokens": 10**6 - 2_000}]], ids=["full", "held"])
@pytest.mark.parametrize("charge", ["estimate", "adjust"])
def test_to_wait_with_a_deadline_does_not_look_at_all_that_counts(clock, charge, holder):
    """It did, under the lock: 400 who waited with one deadline were told half a second late."""
    most = 10**6 if holder else 2_000
    rates = [Rate(most, 60), Rate(10**9, 86_400)]
    ledger = LedgerBucket({"tokens": rates}, charge=charge, clock=clock)
    budget = Budget(ledger)
    for _ in range(2_000):
        entry = Entry(Counted(tokens=1))
        assert budget.admit(entry)
        budget.sent(entry)
        budget.settle(entry, {"tokens": 1})
    for costs in holder:
        assert budget.admit(Entry(costs))
    head, late = Entry({"tokens": 2}), Entry({"tokens": 2})
    budget.join(head, math.inf)
    Counted.looks = 0

    budget.join(late, 70.0)
    budget.late(late, 0.0)
    budget.leave(late)

    assert Counted.looks < 100


def test_no_room_is_looked_for_behind_the_head_when_all_ask_for_the_same(clock):
    rates = [Rate(10**6, 60), Rate(10**9, 86_400)]
    budget = Budget(LedgerBucket({"tokens": rates}, clock=clock))
    for _ in range(2_000):
        entry = Entry(Counted(tokens=1))
        assert budget.admit(entry)
        budget.sent(entry)
    assert budget.admit(Entry({"tokens": 10**6 - 2_000}))
    for _ in range(5):
        budget.join(Entry({"tokens": 1_000}), math.inf)
    Counted.looks = 0

    budget.pump()

    assert Counted.looks == 1_000
