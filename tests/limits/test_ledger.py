"""The accounting: what fits when, in every mode of charging."""

from __future__ import annotations

import random
import tracemalloc

import pyrate_limiter
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lionlite.exceptions import ConfigError
from lionlite.limits.entries import UNKNOWN, Entry
from lionlite.limits.ledger import LedgerBucket
from lionlite.limits.rates import Rate

pytestmark = pytest.mark.quick

SECOND = 1_000_000_000
GUARD_60 = 100_000_000


def used(ledger):
    ledger.tick()
    return [dict(window.used) for window in ledger.windows]


def taken(ledger, **costs):
    ledger.tick()
    entry = Entry(costs)
    ledger.take(entry)
    return entry


def sent(ledger, **costs):
    entry = taken(ledger, **costs)
    ledger.sent(entry)
    return entry


# pyrate-limiter is the judge ---------------------------------------------------


class Milliseconds(pyrate_limiter.AbstractClock):
    def __init__(self):
        self.now_ms = 5_000

    def now(self):
        return self.now_ms


def beside_stock(rates):
    time = Milliseconds()
    stock = pyrate_limiter.InMemoryBucket(rates)
    stock._clock = time
    return time, stock, LedgerBucket(rates, clock=lambda: time.now_ms / 1000)


STEPS = st.lists(st.tuples(st.integers(0, 700), st.integers(1, 12)), max_size=60)


@given(STEPS)
@example([(0, 10), (0, 1), (0, 12), (999, 1), (1, 1), (1, 1)])
def test_decisions_and_waits_equal_those_of_the_stock_bucket(steps):
    time, stock, ledger = beside_stock([pyrate_limiter.Rate(10, 1_000)])

    for step_ms, weight in steps:
        time.now_ms += step_ms
        theirs = stock.put_decision(pyrate_limiter.RateItem("x", time.now_ms, weight))
        ours = ledger.put_decision(pyrate_limiter.RateItem("x", time.now_ms, weight))
        assert (ours.allowed, ours.retry_after_ms) == (theirs.allowed, theirs.retry_after_ms)


@given(STEPS)
def test_decisions_equal_those_of_the_stock_bucket_with_two_rates(steps):
    rates = [pyrate_limiter.Rate(10, 1_000), pyrate_limiter.Rate(24, 4_000)]
    time, stock, ledger = beside_stock(rates)

    for step_ms, weight in steps:
        time.now_ms += step_ms
        item = pyrate_limiter.RateItem("x", time.now_ms, weight)
        assert ledger.put(item) == stock.put(item)
        assert ledger.waiting(item) == -1 if weight > 10 else ledger.waiting(item) >= 0


def test_a_stock_limiter_can_drive_the_ledger():
    ledger = LedgerBucket({"requests": [Rate(3, 60)], "tokens": [Rate(100, 60)]})
    with pyrate_limiter.Limiter(
        pyrate_limiter.SingleBucketFactory(ledger, schedule_leak=False)
    ) as limiter:
        granted = [limiter.try_acquire(weight=w, blocking=False) for w in (60, 60, 40, 1)]

    assert granted == [True, False, True, False]
    assert ledger.count() == 100
    assert ledger.peek(0).weight == 40
    assert ledger.peek(40).weight == 60
    assert ledger.peek(100) is None
    assert ledger.failing_rate.limit == 100


def test_a_stock_limiter_waits_as_long_as_the_ledger_says(clock):
    ledger = LedgerBucket([pyrate_limiter.Rate(10, 1_000)], clock=clock)
    item = pyrate_limiter.RateItem("x", 0, 10)

    assert ledger.put(item)
    assert not ledger.put(item)
    assert ledger.waiting(item) == 1_001
    assert ledger.put_decision(item).retry_after_ms == 1_001
    clock.advance(1.001)
    assert ledger.waiting(item) == 0
    assert ledger.leak(0) == 0
    assert ledger.put(item)
    clock.advance(2)
    assert ledger.leak(0) == 1
    ledger.put(item)
    ledger.flush()
    assert (ledger.count(), ledger.failing_rate, ledger.now()) == (0, None, 1_003_001)


