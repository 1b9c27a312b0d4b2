"""Members of one budget, each with its own limiter as in its own process."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from store_tools import fresh_name

from lionlite import scope
from lionlite.exceptions import BudgetTimeout, ConfigError
from lionlite.limits.alarm import Alarm
from lionlite.limits.rates import Rate

HOUR = 3600


def call(limiter, **costs):
    with limiter.reserve(costs) as reservation:
        reservation.sent()
        reservation.replied()
        reservation.settle(costs)


def used(limiter, dimension="requests"):
    return limiter.stats().dimensions[dimension].used


def test_two_members_share_one_budget(shared):
    name = fresh_name()
    first, second = (shared(name, requests=[Rate(3, HOUR)]) for _ in range(2))

    call(first, requests=2)
    call(second, requests=1)

    assert (used(first), used(second)) == (3, 3)
    assert first.try_reserve({"requests": 1}) is None
    assert second.try_reserve({"requests": 1}) is None


@pytest.mark.parametrize(
    "costs", [5, None, "ab", [("requests", 1)], {1: 1}, {"requests": 1, None: 0}], ids=repr
)
def test_costs_that_are_no_mapping_from_names_are_refused(on_sqlite, costs):
    limiter = on_sqlite(requests=[Rate(5, HOUR)])

    for ask in (limiter.reserve, limiter.try_reserve):
        with pytest.raises(ConfigError, match="costs takes ints >= 0 by dimension"):
            ask(costs)


@pytest.mark.parametrize("actual", [5, [1], "ab", 0], ids=repr)
def test_usage_that_is_no_mapping_is_refused_and_the_estimate_charged(on_sqlite, actual):
    limiter = on_sqlite(charge="adjust", tokens=[Rate(5, HOUR)])

    with limiter.reserve({"tokens": 3}) as reservation:
        reservation.sent()
        with pytest.raises(ConfigError, match="actual takes a mapping of units by dimension"):
            reservation.settle(actual)

    assert used(limiter, "tokens") == 3


def test_two_budgets_in_one_store_do_not_mix(shared):
    first, second = (shared(requests=[Rate(3, HOUR)]) for _ in range(2))

    call(first, requests=3)

    call(second, requests=1)
    assert used(second) == 1


def test_other_limits_under_one_name_are_refused_showing_both(shared):
    name = fresh_name()
    call(shared(name, requests=[Rate(3, HOUR)]), requests=1)
    other = shared(name, requests=[Rate(5, HOUR)])

    with pytest.raises(ConfigError, match=r"5 per 3600 s.*there requests 3 per 3600 s") as caught:
        other.reserve({"requests": 1})

    assert f"budget={name!r}" in str(caught.value)


def test_another_charge_under_one_name_is_refused_showing_both(shared):
    name = fresh_name()
    call(shared(name, requests=[Rate(3, HOUR)]), requests=1)
    other = shared(name, charge="usage", requests=[Rate(3, HOUR)])

    with pytest.raises(ConfigError, match=r"charge 'usage'.*there.*charge 'estimate'"):
        other.try_reserve({"requests": 1})


def test_other_limits_do_not_raise_out_of_a_call_that_is_over(shared, caplog):
    name = fresh_name()
    call(shared(name, requests=[Rate(3, HOUR)]), requests=1)

    with caplog.at_level(logging.WARNING, "lionlite"):
        shared(name, requests=[Rate(5, HOUR)]).refused(retry_after_s=1)

    assert "has other limits" in caplog.text


def test_what_one_member_gives_back_the_other_gets(shared):
    name = fresh_name()
    first, second = (shared(name, charge="adjust", tokens=[Rate(100, HOUR)]) for _ in range(2))
    held = first.reserve({"tokens": 100})
    granted = []
    waiter = threading.Thread(target=lambda: granted.append(second.reserve({"tokens": 60})))
    waiter.start()
    time.sleep(0.1)

    held.sent()
    held.settle({"tokens": 40})

    waiter.join(10)
    assert [one.costs for one in granted] == [{"tokens": 60}]


def test_a_pause_holds_for_all_members(shared):
    name = fresh_name()
    first, second = (shared(name, requests=[Rate(3, HOUR)]) for _ in range(2))

    first.pause(3_000)

    with scope.deadline(5), pytest.raises(BudgetTimeout):
        second.reserve({"requests": 1})


def test_members_take_turns(shared):
    name = fresh_name()
    members = [shared(name, requests=[Rate(4, 0.3)]) for _ in range(2)]
    served, is_over = [], threading.Event()

    def saturate(number):
        while not is_over.is_set():
            call(members[number], requests=1)
            served.append(number)
            if len(since_both(served)) > 20:
                is_over.set()

    def since_both(served):
        """From when both wait: whoever starts first has the first window for itself."""
        return served[max(map(served.index, (0, 1))) :] if len(set(served)) == 2 else []

    # One member has many threads, the other one: their shares are equal.
    threads = [threading.Thread(target=saturate, args=(number,)) for number in (0, 0, 0, 0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    both = since_both(served)[:20]
    assert both.count(0) >= 7
    assert both.count(1) >= 7


def test_the_call_of_a_member_that_died_frees_its_room_with_its_lease(shared):
    name = fresh_name()
    dead, alive = (shared(name, requests=[Rate(1, 0.3)]) for _ in range(2))
    with scope.deadline(0.5):
        held = dead.reserve({"requests": 1})
    lease_ends_s = time.monotonic() + 0.4

    call(alive, requests=1)

    assert time.monotonic() >= lease_ends_s + 0.3
    held.settle()


def test_nothing_is_charged_twice_when_a_member_settles_after_its_lease(shared):
    name = fresh_name()
    slow, other = (shared(name, requests=[Rate(5, HOUR)]) for _ in range(2))
    with scope.deadline(0.2):
        held = slow.reserve({"requests": 1})
    time.sleep(0.4)
    call(other, requests=1)

    held.sent()
    held.settle({"requests": 1})

    assert used(other) == 2


def test_try_reserve_takes_no_permit_that_one_who_waits_is_about_to_take(shared, monkeypatch):
    """Between the end of a call and the waking of who waited for it."""
    limiter = shared(max_concurrency=1, requests=[Rate(100, HOUR)])
    held = limiter.reserve({"requests": 1})
    waiter = threading.Thread(target=lambda: call(limiter, requests=1))
    waiter.start()
    while not limiter.stats().waiting:
        time.sleep(0.001)
    with monkeypatch.context() as patched:
        patched.setattr(Alarm, "ring", lambda _: None)

        held.cancel()
        tried = limiter.try_reserve({"requests": 1})

    # The ring that it missed.
    limiter._desk.line.end(None, is_news=True)
    waiter.join(10)
    assert tried is None
    assert not waiter.is_alive()


def test_a_limiter_that_was_closed_still_settles(shared):
    name = fresh_name()
    closed, other = (shared(name, charge="adjust", tokens=[Rate(100, HOUR)]) for _ in range(2))
    held = closed.reserve({"tokens": 100})
    held.sent()

    closed.close()
    held.settle({"tokens": 20})

    call(other, tokens=80)
    assert used(other, "tokens") == 100


def test_a_budget_of_large_numbers_is_exact(shared):
    most = 10**15
    limiter = shared(tokens=[Rate(most, 366 * 86_400)])

    call(limiter, tokens=most - 1)

    assert limiter.stats().dimensions["tokens"].remaining == 1
    assert limiter.try_reserve({"tokens": 2}) is None
