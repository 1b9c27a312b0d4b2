"""What is told without the lock comes to what it would under the lock.

Two machines. The first gives the same life to two budgets, of which one always
takes the lock: they must agree on every charge, stamp, grant and instant. The
second lets threads stall between reading the clock and telling, steps the clock
back and merges early; there a list judges that knows the real instants: a
charge counts for as long as the server may count it, and no more is released
than was charged.
"""

from __future__ import annotations

import math

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from lionlite.exceptions import BudgetClosed, RequestTooLarge
from lionlite.limits import windows
from lionlite.limits.budget import Budget
from lionlite.limits.desk import Desk
from lionlite.limits.entries import Entry
from lionlite.limits.ledger import LedgerBucket
from lionlite.limits.rates import Rate

pytestmark = pytest.mark.quick

LIMITS = {"requests": [(3, 1), (12, 10)], "tokens": [(100, 10)]}
LONGEST_S = 10
CHARGES = st.sampled_from(["estimate", "adjust", "usage"])
COSTS = st.builds(
    lambda requests, tokens: {"requests": requests, "tokens": tokens},
    st.sampled_from([1, 1, 1, 2]),
    st.sampled_from([1, 5, 20, 40, 100]),
)
SECONDS = st.sampled_from([0, 0.001, 0.01, 0.02, 0.3, 1.0, 4.0, 10.0])
SHARES = st.sampled_from([None, 0, 0.5, 1, 2])


def rates_of(limits):
    return {name: [Rate(*rate) for rate in rates] for name, rates in limits.items()}


def used_of(costs, share):
    return {} if share is None else {"tokens": int(costs["tokens"] * share)}


class Locked(Desk):
    """Takes the lock for all that it is told: how it was, and what is meant."""

    def sent(self, entry):
        with self.lock:
            self._wake(self.budget.sent(entry))

    def replied(self, entry):
        with self.lock:
            self._wake(self.budget.replied(entry))


def books_of(ledger):
    """The charges that count, by window: in the log, and pending."""
    nodes = [entry.arrival for entry in ledger.live]
    nodes += [entry.completion for entry in ledger.live if entry.completion is not None]
    pending = [node for node in nodes if node.is_pending]
    return [
        {
            name: sum(node.costs.get(name, 0) for node in [*window.nodes, *pending])
            for name in window.limits
        }
        for window in ledger.windows
    ]


def used_in(ledger):
    return [dict(window.used) for window in ledger.windows]


def is_in_order(ledger):
    stamps = [[node.stamp for node in window.nodes] for window in ledger.windows]
    return all(one == sorted(one) for one in stamps)


class Lives(RuleBasedStateMachine):
    """What both machines do, to every desk in the same way."""

    calls = Bundle("calls")
    desk_types: tuple[type[Desk], ...] = (Desk,)
    desks: tuple[Desk, ...] = ()

    def open(self, charge, most=None):
        self.clock_s = 100.0
        self.entries: list[list[Entry]] = []
        for kind in self.desk_types:
            ledger = LedgerBucket(rates_of(LIMITS), charge=charge, clock=lambda: self.clock_s)
            self.desks += (kind(Budget(ledger, max_concurrency=most)),)

    def reserve_in_all(self, costs):
        entries = [Entry(dict(costs)) for _ in self.desks]
        for desk, entry in zip(self.desks, entries, strict=True):
            try:
                if not desk.admit(entry):
                    desk.join(entry, math.inf)
            except (BudgetClosed, RequestTooLarge) as error:
                entry.failure = error
        self.entries.append(entries)
        return entries

    def pass_time(self, seconds):
        """In steps, as the timer of each head would see it."""
        until_s = self.clock_s + seconds
        while (due_s := self.next_look_s()) <= until_s:
            self.clock_s = max(self.clock_s, due_s)
            self.look()
        self.clock_s = until_s

    def next_look_s(self):
        budgets = [desk.budget for desk in self.desks if desk.budget.queue]
        return min((budget.look_at + 1) / 1e9 for budget in budgets) if budgets else math.inf

    def look(self):
        for desk in self.desks:
            if desk.budget.queue:
                desk.nap_s(desk.budget.queue[0])

    @invariant()
    def the_sums_are_those_of_the_books(self):
        for desk in self.desks:
            ledger = desk.budget.ledger
            assert used_in(ledger) == books_of(ledger)
            assert is_in_order(ledger)

    @invariant()
    def who_is_first_and_fits_has_a_timer_that_rang(self):
        for desk in self.desks:
            budget = desk.budget
            if budget.queue and not budget.ledger._unnoted:
                free_at = budget._free_at(budget.queue[0], budget.ledger._now)
                assert budget.look_at <= max(free_at, budget.ledger._now)

    def teardown(self):
        """When all has ended and time has passed, nothing is left."""
        for desk in self.desks:
            ledger = desk.budget.ledger
            desk.close()
            for entry in list(ledger.live):
                desk.settle(entry, {})
            self.clock_s += 1_000
            ledger.tick()
            assert [len(window) for window in ledger.windows] == [0] * len(ledger.windows)
            assert not any(count for used in used_in(ledger) for count in used.values())