def test_an_item_without_weight_is_free_and_a_negative_one_refused(clock):
    ledger = LedgerBucket([pyrate_limiter.Rate(10, 1_000)], clock=clock)

    assert ledger.put(pyrate_limiter.RateItem("x", 0, 0))
    assert ledger.count() == 0
    with pytest.raises(ConfigError, match="weight takes an int >= 0; got -5"):
        ledger.put(pyrate_limiter.RateItem("x", 0, -5))


# Dimensions and rates ------------------------------------------------------------


def test_requests_and_tokens_of_one_interval_share_a_ledger(clock):
    ledger = LedgerBucket({"requests": [Rate(2, 60)], "tokens": [Rate(100, 60)]}, clock=clock)

    taken(ledger, requests=1, tokens=90)

    assert used(ledger) == [{"requests": 1, "tokens": 90}]
    assert ledger.due({"requests": 1, "tokens": 10}) == 0
    assert ledger.due({"requests": 1, "tokens": 11}) == UNKNOWN
    assert used(ledger) == [{"requests": 1, "tokens": 90}]


def test_the_slowest_rate_decides(clock):
    rates = {"requests": [Rate(1, 1), Rate(2, 60)]}
    ledger = LedgerBucket(rates, clock=clock)
    for _ in range(2):
        ledger.replied(sent(ledger, requests=1))

    due = ledger.due({"requests": 1})

    assert due == 1_000 * SECOND + 60 * SECOND + 1


def test_a_dimension_that_costs_nothing_is_not_asked(clock):
    ledger = LedgerBucket({"requests": [Rate(5, 60)], "tokens": [Rate(10, 60)]}, clock=clock)
    ledger.settle(sent(ledger, tokens=10), {"tokens": 50})

    assert ledger.is_in_debt
    assert ledger.due({"requests": 1}) == 0


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        ({"requests": [Rate(1, 60), Rate(2, 60.0)]}, "two rates of one interval"),
        ({"requests": [Rate(0, 60)]}, r"limits\['requests'\] takes a whole number >= 1"),
        ({"requests": [Rate(5, -1)]}, "interval takes seconds"),
        ({"requests": ["5/minute"]}, "see limit\\(\\) and parse_limits\\(\\)"),
        ({"requests": 5}, "takes a list of rates"),
    ],
)
def test_rates_that_are_none_are_refused(limits, match):
    with pytest.raises(ConfigError, match=match):
        LedgerBucket(limits)


def test_an_unknown_charge_lists_the_known_ones():
    with pytest.raises(ConfigError, match="charge= takes estimate, adjust, usage; got 'all'"):
        LedgerBucket({}, charge="all")


# The life of an entry ------------------------------------------------------------


def test_a_pending_entry_never_expires(clock):
    ledger = LedgerBucket({"requests": [Rate(1, 1)]}, clock=clock)
    entry = taken(ledger, requests=1)

    clock.advance(1_000_000)

    assert used(ledger) == [{"requests": 1}]
    assert ledger.due({"requests": 1}) == UNKNOWN
    ledger.sent(entry)
    assert ledger.due({"requests": 1}) == 1_001_000 * SECOND + SECOND + 20_000_000 + 1


def test_a_stamp_is_the_end_of_sending_plus_the_guard_until_a_reply_lowers_it(clock):
    ledger = LedgerBucket({"requests": [Rate(1, 60)]}, clock=clock)
    entry = sent(ledger, requests=1)
    sent_at = entry.arrival.stamp
    clock.advance(0.03)
    ledger.tick()

    is_lower = ledger.replied(entry)

    assert (sent_at, is_lower) == (1_000 * SECOND + GUARD_60, True)
    assert entry.arrival.stamp == 1_000 * SECOND + 30_000_000
    clock.advance(5)
    ledger.tick()
    assert not ledger.replied(entry)


def test_an_entry_counts_to_the_very_end_of_its_interval(clock):
    ledger = LedgerBucket({"requests": [Rate(1, 60)]}, clock=clock)
    ledger.replied(sent(ledger, requests=1))

    clock.advance(60)
    at_the_end = used(ledger)
    clock.advance(0.000_001)

    assert (at_the_end, used(ledger)) == ([{"requests": 1}], [{"requests": 0}])


