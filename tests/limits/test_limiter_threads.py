"""The limiter with real threads: real waits, real races."""

from __future__ import annotations

import pickle
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lionlite import scope
from lionlite.exceptions import (
    BudgetClosed,
    BudgetTimeout,
    Cancelled,
    ConfigError,
    RequestTooLarge,
)
from lionlite.limits.limiter import RateLimiter
from lionlite.limits.rates import Rate, limit


@pytest.fixture
def _eager_switching():
    """Let threads race at every few bytecodes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def tokens(n, interval_s, **more):
    return RateLimiter({"tokens": [limit(n, interval_s)]}, **more)


def wait_for(condition, seconds=10):
    ends_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends_at:
            pytest.fail("waited too long")
        time.sleep(0.001)


def started(*calls):
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    return threads


def joined(threads, seconds=20):
    ends_at = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0, ends_at - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads)


def outcome_of(call):
    """Run *call* in a thread; return (thread, list that gets its result or error)."""
    outcome = []

    def run():
        try:
            outcome.append(call())
        except BaseException as error:
            outcome.append(error)

    return started(run)[0], outcome


# Never over -----------------------------------------------------------------------


@pytest.mark.usefixtures("_eager_switching")
@pytest.mark.parametrize(("threads", "calls"), [(64, 12), (512, 2)])
def test_no_window_of_real_arrivals_is_ever_over(threads, calls):
    """A grant stamped by the thread that makes it reached 183 % at 512 threads.

    Woken threads run up to a second later than they are granted.
    """
    per_second = 600
    limiter = RateLimiter({"requests": [limit(per_second, 1)], "tokens": [limit(10**6, 1)]})
    arrivals = []
    barrier = threading.Barrier(threads)

    def work():
        barrier.wait()
        for _ in range(calls):
            with limiter.reserve({"requests": 1, "tokens": 40}) as reservation:
                arrivals.append(time.monotonic())
                reservation.sent()

    joined(started(*[work] * threads), 50)

    arrivals.sort()
    assert len(arrivals) == threads * calls
    for first, beyond in zip(arrivals, arrivals[per_second:], strict=False):
        assert beyond - first > 1


@pytest.mark.usefixtures("_eager_switching")
def test_mixed_sizes_never_use_more_than_the_limit_at_one_time():
    limiter = tokens(100, 0.1)
    rng = random.Random(7)
    grants = []

    def work():
        for _ in range(3):
            size = rng.choice([5, 10, 60])
            with limiter.reserve({"tokens": size}) as reservation:
                at = time.monotonic()
                reservation.sent()
                grants.append((at, size))

    joined(started(*[work] * 16), 50)

    grants.sort()
    assert len(grants) == 48
    for index, (first, _) in enumerate(grants):
        assert sum(size for at, size in grants[index:] if at - first <= 0.1) <= 100


def test_no_more_calls_than_permits_hold_one_at_a_time():
    limiter = RateLimiter({}, max_concurrency=3)
    holding, most = [], []

    def work():
        for _ in range(20):
            with limiter.reserve({"requests": 1}):
                holding.append(1)
                most.append(len(holding))
                time.sleep(0)
                holding.pop()

    joined(started(*[work] * 16))

    assert max(most) <= 3
    assert limiter.stats().in_flight == 0


# First come, first served --------------------------------------------------------------


def test_threads_are_granted_in_the_order_in_which_they_came():
    limiter = RateLimiter({}, max_concurrency=1)
    held = limiter.reserve({"requests": 1})
    order = []

    def come(number):
        with limiter.reserve({"requests": 1}):
            order.append(number)

    threads = []
    for number in range(20):
        threads += started(lambda number=number: come(number))
        wait_for(lambda number=number: limiter.stats().waiting == number + 1)
    held.cancel()
    joined(threads)

    assert order == list(range(20))


# Deadlines, cancels, interrupts ------------------------------------------------------------


def test_the_deadline_ends_the_wait_in_time_and_leaves_no_trace():
    limiter = tokens(10, 60, charge="adjust")
    held = limiter.reserve({"tokens": 10})
    began = time.monotonic()

    with scope.deadline(0.15), pytest.raises(BudgetTimeout) as info:
        limiter.reserve({"tokens": 5})

    took = time.monotonic() - began
    assert 0.15 <= took < 0.65
    assert info.value.waited_s == pytest.approx(0.15, abs=0.5)
    assert info.value.retry_after_s == pytest.approx(60, abs=1)
    assert (limiter.stats().waiting, limiter.stats().in_flight) == (0, 1)
    held.cancel()
    assert limiter.stats().dimensions["tokens"].used == 0


def test_a_hopeless_wait_is_refused_without_waiting():
    limiter = tokens(10, 60)
    with limiter.reserve({"tokens": 10}) as reservation:
        reservation.sent()
        reservation.settle()
    began = time.monotonic()

    with scope.deadline(20), pytest.raises(BudgetTimeout) as info:
        limiter.reserve({"tokens": 5})

    assert time.monotonic() - began < 5
    assert info.value.retry_after_s == pytest.approx(60, abs=1)
    assert limiter.stats().waiting == 0


def test_a_cancel_wakes_a_waiter_within_a_fifth_of_a_second():
    limiter = tokens(10, 60)
    limiter.reserve({"tokens": 10})
    ended = []

    with scope.cancellable() as token:

        def wait():
            with scope.entered(scope.Scope(token=token)):
                try:
                    limiter.reserve({"tokens": 1})
                finally:
                    ended.append(time.monotonic())

        thread, outcome = outcome_of(wait)
        wait_for(lambda: limiter.stats().waiting == 1)
        began = time.monotonic()
        token.cancel()
        joined([thread])

    assert isinstance(outcome[0], Cancelled)
    assert ended[0] - began < 0.2
    assert limiter.stats().waiting == 0


def test_after_a_cancel_nothing_is_granted_though_there_is_room():
    limiter = tokens(10, 60)
    with scope.cancellable() as token:
        token.cancel()

        with pytest.raises(Cancelled):
            limiter.reserve({"tokens": 1})
        with pytest.raises(Cancelled):
            limiter.try_reserve({"tokens": 1})


def test_ctrl_c_in_the_main_thread_leaves_the_queue_to_the_others():
    limiter = tokens(10, 60, charge="adjust")
    held = limiter.reserve({"tokens": 10})
    main = threading.get_ident()

    def interrupt():
        wait_for(lambda: limiter.stats().waiting == 1)
        signal.pthread_kill(main, signal.SIGINT)

    threads = started(interrupt)
    with pytest.raises(KeyboardInterrupt):
        limiter.reserve({"tokens": 10})
    joined(threads)

    assert limiter.stats().waiting == 0
    thread, outcome = outcome_of(lambda: limiter.reserve({"tokens": 10}))
    wait_for(lambda: limiter.stats().waiting == 1)
    held.cancel()
    joined([thread])
    assert outcome[0].costs == {"tokens": 10}


def test_an_error_that_races_with_a_grant_gives_it_back(monkeypatch):
    limiter = tokens(10, 60)
    held = limiter.reserve({"tokens": 10})
    nap_s = limiter.desk.nap_s

    def granted_and_then_struck(entry):
        held.cancel()
        assert nap_s(entry) is None
        raise KeyboardInterrupt

    monkeypatch.setattr(limiter.desk, "nap_s", granted_and_then_struck)
    with pytest.raises(KeyboardInterrupt):
        limiter.reserve({"tokens": 10})

    assert limiter.stats().dimensions["tokens"].used == 0
    assert limiter.stats().in_flight == 0


def test_close_wakes_all_and_the_granted_may_still_settle():
    limiter = tokens(10, 60)
    held = limiter.reserve({"tokens": 10})
    waiting = [outcome_of(lambda: limiter.reserve({"tokens": 1})) for _ in range(20)]
    wait_for(lambda: limiter.stats().waiting == 20)

    limiter.close()
    joined([thread for thread, _ in waiting], 5)

    assert {type(outcome[0]) for _, outcome in waiting} == {BudgetClosed}
    held.sent()
    held.settle({"tokens": 4})
    with pytest.raises(BudgetClosed):
        limiter.try_reserve({"tokens": 1})
    limiter.close()


# Waking ------------------------------------------------------------------------------------


def test_a_refund_wakes_the_head_at_once():
    limiter = tokens(10, 3_600, charge="adjust")
    held = limiter.reserve({"tokens": 10})
    held.sent()
    thread, outcome = outcome_of(lambda: limiter.reserve({"tokens": 6}))
    wait_for(lambda: limiter.stats().waiting == 1)

    held.settle({"tokens": 4})
    joined([thread], 5)

    assert outcome[0].waited_s < 10


def test_a_pause_holds_everyone_up_and_ends_by_itself():
    limiter = RateLimiter({})
    limiter.pause(0.2)
    began = time.monotonic()

    limiter.reserve({"requests": 1})

    assert 0.2 <= time.monotonic() - began < 5


@pytest.mark.usefixtures("_eager_switching")
@pytest.mark.parametrize("seed", range(3))
def test_no_wake_up_is_lost_under_a_hammer(seed):
    """Whoever waits is granted, times out or is cancelled; nobody hangs."""
    limiter = RateLimiter(
        {"requests": [limit(400, 0.1)], "tokens": [limit(200, 0.05)]},
        charge=["estimate", "adjust", "usage"][seed],
        max_concurrency=12,
    )
    ended = []

    def work(number):
        rng = random.Random(seed * 1_000 + number)
        for _ in range(6):
            left_s = rng.choice([0.002, 0.02, 5, 5, 5])
            with scope.cancellable() as token, scope.deadline(left_s):
                if rng.random() < 0.1:
                    threading.Timer(rng.random() / 50, token.cancel).start()
                try:
                    with limiter.reserve(
                        {"requests": 1, "tokens": rng.choice([1, 5, 30])}
                    ) as reservation:
                        if rng.random() < 0.8:
                            reservation.sent()
                            reservation.replied()
                            reservation.settle({"tokens": rng.randint(0, 40)})
                    ended.append("granted")
                except (BudgetTimeout, Cancelled) as error:
                    ended.append(type(error).__name__)
            if rng.random() < 0.02:
                limiter.refused(retry_after_s=0.01)

    joined(started(*[lambda number=number: work(number) for number in range(32)]), 50)

    stats = limiter.stats()
    assert len(ended) == 32 * 6
    assert (stats.waiting, stats.in_flight) == (0, 0)
    assert ended.count("granted") == stats.granted


def test_only_the_head_of_the_queue_has_a_timer():
    limiter = tokens(10, 60)
    with limiter.reserve({"tokens": 10}) as reservation:
        reservation.sent()
    threads = [outcome_of(lambda: limiter.reserve({"tokens": 5}))[0] for _ in range(10)]
    wait_for(lambda: limiter.stats().waiting == 10)
    queue = limiter.desk.budget.queue
    wait_for(lambda: queue[0].timer_at == limiter.desk.budget.look_at)

    timers = [entry.timer_at == limiter.desk.budget.look_at for entry in queue]

    assert timers == [True] + [False] * 9
    limiter.close()
    joined(threads)


def test_512_waiters_cost_two_checks_for_each_grant():
    limiter = RateLimiter({"requests": [limit(100, 0.1)], "tokens": [limit(10**6, 0.1)]})

    def work():
        with limiter.reserve({"requests": 1, "tokens": 10}) as reservation:
            reservation.sent()
            reservation.replied()

    joined(started(*[work] * 512), 50)

    assert limiter.desk.budget.ledger.checks <= 3 * 512


# try_reserve --------------------------------------------------------------------------------


@pytest.mark.usefixtures("_eager_switching")
def test_try_reserve_never_fails_because_others_are_busy():
    """The stock limiter refused 89 % of such calls."""
    limiter = tokens(10**7, 60)

    def work(_):
        return sum(limiter.try_reserve({"tokens": 1}) is None for _ in range(200))

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(work, range(16))) == 0


def test_try_reserve_takes_nothing_when_there_is_no_room():
    limiter = tokens(10, 60)
    held = limiter.try_reserve({"tokens": 8})

    assert limiter.try_reserve({"tokens": 3}) is None
    assert limiter.stats().waiting == 0
    held.cancel()
    assert limiter.try_reserve({"tokens": 3}).waited_s == 0


def test_try_reserve_of_what_can_never_fit_says_so():
    with pytest.raises(RequestTooLarge):
        tokens(10, 60).try_reserve({"tokens": 11})


def test_try_reserve_finds_the_room_that_a_sleeping_head_has_not_yet_taken(clock):
    limiter = tokens(10, 60, clock=clock)
    with limiter.reserve({"tokens": 10}) as reservation:
        reservation.sent()
    thread, outcome = outcome_of(lambda: limiter.reserve({"tokens": 5}))
    wait_for(lambda: limiter.stats().waiting == 1)
    clock.advance(61)

    assert limiter.try_reserve({"tokens": 5}) is not None
    joined([thread])
    assert outcome[0].waited_s == pytest.approx(61)


# Reservations ---------------------------------------------------------------------------------


def test_leaving_a_reservation_unsent_gives_it_back():
    limiter = tokens(10, 60)

    with pytest.raises(ZeroDivisionError), limiter.reserve({"tokens": 10}) as reservation:
        _ = 1 / 0

    assert limiter.stats().dimensions["tokens"].used == 0
    assert repr(reservation) == "<Reservation {'tokens': 10} ended>"


def test_leaving_a_reservation_sent_keeps_its_estimate():
    limiter = tokens(10, 60, charge="adjust")

    with limiter.reserve({"tokens": 10}) as reservation:
        reservation.sent()
        assert "sent" in repr(reservation)

    assert limiter.stats().dimensions["tokens"].used == 10
    reservation.settle({"tokens": 1})
    assert limiter.stats().dimensions["tokens"].used == 10


def test_cancel_after_sending_gives_nothing_back():
    limiter = tokens(10, 60)
    reservation = limiter.reserve({"tokens": 10})
    reservation.sent()

    reservation.cancel()

    assert limiter.stats().dimensions["tokens"].used == 10
    assert limiter.stats().in_flight == 0


@pytest.mark.parametrize("actual", [{"tokens": -5}, {"tokens": True}, {"tokens": 1.5}, {}, None])
def test_usage_that_no_server_can_mean_counts_as_unknown(actual):
    limiter = tokens(10, 60, charge="adjust")
    reservation = limiter.reserve({"tokens": 10})
    reservation.sent()

    reservation.settle(actual)

    assert limiter.stats().dimensions["tokens"].used == 10


# Statistics, arguments, pickles -----------------------------------------------------------------


def test_stats_tell_what_the_limiter_is_doing(clock):
    limiter = RateLimiter(
        {"requests": [limit(10, 1), limit(500, 60)], "tokens": [limit(100, 60)]}, clock=clock
    )
    limiter.reserve({"requests": 1, "tokens": 60}).sent()
    limiter.pause(3)

    stats = limiter.stats()

    assert stats.dimensions["requests"].rates[0].remaining == 9
    assert (stats.dimensions["tokens"].used, stats.dimensions["tokens"].remaining) == (60, 40)
    assert (stats.waiting, stats.in_flight, stats.granted) == (0, 1, 1)
    assert (stats.next_grant_in_s, stats.waited_s) == (0.0, 0.0)
    assert (stats.guard_s, stats.paused_for_s) == (0.02, 3.0)
    assert repr(limiter) == (
        "<RateLimiter requests 1/10 per 1 s, tokens 60/100 per 60 s, 0 waiting>"
    )


def test_stats_tell_when_the_head_is_granted(clock):
    limiter = tokens(10, 60, clock=clock)
    reservation = limiter.reserve({"tokens": 10})
    thread, _ = outcome_of(lambda: limiter.reserve({"tokens": 10}))
    wait_for(lambda: limiter.stats().waiting == 1)

    in_flight = limiter.stats().next_grant_in_s
    reservation.sent()
    reservation.replied()
    known = limiter.stats().next_grant_in_s

    assert in_flight is None
    assert known == pytest.approx(60)
    limiter.close()
    joined([thread])


def test_a_limit_learned_later_holds_from_then_on():
    limiter = RateLimiter({})
    with limiter.reserve({"requests": 1, "tokens": 60}) as reservation:
        reservation.sent()
        limiter.set_rates("tokens", [Rate(100, 60)])

        assert limiter.try_reserve({"requests": 1, "tokens": 41}) is None
        assert limiter.try_reserve({"requests": 1, "tokens": 40}) is not None


@pytest.mark.parametrize(
    "costs", [{}, {"tokens": 0}, {"tokens": -1}, {"tokens": True}, {"tokens": 1.0}]
)
def test_costs_that_are_none_are_refused(costs):
    with pytest.raises(ConfigError, match="costs takes ints >= 0 by dimension"):
        tokens(10, 60).reserve(costs)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), True, "5", None])
def test_a_pause_that_is_no_length_is_refused(seconds):
    with pytest.raises(ConfigError, match=r"pause\(\) takes"):
        RateLimiter({}).pause(seconds)


def test_a_refusal_pauses_and_widens_the_guard(clock):
    limiter = tokens(100, 60, clock=clock)
    with limiter.reserve({"tokens": 1}) as reservation:
        reservation.sent()
        limiter.refused(reservation, retry_after_s=20)

    assert (limiter.stats().paused_for_s, limiter.stats().guard_s) == (20, 0.2)
    limiter.refused()
    assert limiter.stats().paused_for_s == 20


def test_a_pause_of_ages_is_a_pause():
    limiter = RateLimiter({})

    limiter.refused(retry_after_s=10**400)

    assert limiter.stats().paused_for_s > 1e6


@pytest.mark.parametrize("permits", [0, -1, True, 1.5, "3"])
def test_permits_that_are_no_count_are_refused(permits):
    with pytest.raises(ConfigError, match="max_concurrency takes an int >= 1"):
        RateLimiter({}, max_concurrency=permits)


@pytest.mark.parametrize("limits", [None, 500, [Rate(5, 60)]])
def test_limits_that_are_no_mapping_are_refused(limits):
    with pytest.raises(ConfigError, match="limits takes a dict"):
        RateLimiter(limits)


def test_pickling_a_budget_names_the_cure():
    with pytest.raises(ConfigError, match="Build the service there, and share one budget"):
        pickle.dumps(tokens(10, 60))