class Twins(Lives):
    """Told without the lock, and always under it."""

    calls = Bundle("calls")
    desk_types = (Desk, Locked)

    @initialize(charge=CHARGES, most=st.sampled_from([None, None, 3]))
    def begin(self, charge, most):
        self.open(charge, most)

    @rule(target=calls, costs=COSTS)
    def reserve(self, costs):
        return self.reserve_in_all(costs)

    @rule(seconds=SECONDS)
    def time_passes(self, seconds):
        self.pass_time(seconds)

    @rule(seconds=st.sampled_from([0.5, 3.0, 30.0]))
    def the_process_stalls(self, seconds):
        self.clock_s += seconds

    @rule()
    def the_head_looks(self):
        self.look()

    @rule(call=calls)
    def the_request_leaves(self, call):
        for desk, entry in zip(self.desks, call, strict=True):
            # Not twice: of two instants the account may take either.
            if entry.is_granted and not entry.is_ended and entry.sent_at < 0:
                desk.sent(entry)

    @rule(call=calls)
    def the_reply_begins(self, call):
        for desk, entry in zip(self.desks, call, strict=True):
            if entry.is_granted and entry.sent_at >= 0 and entry.replied_at < 0:
                desk.replied(entry)

    @rule(call=calls, share=SHARES)
    def the_call_ends(self, call, share):
        for desk, entry in zip(self.desks, call, strict=True):
            if entry.is_granted:
                desk.settle(entry, used_of(entry.costs, share))

    @rule(call=calls)
    def the_call_is_cancelled(self, call):
        for desk, entry in zip(self.desks, call, strict=True):
            if entry.sent_at < 0 and not entry.is_ended:
                desk.leave(entry)

    @rule(call=calls, seconds=st.sampled_from([None, 0, 1]))
    def the_server_refuses(self, call, seconds):
        for desk, entry in zip(self.desks, call, strict=True):
            if entry.is_granted:
                desk.refused(entry, seconds)

    @rule(seconds=st.sampled_from([0, 0.5, 3]))
    def someone_pauses(self, seconds):
        for desk in self.desks:
            desk.pause(seconds)

    @rule(used=st.sampled_from([1, 3, 12, 60]), name=st.sampled_from(list(LIMITS)))
    def the_server_counts_more(self, name, used):
        for desk in self.desks:
            desk.tighten(name, used)

    @rule(
        name=st.sampled_from(list(LIMITS)),
        rates=st.sampled_from([[], [(2, 1)], [(150, 10)], [(5, 0.5), (30, 7)], [(120, 60)]]),
    )
    def limits_change(self, name, rates):
        for desk in self.desks:
            desk.set_rates(name, [Rate(*rate) for rate in rates])

    @rule(charge=CHARGES)
    def the_charging_changes(self, charge):
        for desk in self.desks:
            desk.set_charge(charge)

    @rule(is_sure=st.integers(0, 9))
    def the_process_is_forked(self, is_sure):
        for desk in self.desks if is_sure == 0 else ():
            desk.renew_after_fork()

    @rule(is_sure=st.integers(0, 9))
    def the_service_closes(self, is_sure):
        for desk in self.desks if is_sure == 0 else ():
            desk.close()

    @invariant()
    def nobody_is_granted_at_another_instant(self):
        if self.desks:
            told, locked = (desk.budget for desk in self.desks)
            assert told.granted == locked.granted
            assert (told.look_at, told.head_at) == (locked.look_at, locked.head_at)
            assert [entry.costs for entry in told.queue] == [one.costs for one in locked.queue]
            assert all(one.granted_at == other.granted_at for one, other in self.entries)

    @invariant()
    def what_was_told_counts_until_it_is_noted(self):
        if self.desks:
            told, locked = (desk.budget.ledger for desk in self.desks)
            for ours, theirs in zip(used_in(told), used_in(locked), strict=True):
                assert all(ours[name] >= theirs[name] for name in ours)

    @invariant()
    def what_is_noted_is_the_same(self):
        if not self.desks:
            return
        told, locked = (desk.budget.ledger for desk in self.desks)
        if not told._unnoted and told._now == locked._now:
            assert used_in(told) == used_in(locked)
            assert logged(told) == logged(locked)
            assert (told.guard_ns, told._stale_at) == (locked.guard_ns, locked._stale_at)