def test_stamps_that_come_out_of_order_expire_in_order(clock):
    ledger = LedgerBucket({"tokens": [Rate(100, 60)]}, clock=clock)
    first, second = sent(ledger, tokens=1), sent(ledger, tokens=10)
    ledger.replied(second)
    clock.advance(0.05)
    ledger.tick()
    ledger.replied(first)

    clock.advance(59.96)

    assert used(ledger) == [{"tokens": 1}]


@pytest.mark.parametrize("seconds", [-3_600, -0.001, 0])
def test_a_clock_that_steps_back_frees_nothing(clock, seconds):
    ledger = LedgerBucket({"requests": [Rate(1, 60)]}, clock=clock)
    clock.advance(30)
    ledger.replied(sent(ledger, requests=1))

    clock.advance(seconds)
    at = ledger.tick()

    assert at == 1_030 * SECOND
    assert ledger.due({"requests": 1}) == 1_090 * SECOND + 1


@pytest.mark.parametrize(
    ("charge", "actual", "then"),
    [
        ("estimate", {"tokens": 30}, 100),
        ("estimate", {"tokens": 130}, 130),
        ("estimate", {}, 100),
        ("adjust", {"tokens": 30}, 30),
        ("adjust", {"tokens": 130}, 130),
        ("adjust", {}, 100),
        ("usage", {"tokens": 30}, 30),
        ("usage", {"tokens": 130}, 130),
        ("usage", {}, 100),
    ],
)
def test_the_mode_of_charging_decides_what_settling_does(clock, charge, actual, then):
    ledger = LedgerBucket(
        {"requests": [Rate(9, 60)], "tokens": [Rate(500, 60)]}, charge=charge, clock=clock
    )
    entry = sent(ledger, requests=1, tokens=100)
    ledger.settle(entry, {**actual, "requests": 0})
    ledger.settle(entry, {"tokens": 400})

    assert used(ledger) == [{"requests": 1, "tokens": then}]


def test_usage_is_charged_when_the_call_ends_but_requests_when_they_arrive(clock):
    limits = {"requests": [Rate(9, 60)], "tokens": [Rate(500, 60)]}
    ledger = LedgerBucket(limits, charge="usage", clock=clock)
    entry = sent(ledger, requests=1, tokens=100)
    clock.advance(50)
    ledger.tick()
    ledger.settle(entry, {"tokens": 70})

    clock.advance(11)
    after_arrival = used(ledger)
    clock.advance(50)

    assert after_arrival == [{"requests": 0, "tokens": 70}]
    assert used(ledger) == [{"requests": 0, "tokens": 0}]


def test_settling_after_the_interval_changes_nothing(clock):
    ledger = LedgerBucket({"tokens": [Rate(500, 60)]}, charge="adjust", clock=clock)
    entry = sent(ledger, tokens=100)
    clock.advance(61)
    ledger.tick()

    ledger.settle(entry, {"tokens": 400})

    assert used(ledger) == [{"tokens": 0}]


def test_a_reply_that_began_before_all_was_sent_is_corrected_too(clock):
    """Its stamp was too old to be corrected, but not yet dropped: 60 tokens stayed for ever."""
    ledger = LedgerBucket({"tokens": [Rate(500, 1)]}, charge="adjust", clock=clock)
    entry = taken(ledger, tokens=100)
    ledger.replied(entry)
    clock.advance(5)
    ledger.tick()

    ledger.settle(entry, {"tokens": 40})

    assert used(ledger) == [{"tokens": 40}]
    clock.advance(2)
    assert used(ledger) == [{"tokens": 0}]


def test_what_is_told_too_late_is_dropped_though_the_clock_stands_still(clock):
    ledger = LedgerBucket({"tokens": [Rate(500, 1)]}, charge="adjust", clock=clock)
    entry = taken(ledger, tokens=100)
    entry.sent_at = ledger.tick()
    clock.advance(5)
    ledger.tick()
    ledger._unnoted.append(entry)

    ledger.tick()
    ledger.settle(entry, {"tokens": 40})

    assert used(ledger) == [{"tokens": 0}]


