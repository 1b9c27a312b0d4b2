"""Random lives of a budget, judged by a model that shares no code with it.

The model keeps every charge in a plain list and counts by brute force. Two
claims after every step: nothing was granted that did not fit, and whoever is
first in the queue and fits is granted or has a timer that says when.
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
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from lionlite.exceptions import BudgetClosed, BudgetTimeout, RequestTooLarge
from lionlite.limits.budget import Budget
from lionlite.limits.entries import UNKNOWN, Entry
from lionlite.limits.ledger import LedgerBucket
from lionlite.limits.rates import Rate

pytestmark = pytest.mark.quick

LIMITS = {"requests": [(3, 1), (12, 10)], "tokens": [(100, 10)]}
GUARD_S = 0.02
COSTS = st.builds(
    lambda requests, tokens: {"requests": requests, "tokens": tokens},
    st.sampled_from([1, 1, 1, 2]),
    st.sampled_from([1, 5, 20, 40, 100]),
)


@attrs.define
class Charge:
    """One amount of one call: *at* is None while it is pending."""

    costs: dict[str, int]
    at: int | None = None


@attrs.define(eq=False)
class Call:
    entry: Entry
    costs: dict[str, int]
    charges: list[Charge] = attrs.Factory(list)


def nanoseconds(seconds):
    return int(seconds * 1e9 + 0.5)


class Life(RuleBasedStateMachine):
    calls = Bundle("calls")

    @initialize(charge=st.sampled_from(["estimate", "adjust", "usage"]), is_calm=st.booleans())
    def begin(self, charge, is_calm):
        # Half of the lives are without 429s, debt and close, which hide the rest.
        self.is_calm = is_calm
        self.clock_s = 100.0
        self.latest = 0
        self.charge = charge
        limits = {name: [Rate(*rate) for rate in rates] for name, rates in LIMITS.items()}
        ledger = LedgerBucket(limits, charge=charge, clock=lambda: self.clock_s)
        self.budget = Budget(ledger)
        self.waiting: list[Call] = []
        self.running: list[Call] = []
        self.charges: list[Charge] = []
        self.is_in_debt = False
        self.refusals = 0
        self.guard_s = GUARD_S
        self.closed = False
        self.head = (None, UNKNOWN)

    # The model -----------------------------------------------------------------

    @property
    def now(self):
        """The latest instant ever seen: a step back is a stall."""
        self.latest = max(self.latest, nanoseconds(self.clock_s))
        return self.latest

    def used(self, name, interval_s):
        start = self.now - nanoseconds(interval_s)
        return sum(
            charge.costs.get(name, 0)
            for charge in self.charges
            if charge.at is None or charge.at >= start
        )

    def fits(self, costs):
        return all(
            not costs.get(name) or self.used(name, interval_s) + costs[name] <= limit
            for name, rates in LIMITS.items()
            for limit, interval_s in rates
        )

    def note_grants(self, granted):
        for entry in granted:
            if entry.failure is not None:
                continue
            [call] = [call for call in self.waiting if call.entry is entry]
            ahead = self.waiting[: self.waiting.index(call)]
            assert self.fits(call.costs), "granted what does not fit"
            assert call.costs not in [other.costs for other in ahead], "passed an equal"
            self.waiting.remove(call)
            self.charge_for(call)

    def charge_for(self, call):
        costs = dict(call.costs)
        if self.charge == "usage":
            later = {"tokens": costs.pop("tokens")}
            call.charges = [Charge(costs), Charge(later)]
        else:
            call.charges = [Charge(costs)]
        self.charges += call.charges
        self.running.append(call)

    # What may happen ---------------------------------------------------------------

    @rule(target=calls, costs=COSTS, left_s=st.sampled_from([0.5, 5.0, math.inf]))
    def reserve(self, costs, left_s):
        self.now  # noqa: B018 - the model sees the clock whenever the budget does
        call = Call(Entry(dict(costs)), costs)
        self.waiting.append(call)
        try:
            if self.budget.admit(call.entry):
                self.note_grants([call.entry])
            else:
                self.note_grants(self.budget.join(call.entry, left_s))
        except BudgetClosed:
            assert self.closed
        except BudgetTimeout as error:
            is_hopeless = left_s < 10 and (not self.fits(costs) or self.refusals > 0)
            assert (is_hopeless, error.retry_after_s > 0) == (True, True)  # noqa: PT017
        else:
            return call
        self.waiting.remove(call)
        return multiple()

    @rule(costs=st.sampled_from([{"requests": 4}, {"requests": 1, "tokens": 101}]))
    def reserve_too_much(self, costs):
        if not self.closed:
            with pytest.raises(RequestTooLarge):
                self.budget.join(Entry(costs), math.inf)

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.3, 1.0, 4.0, 10.0]))
    def time_passes(self, seconds):
        """In steps, as the timer of the head would see it."""
        until_s = self.clock_s + seconds
        while (due_s := (self.budget.look_at + 1) / 1e9) <= until_s:
            self.clock_s = max(self.clock_s, due_s)
            self.now  # noqa: B018
            self.note_grants(self.budget.pump())
        self.clock_s = until_s

    @rule(seconds=st.sampled_from([0.5, 3.0, 30.0]))
    def the_process_stalls(self, seconds):
        self.clock_s += seconds
        self.now  # noqa: B018
        self.note_grants(self.budget.pump())

    @rule(seconds=st.sampled_from([0.01, 0.5, 2.0]))
    def the_clock_steps_back(self, seconds):
        self.clock_s -= seconds
        self.note_grants(self.budget.pump())

    @rule()
    def every_call_is_answered(self):
        for call in self.running:
            self.the_request_leaves(call)
            self.the_reply_begins(call)

    @rule(call=calls)
    def the_request_leaves(self, call):
        entry = call.entry
        if not entry.is_granted or entry.is_ended or entry.is_sent:
            return
        call.charges[0].at = self.now + nanoseconds(self.guard_s)
        self.note_grants(self.budget.sent(entry))

    @rule(call=calls)
    def the_reply_begins(self, call):
        entry = call.entry
        if not entry.is_sent or entry.is_ended:
            return
        call.charges[0].at = min(call.charges[0].at, self.now)
        self.note_grants(self.budget.replied(entry))

    @rule(call=consumes(calls), share=st.sampled_from([None, 0, 0.5, 1, 2]))
    def the_call_ends(self, call, share):
        entry = call.entry
        if not entry.is_granted or entry.is_ended:
            return
        now = self.now
        guarded = now + nanoseconds(self.guard_s)
        first, last = call.charges[0], call.charges[-1]
        if first.at is None:
            first.at = guarded
        if share is not None:
            first.at = min(first.at, now)
        if last.at is None:
            last.at = guarded if share is None else now
        if share == 2 and self.is_calm:
            share = 1
        actual = {} if share is None else {"tokens": int(call.costs["tokens"] * share)}
        estimate = call.costs["tokens"]
        used = actual.get("tokens", estimate)
        self.is_in_debt |= used > estimate
        last.costs["tokens"] = max(used, estimate) if self.charge == "estimate" else used
        self.note_grants(self.budget.settle(entry, actual))
        assert self.budget.settle(entry, {"tokens": 10**6}) == []

    @rule(call=consumes(calls))
    def the_call_is_cancelled_or_times_out(self, call):
        entry = call.entry
        if entry.is_sent:
            return
        if call in self.waiting:
            self.waiting.remove(call)
        for charge in call.charges:
            if charge in self.charges and not entry.is_ended:
                self.charges = [kept for kept in self.charges if kept is not charge]
        self.note_grants(self.budget.leave(entry))

    @precondition(lambda self: not self.is_calm)
    @rule(seconds=st.sampled_from([0, 1, 7]))
    def the_server_refuses(self, seconds):
        self.now  # noqa: B018
        was_in_debt = any(
            self.used(name, interval_s) > limit
            for name, rates in LIMITS.items()
            for limit, interval_s in rates
        )
        self.refusals += 1
        self.note_grants(self.budget.refused(None, seconds))
        if not was_in_debt:
            self.guard_s = min(self.guard_s * 2, 0.1)

    @precondition(lambda self: not self.is_calm)
    @rule(seconds=st.sampled_from([0.5, 3]))
    def someone_pauses(self, seconds):
        self.refusals += 1
        self.note_grants(self.budget.pause(seconds))
        assert self.budget.gate.paused_until >= self.now + nanoseconds(seconds) - 1_000

    @precondition(lambda self: not self.is_calm and len(self.charges) > 12)
    @rule()
    def the_service_closes(self):
        self.closed = True
        refused = self.budget.close()
        assert [call.entry for call in self.waiting] == refused
        assert all(isinstance(entry.failure, BudgetClosed) for entry in refused)
        self.waiting.clear()

    # What must hold ------------------------------------------------------------------

    @invariant()
    def the_sums_are_those_of_the_model(self):
        self.now  # noqa: B018
        self.budget.ledger.tick()
        for window in self.budget.ledger.windows:
            interval_s = window.interval_ns / 1e9
            assert window.used == {name: self.used(name, interval_s) for name in window.limits}

    @invariant()
    def the_queue_is_that_of_the_model(self):
        assert [call.entry for call in self.waiting] == list(self.budget.queue)

    @invariant()
    def whoever_is_first_and_fits_is_not_left_waiting(self):
        if self.waiting and self.budget.gate.is_open and self.fits(self.waiting[0].costs):
            assert self.budget.look_at <= self.now

    @invariant()
    def nobody_delays_the_head(self):
        head, head_at = (self.budget.queue or [None])[0], self.budget.head_at
        is_comparable = not self.is_in_debt and not self.refusals
        if head is not None and head is self.head[0] and is_comparable:
            assert head_at <= self.head[1]
        self.head = (head, head_at)

    def teardown(self):
        """Without debt no window of stamps, however it is cut, is over a limit."""
        if not hasattr(self, "charges") or self.is_in_debt:
            return
        stamped = [charge for charge in self.charges if charge.at is not None]
        for name, rates in LIMITS.items():
            for limit, interval_s in rates:
                for first in stamped:
                    until = first.at + nanoseconds(interval_s)
                    inside = [one for one in stamped if first.at <= one.at <= until]
                    assert sum(one.costs.get(name, 0) for one in inside) <= limit


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