def logged(ledger):
    return [
        sorted((node.stamp, sorted(node.costs.items())) for node in window.nodes)
        for window in ledger.windows
    ]


@attrs.define(eq=False)
class Arrival:
    """An amount that the server counts: *latest_s* is None while it may still arrive."""

    costs: dict[str, int]
    latest_s: float | None = None


@attrs.define(eq=False)
class Truth:
    """What really became of a call."""

    entry: Entry
    arrivals: list[Arrival] = attrs.Factory(list)
    is_sending: bool = False
    is_telling: str = ""


class Stalls(Lives):
    """Threads that stall in the middle of telling, a clock that steps back, early merging."""

    calls = Bundle("calls")

    @initialize(charge=CHARGES, merge_from=st.sampled_from([2, 2048]))
    def begin(self, charge, merge_from):
        self._merge_from, windows.MERGE_FROM = windows.MERGE_FROM, merge_from
        self.open(charge)
        self.desk = self.desks[0]
        self.charge = charge
        self.real_s = 0.0
        self.known: list[Truth] = []

    @property
    def guard_s(self):
        return self.desk.budget.ledger.guard_ns / 1e9

    def advance(self, seconds):
        before_s = self.clock_s
        self.pass_time(seconds)
        self.real_s += self.clock_s - before_s

    @rule(target=calls, costs=COSTS)
    def reserve(self, costs):
        [entry] = self.reserve_in_all(costs)
        self.known.append(Truth(entry))
        return self.known[-1]

    @rule(seconds=SECONDS)
    def time_passes(self, seconds):
        self.advance(seconds)

    @rule(seconds=st.sampled_from([0.01, 0.5, 2.0, 20.0]))
    def the_clock_steps_back(self, seconds):
        self.clock_s -= seconds

    @rule(seconds=st.sampled_from([0.01, 0.5, 2.0, 20.0]))
    def the_clock_stands_still(self, seconds):
        self.real_s += seconds

    def count(self, call):
        """Let the server count the call, if it is granted and nobody did so."""
        if call.entry.is_granted and not call.arrivals:
            now, later = dict(call.entry.costs), {}
            if call.entry.completion is not None:
                later = {"tokens": now.pop("tokens")}
            call.arrivals = [Arrival(now), Arrival(later)]

    @rule(call=calls, is_slow=st.booleans())
    def the_request_leaves(self, call, is_slow):
        entry = call.entry
        if entry.is_granted and not entry.is_ended and entry.sent_at < 0:
            self.count(call)
            call.arrivals[0].latest_s = self.real_s + self.guard_s
            self.tell(call, "sent", is_slow=is_slow)

    @rule(call=calls, is_slow=st.booleans())
    def the_reply_begins(self, call, is_slow):
        entry = call.entry
        is_known = entry.sent_at >= 0 and entry.replied_at < 0 and not call.is_telling
        if entry.is_granted and not entry.is_ended and is_known:
            call.arrivals[0].latest_s = min(call.arrivals[0].latest_s, self.real_s)
            self.tell(call, "replied", is_slow=is_slow)

    def tell(self, call, what, *, is_slow):
        if not is_slow:
            getattr(self.desk, what)(call.entry)
            return
        # As tell_sent and tell_replied: the clock is read, and the thread stalls.
        ledger = self.desk.budget.ledger
        setattr(call.entry, f"{what}_at", max(ledger._clock_ns(), ledger._now))
        call.is_telling = what

    @rule(call=calls)
    def it_goes_on(self, call):
        if call.is_telling:
            ledger, what, call.is_telling = self.desk.budget.ledger, call.is_telling, ""
            tell = f"tell_{what}"
            setattr(ledger, tell, ledger._unnoted.append)
            getattr(self.desk, what)(call.entry)
            delattr(ledger, tell)

    @rule(call=calls, seconds=st.sampled_from([0.01, 0.98, 4.0, 10.0]))
    def a_reply_is_told_late(self, call, seconds):
        """After its charge has expired in the short window, or in both."""
        if call.entry.is_granted and not call.entry.is_ended and call.entry.sent_at < 0:
            self.the_request_leaves(call, is_slow=False)
            self.desk.tighten("tokens", 0)
            self.the_reply_begins(call, is_slow=True)
            self.advance(seconds)
            self.desk.tighten("tokens", 0)
            self.it_goes_on(call)

    @rule(number=st.integers(2, 5), apart_s=st.sampled_from([0, 0.0004, 0.004, 0.02]))
    def some_come_at_once(self, number, apart_s):
        """So that neighbours are merged."""
        for _ in range(number):
            call = self.reserve({"tokens": 1})
            self.the_request_leaves(call, is_slow=False)
            self.the_reply_begins(call, is_slow=False)
            self.the_call_ends(call, 1)
            self.advance(apart_s)

    @rule(call=calls, share=SHARES)
    def the_call_ends(self, call, share):
        entry = call.entry
        if not entry.is_granted or entry.is_ended:
            return
        self.it_goes_on(call)
        self.count(call)
        guarded_s = self.real_s + self.guard_s
        first, last = call.arrivals
        first.latest_s = guarded_s if first.latest_s is None else first.latest_s
        if share is not None:
            first.latest_s = min(first.latest_s, self.real_s)
        last.latest_s = guarded_s if share is None else self.real_s
        actual = used_of(entry.costs, share)
        charged = first if entry.completion is None else last
        if "tokens" in actual and (self.charge != "estimate" or share > 1):
            charged.costs["tokens"] = actual["tokens"]
        self.desk.settle(entry, actual)

    @rule(call=calls)
    def the_call_is_cancelled(self, call):
        if call.entry.sent_at < 0 and not call.entry.is_ended:
            self.desk.leave(call.entry)
            call.arrivals = []
            self.known.remove(call)
            call.entry.is_ended = True

    @rule(seconds=st.sampled_from([0, 1]))
    def the_server_refuses(self, seconds):
        self.desk.refused(None, seconds)

    @rule(limit=st.sampled_from([2, 3, 9]))
    def a_limit_changes(self, limit):
        self.desk.set_rates("requests", [Rate(limit, 1), Rate(12, 10)])

    @precondition(lambda self: len(self.known) > 5)
    @rule()
    def the_process_is_forked(self):
        for call in self.known:
            if call.entry.is_granted and not call.entry.is_ended:
                self.it_goes_on(call)
                self.count(call)
                for one in call.arrivals:
                    if one.latest_s is None:
                        one.latest_s = self.real_s + self.guard_s
        self.desk.renew_after_fork()

    @invariant()
    def whatever_the_server_may_count_is_counted(self):
        if not hasattr(self, "known"):
            return
        for call in self.known:
            self.count(call)
        ledger = self.desk.budget.ledger
        for window in ledger.windows:
            since_s = self.real_s - window.interval_ns / 1e9
            for name, used in window.used.items():
                true = sum(
                    one.costs.get(name, 0)
                    for call in self.known
                    for one in call.arrivals
                    # A nanosecond: the model reckons in floats.
                    if one.latest_s is None or one.latest_s >= since_s + 1e-8
                )
                assert used >= true

    def teardown(self):
        if hasattr(self, "_merge_from"):
            windows.MERGE_FROM = self._merge_from
        super().teardown()


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestStalls = Stalls.TestCase
TestStalls.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