def test_settling_corrects_only_the_windows_that_still_hold_the_call(clock):
    rates = {"tokens": [Rate(500, 1), Rate(900, 60)]}
    ledger = LedgerBucket(rates, charge="adjust", clock=clock)
    entry = sent(ledger, tokens=100)
    clock.advance(10)
    ledger.tick()

    ledger.settle(entry, {"tokens": 40})

    assert used(ledger) == [{"tokens": 0}, {"tokens": 40}]


def test_giving_back_restores_every_dimension(clock):
    ledger = LedgerBucket({"requests": [Rate(1, 60)], "tokens": [Rate(9, 60)]}, clock=clock)
    entry = taken(ledger, requests=1, tokens=9)

    ledger.give_back(entry)
    ledger.give_back(entry)

    assert used(ledger) == [{"requests": 0, "tokens": 0}]
    assert not ledger.live


def test_debt_delays_until_enough_of_it_has_expired(clock):
    ledger = LedgerBucket({"tokens": [Rate(1_000, 60)]}, clock=clock)
    ledger.settle(sent(ledger, tokens=900), {"tokens": 1_500})
    clock.advance(10)
    ledger.settle(sent(ledger, tokens=200), {"tokens": 200})

    assert used(ledger) == [{"tokens": 1_700}]
    assert ledger.due({"tokens": 100}) == 1_060 * SECOND + 1


def test_what_is_used_beside_the_estimate_is_debt_too(clock):
    ledger = LedgerBucket({"output": [Rate(100, 60)]}, clock=clock)

    ledger.settle(sent(ledger, requests=1), {"output": 150})

    assert used(ledger) == [{"output": 150}]


# At best, and about --------------------------------------------------------------


def test_at_best_every_pending_call_is_given_back(clock):
    ledger = LedgerBucket({"requests": [Rate(1, 60)]}, clock=clock)
    taken(ledger, requests=1)

    assert ledger.soonest({"requests": 1}) == 0


@pytest.mark.parametrize(("charge", "is_now"), [("estimate", False), ("adjust", True)])
def test_at_best_an_open_call_is_refunded_only_if_the_server_refunds(clock, charge, is_now):
    ledger = LedgerBucket({"tokens": [Rate(100, 60)]}, charge=charge, clock=clock)
    sent(ledger, tokens=100)

    soonest = ledger.soonest({"tokens": 50})

    # The reply may come now, so the stamp may fall to now.
    assert soonest == (0 if is_now else 1_060 * SECOND + 1)


def test_requests_that_left_are_never_refunded(clock):
    ledger = LedgerBucket({"requests": [Rate(1, 60)]}, charge="adjust", clock=clock)
    sent(ledger, requests=1)

    assert ledger.soonest({"requests": 1}) == 1_060 * SECOND + 1


def test_a_long_queue_is_expected_to_need_whole_intervals(clock):
    ledger = LedgerBucket({"requests": [Rate(10, 60)]}, clock=clock)
    for _ in range(10):
        ledger.replied(sent(ledger, requests=1))

    assert ledger.expected({"requests": 5}) == 1_060 * SECOND + 1
    assert ledger.expected({"requests": 25}) == 1_180 * SECOND + 1


# The guard -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval_s", "guard_ms"), [(0.5, 20), (1, 20), (5, 50), (10, 100), (60, 100), (86_400, 100)]
)
def test_the_guard_is_a_hundredth_of_the_interval_within_bounds(interval_s, guard_ms):
    ledger = LedgerBucket({"requests": [Rate(5, interval_s)]})

    assert ledger.guard_ns == guard_ms * 1_000_000


def test_the_shortest_interval_sets_the_guard():
    ledger = LedgerBucket({"requests": [Rate(5, 3)], "tokens": [Rate(5, 60)]})

    assert ledger.guard_ns == 30_000_000


@pytest.mark.parametrize(("interval_s", "widest_ms"), [(0.1, 20), (1, 80), (5, 400), (60, 800)])
def test_the_guard_doubles_within_a_second_and_a_tenth_of_the_interval(interval_s, widest_ms):
    ledger = LedgerBucket({"requests": [Rate(5, interval_s)]})

    for _ in range(20):
        ledger.widen_guard()

    assert widest_ms * 1_000_000 <= ledger.guard_ns <= max(widest_ms * 1.25, 20) * 1_000_000


