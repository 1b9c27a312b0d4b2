"""The accounting of a shared budget on a hand-moved clock, against a model of every charge."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_tools import Clock, MemoryBudget

from lionlite.limits.rates import Rate
from lionlite.limits.stores.book import GRACE_US, LOOK, QUEUE, RELOOK_US, TRY
from lionlite.limits.stores.slots import first_live, last_instant, slot_of, width_of
from lionlite.limits.stores.terms import terms_of

pytestmark = pytest.mark.quick

SECOND = 1_000_000
MINUTE = 60 * SECOND
LEASE = 600 * SECOND


def budget_of(charge="estimate", clock=None, **limits):
    return MemoryBudget(terms_of(limits, charge), clock or Clock())


def take(budget, ticket, *costs, mode=TRY, lease=LEASE, left=-1):
    return budget.do("take", mode, ticket, lease, left, costs)


def status(answer):
    return answer[0]


def used(budget):
    return budget.do("stats")[6:]


def answered(budget, ticket, *actual):
    budget.do("sent", ticket, 0)
    budget.do("settle", ticket, 0, 0, actual)


# Slots -----------------------------------------------------------------------------------


@given(
    interval=st.integers(1, 10**12),
    stamp=st.integers(0, 10**16),
    age=st.integers(0, 2 * 10**12),
)
def test_a_slot_counts_as_long_as_its_charge_and_hardly_longer(interval, stamp, age):
    width, now = width_of(interval), stamp + age
    slot = slot_of(stamp, width)

    is_live = slot >= first_live(now, interval, width)

    assert is_live == (now <= last_instant(slot, interval, width))
    assert is_live or age > interval
    assert not is_live or age <= interval + width
    assert width <= interval / 900 + 1


@given(interval=st.integers(1000, 10**12), now=st.integers(10**12, 10**16))
def test_a_rate_has_at_most_a_thousand_slots(interval, now):
    width = width_of(interval)

    latest = slot_of(now + interval // 10, width)

    assert latest - first_live(now, interval, width) < 1000


# The model ----------------------------------------------------------------------------------


@attrs.define
class Charge:
    """Units of one rate: pending without a stamp."""

    units: int
    stamp: int | None = None

    def counts(self, now, span):
        return self.stamp is None or now <= self.stamp + span


@attrs.define
class Call:
    charges: list
    is_sent: bool = False
    is_ended: bool = False


class Model:
    """Every call with its exact instants, by the words of `Accounts`."""

    def __init__(self, terms, clock):
        self.terms, self.clock = terms, clock
        self.calls = {}

    def used(self, i, extra=0):
        rate = self.terms.rates[i]
        return sum(
            call.charges[i].units
            for call in self.calls.values()
            if call.charges[i].counts(self.clock.now, rate.interval_us + extra * rate.width_us)
        )

    def fits(self, costs, extra=0):
        return all(
            not cost or self.used(i, extra) + cost <= self.terms.rates[i].limit
            for i, cost in enumerate(costs)
        )

    def take(self, ticket, costs):
        self.calls[ticket] = Call([Charge(cost) for cost in costs])

    def sent(self, ticket):
        call = self.calls[ticket]
        call.is_sent = True
        for charge, rate in zip(call.charges, self.terms.rates, strict=True):
            if rate.is_on_arrival:
                charge.stamp = self.clock.now + self.terms.guard_us

    def settle(self, ticket, actual):
        call, now = self.calls[ticket], self.clock.now
        if not call.is_sent:
            self.sent(ticket)
        known = any(units >= 0 for units in actual)
        call.is_ended = True
        for i, rate in enumerate(self.terms.rates):
            charge = call.charges[i]
            if charge.stamp is None:
                charge.stamp = now if known else now + self.terms.guard_us
            elif not charge.counts(now, rate.interval_us + rate.width_us):
                continue
            elif known:
                charge.stamp = min(charge.stamp, now)
            if actual[i] >= 0 and rate.dimension != "requests":
                is_more = actual[i] > charge.units
                if is_more or self.terms.charge != "estimate":
                    charge.units = actual[i]

    def leave(self, ticket):
        call = self.calls[ticket]
        if not call.is_sent:
            call.is_ended = True
            call.charges = [Charge(0, 0) for _ in call.charges]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("move"), st.integers(0, 400_000)),
        st.tuples(st.just("move"), st.integers(0, 2_000)),
        st.tuples(st.just("take"), st.integers(0, 3), st.integers(0, 60)),
        st.tuples(st.just("sent"), st.integers(0, 5)),
        st.tuples(st.just("settle"), st.integers(0, 5), st.integers(-1, 120)),
        st.tuples(st.just("leave"), st.integers(0, 5)),
    ),
    max_size=80,
)


@pytest.mark.parametrize("charge", ["estimate", "adjust", "usage"])
@settings(max_examples=100, deadline=None)
@given(steps=steps)
def test_it_never_grants_too_much_and_denies_at_most_a_slot_too_long(charge, steps):
    clock = Clock()
    terms = terms_of({"requests": [Rate(4, 0.5), Rate(9, 2)], "tokens": [Rate(100, 1)]}, charge)
    budget, model = MemoryBudget(terms, clock), Model(terms, clock)

    for number, (verb, *args) in enumerate(steps):
        open_calls = [name for name, call in model.calls.items() if not call.is_ended]
        if verb == "move":
            clock.now += args[0]
        elif verb == "take" and any(args):
            costs, ticket = (args[0], args[0], args[1]), f"a.{number}"
            granted = status(take(budget, ticket, *costs)) == "granted"
            assert not granted or model.fits(costs)
            assert granted or not model.fits(costs, extra=2)
            if granted:
                model.take(ticket, costs)
        elif verb != "take" and open_calls:
            ticket = open_calls[args[0] % len(open_calls)]
            if verb == "sent" and not model.calls[ticket].is_sent:
                budget.do("sent", ticket, 0)
                model.sent(ticket)
            elif verb == "settle":
                actual = (-1, -1, args[1])
                replied = 0 if args[1] >= 0 else -1
                budget.do("settle", ticket, 0, replied, actual)
                model.settle(ticket, actual)
            elif verb == "leave":
                budget.do("leave", ticket)
                model.leave(ticket)


@settings(max_examples=50, deadline=None)
@given(costs=st.lists(st.integers(1, 100), min_size=1, max_size=30), wanted=st.integers(1, 100))
def test_who_comes_when_he_was_told_is_granted(costs, wanted):
    clock = Clock()
    budget = budget_of(clock=clock, tokens=[Rate(100, 1.0)])
    for number, cost in enumerate(costs):
        if status(take(budget, f"a.{number}", cost)) == "granted":
            answered(budget, f"a.{number}", cost)
        clock.now += 7_001

    answer = take(budget, "b.0", wanted, mode=QUEUE)
    asked = 0
    while status(answer) == "wait":
        clock.now += answer[3]
        answer = take(budget, "b.0", wanted, mode=QUEUE)
        asked += 1

    assert asked <= SECOND // RELOOK_US + 2


# The queue --------------------------------------------------------------------------------------


def full(charge="estimate", limit=2):
    """A budget of which everything was used just now."""
    clock = Clock()
    budget = budget_of(charge, clock, requests=[Rate(limit, 60)])
    for number in range(limit):
        take(budget, f"x.{number}", 1)
        answered(budget, f"x.{number}", 1)
    return budget, clock


def in_turn(budget, *tickets):
    """Let all keep their places, as processes that wait do."""
    return [status(take(budget, ticket, 1, mode=QUEUE)) for ticket in tickets]


def waiting_for(budget, clock, seconds, *tickets):
    """Move the clock while all *tickets* come as often as they are told."""
    until = clock.now + int(seconds * SECOND)
    while clock.now < until:
        clock.now += RELOOK_US
        in_turn(budget, *tickets)


def test_processes_are_granted_in_the_order_in_which_they_came():
    budget, clock = full(limit=3)
    in_turn(budget, "a.0", "b.0", "c.0")

    granted = []
    while len(granted) < 3:
        clock.now += RELOOK_US
        # The last asks first, and all keep their places.
        for ticket in ("c.0", "b.0", "a.0"):
            if ticket not in granted and in_turn(budget, ticket) == ["granted"]:
                granted.append(ticket)

    assert granted == ["a.0", "b.0", "c.0"]


def test_a_process_that_was_granted_goes_to_the_end():
    budget, clock = full(limit=2)
    in_turn(budget, "a.0", "b.0")

    while in_turn(budget, "b.0", "a.0") == ["wait", "wait"]:
        clock.now += RELOOK_US

    assert in_turn(budget, "a.1", "b.0") == ["wait", "granted"]


def test_one_who_does_not_come_keeps_nobody_waiting():
    budget, clock = full(limit=1)
    in_turn(budget, "stopped.0", "b.0")
    waiting_for(budget, clock, 61, "b.0")

    after = in_turn(budget, "b.1")

    assert after == ["wait"]
    assert used(budget) == [1]


def test_one_who_is_a_little_late_keeps_his_place():
    budget, clock = full(limit=1)
    in_turn(budget, "a.0", "b.0")
    waiting_for(budget, clock, 59, "a.0", "b.0")
    while budget.head.used[0]:
        in_turn(budget, "a.0", "b.0")
        clock.now = budget.head.tickets[0].come_by + GRACE_US
        budget.do("stats")

    assert in_turn(budget, "b.0", "a.0") == ["wait", "granted"]


def test_one_who_comes_back_has_the_place_he_left():
    budget, clock = full(limit=1)
    in_turn(budget, "stopped.0", "b.0")
    waiting_for(budget, clock, 5, "b.0")

    in_turn(budget, "stopped.0")

    assert [ticket.name for ticket in budget.head.tickets] == ["stopped.0", "b.0"]


def test_one_who_never_comes_back_is_forgotten():
    budget, clock = full(limit=1)
    in_turn(budget, "dead.0", "b.0")

    waiting_for(budget, clock, 11, "b.0")

    assert [ticket.name for ticket in budget.head.tickets] == ["b.0"]


def test_who_leaves_is_no_longer_waited_for():
    budget, _ = full(limit=1)
    in_turn(budget, "a.0", "b.0")

    budget.do("leave", "a.0")

    assert [ticket.name for ticket in budget.head.tickets] == ["b.0"]


def test_a_small_one_passes_where_it_does_not_delay_the_first():
    budget = budget_of(tokens=[Rate(100, 60)])
    take(budget, "x.0", 70)
    answered(budget, "x.0", 70)
    take(budget, "large.0", 60, mode=QUEUE)

    too_much, fits = take(budget, "a.0", 41, mode=QUEUE), take(budget, "b.0", 30, mode=QUEUE)

    assert [status(too_much), status(fits)] == ["wait", "granted"]


def test_nobody_passes_while_open_calls_decide_when_the_first_is_due():
    budget = budget_of("usage", tokens=[Rate(100, 60)])
    take(budget, "x.0", 70)
    take(budget, "large.0", 60, mode=QUEUE)

    small = take(budget, "a.0", 10, mode=QUEUE)

    assert status(small) == "wait"


def test_to_look_takes_neither_room_nor_a_place():
    budget = budget_of(requests=[Rate(1, 60)])

    looked = take(budget, "a.0", 1, mode=LOOK)

    assert status(looked) == "wait"
    assert (used(budget), budget.head.tickets, budget.head.holders) == ([0], [], {})


def test_to_ask_twice_for_one_call_grants_once():
    budget = budget_of(requests=[Rate(5, 60)])

    answers = [take(budget, "a.0", 1), take(budget, "a.0", 1)]

    assert [status(answer) for answer in answers] == ["granted", "granted"]
    assert used(budget) == [1]


def test_the_processes_that_asked_lately_are_counted():
    clock = Clock()
    budget = budget_of(clock=clock, requests=[Rate(5, 60)])
    for ticket in ("a.0", "b.0", "b.1"):
        answer = take(budget, ticket, 1)
    clock.now += 601 * SECOND

    later = take(budget, "c.0", 1)

    assert (answer[5], later[5]) == (2, 1)


# What is hopeless -----------------------------------------------------------------------


def test_it_is_not_hopeless_while_an_open_call_may_be_refunded():
    budget = budget_of("adjust", tokens=[Rate(100, 60)])
    take(budget, "x.0", 100)
    budget.do("sent", "x.0", 0)

    open_call = take(budget, "a.0", 50, mode=QUEUE, left=5 * SECOND)
    budget.do("settle", "x.0", 0, 0, (100,))
    ended_call = take(budget, "a.0", 50, mode=QUEUE, left=5 * SECOND)

    assert [status(open_call), status(ended_call)] == ["wait", "late"]
    assert 59 * SECOND < ended_call[4] < 61 * SECOND
    assert budget.head.tickets == []


def test_it_is_hopeless_where_the_server_refunds_nothing():
    budget = budget_of("estimate", tokens=[Rate(100, 60)])
    take(budget, "x.0", 100)

    pending = take(budget, "a.0", 50, left=5 * SECOND)
    budget.do("sent", "x.0", 0)
    sent = take(budget, "a.0", 50, left=5 * SECOND)

    assert [status(pending), status(sent)] == ["wait", "late"]


# Leases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("charge", ["estimate", "adjust", "usage"])
def test_the_call_of_a_dead_process_counts_as_sent_when_its_lease_ends(charge):
    clock = Clock()
    budget = budget_of(charge, clock, tokens=[Rate(100, 60)])
    take(budget, "dead.0", 100, lease=5 * SECOND)

    clock.now += 65 * SECOND
    before = used(budget)
    clock.now += SECOND

    assert (before, used(budget)) == ([100], [0])
    assert budget.shelf.kept == {}


def test_a_sent_call_of_a_dead_process_expires_as_usual():
    clock = Clock()
    budget = budget_of(clock=clock, tokens=[Rate(100, 60)])
    take(budget, "dead.0", 100, lease=500 * SECOND)
    budget.do("sent", "dead.0", 0)

    clock.now += 61 * SECOND

    assert used(budget) == [0]


def test_one_who_settles_after_his_lease_changes_nothing():
    clock = Clock()
    budget = budget_of("adjust", clock, tokens=[Rate(100, 60)])
    take(budget, "slow.0", 100, lease=5 * SECOND)
    clock.now += 6 * SECOND

    answered(budget, "slow.0", 10)

    assert used(budget) == [100]


# What a store has forgotten --------------------------------------------------------------------


def enter(budget, fresh, known, version, lost=0, *, owed=0):
    return budget.do("enter", fresh, known, version, (lost,), (owed,))


def test_a_member_of_an_unknown_epoch_makes_good_what_may_be_lost():
    budget = budget_of(requests=[Rate(10, 60)])
    take(budget, "new.0", 1)

    answer = enter(budget, "fresh", "gone", 500, 10)

    assert (answer[1], used(budget)) == ("fresh", [10])


def test_what_was_lost_is_made_good_once():
    clock = Clock()
    budget = budget_of(clock=clock, requests=[Rate(10, 60)])
    enter(budget, "fresh", "gone", 500, 10)
    clock.now += 61 * SECOND

    second = enter(budget, "other", "gone", 490, 10)

    assert (second[1], used(budget)) == ("fresh", [0])


def test_a_store_that_went_back_in_time_is_found_out():
    budget = budget_of(requests=[Rate(10, 60)])
    take(budget, "a.0", 1)

    same = enter(budget, "fresh", "e", budget.head.version, 10)
    older = enter(budget, "fresh", "e", budget.head.version + 1, 10)

    assert (same[1], same[6]) == ("e", 1)
    assert (older[1], older[6]) == ("fresh", 10)


def test_what_a_member_used_without_asking_is_charged():
    budget = budget_of(requests=[Rate(10, 60)])

    answer = enter(budget, "fresh", "", 0, owed=4)

    assert (answer[1], answer[6]) == ("e", 4)


def test_a_clock_that_steps_back_stands_still():
    clock = Clock()
    budget = budget_of(clock=clock, requests=[Rate(1, 60)])
    take(budget, "a.0", 1)
    answered(budget, "a.0", 1)
    clock.now -= 3600 * SECOND

    before = take(budget, "b.0", 1, mode=QUEUE)
    clock.now += 3600 * SECOND + 61 * SECOND

    assert status(before) == "wait"
    assert status(take(budget, "b.1", 1)) == "granted"