# Limits that change -------------------------------------------------------------------


def test_a_limit_learned_later_counts_the_open_calls(clock):
    ledger = LedgerBucket({}, clock=clock)
    sent(ledger, requests=1, tokens=70)
    taken(ledger, requests=1, tokens=20)

    ledger.set_rates("tokens", [Rate(100, 60)])

    assert used(ledger) == [{"tokens": 90}]


def test_a_second_dimension_of_an_interval_counts_what_the_first_remembers(clock):
    ledger = LedgerBucket({"requests": [Rate(10, 60)]}, clock=clock)
    ledger.settle(sent(ledger, requests=1, tokens=70), {})

    ledger.set_rates("tokens", [Rate(100, 60), Rate(30, 1)])

    assert used(ledger) == [{"tokens": 70}, {"requests": 1, "tokens": 70}]


def test_a_dimension_without_rates_is_unlimited_again(clock):
    ledger = LedgerBucket({"requests": [Rate(1, 60)]}, clock=clock)
    entry = taken(ledger, requests=1)

    ledger.set_rates("requests", [])

    assert ledger.due({"requests": 5}) == 0
    ledger.settle(entry, {})


# Bounds ---------------------------------------------------------------------------------


def test_a_full_window_of_ten_thousand_calls_takes_less_than_two_mebibytes(clock):
    ledger = LedgerBucket(
        {"requests": [Rate(30_000, 60)], "tokens": [Rate(150_000_000, 60)]}, clock=clock
    )
    tracemalloc.start()
    for _ in range(10_000):
        clock.advance(0.005_9)
        ledger.settle(sent(ledger, requests=1, tokens=15_000), {"tokens": 15_000})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert used(ledger) == [{"requests": 10_000, "tokens": 150_000_000}]
    assert peak < 2 * 2**20


def test_a_rate_per_day_keeps_a_bounded_log(clock):
    ledger = LedgerBucket({"requests": [Rate(10**9, 86_400)]}, clock=clock)

    for _ in range(20_000):
        clock.advance(4)
        ledger.settle(sent(ledger, requests=1), {})

    assert used(ledger) == [{"requests": 20_000}]
    assert len(ledger.windows[0]) <= 2_048


def test_a_call_still_open_when_others_are_merged_can_be_corrected(clock):
    ledger = LedgerBucket({"tokens": [Rate(10**9, 86_400)]}, charge="adjust", clock=clock)
    entries = [sent(ledger, tokens=10)]
    for _ in range(5_000):
        clock.advance(0.01)
        ledger.settle(sent(ledger, tokens=1), {})
    ledger.tick()

    ledger.settle(entries[0], {"tokens": 3})

    assert len(ledger.windows[0]) < 2_048
    assert used(ledger) == [{"tokens": 5_003}]


@pytest.mark.parametrize("seed", range(3))
def test_merging_never_frees_early_and_at_most_a_thousandth_late(seed):
    rng = random.Random(seed)
    steps = [(rng.randint(1, 40), rng.randint(1, 9)) for _ in range(2_100)]
    now = [1_000.0]
    merged, exact = (
        LedgerBucket({"tokens": [Rate(10**9, 60)]}, clock=lambda: now[0]) for _ in range(2)
    )
    exact.windows[0]._merge_at = 10**9
    for step_ms, tokens in steps:
        now[0] += step_ms / 1_000
        for ledger in (merged, exact):
            ledger.settle(sent(ledger, tokens=tokens), {"tokens": tokens})

    for _ in range(70):
        now[0] += 0.94
        late = used(merged)[0]["tokens"]
        assert late >= used(exact)[0]["tokens"]
        now[0] += 0.06
        assert used(merged)[0]["tokens"] <= late


def test_the_cost_of_a_call_does_not_grow_with_its_weight(clock):
    """One entry per call, whatever it weighs: the stock bucket keeps one per token."""
    ledger = LedgerBucket({"tokens": [Rate(10**12, 60)]}, clock=clock)

    for weight in (1, 1_000, 10**9):
        sent(ledger, tokens=weight)

    assert len(ledger.windows[0]) == 3
