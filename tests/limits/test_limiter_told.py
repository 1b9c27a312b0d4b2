"""What is told to the budget without its lock: noted in time, and lost by no race."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from lionlite import scope
from lionlite.limits.limiter import RateLimiter
from lionlite.limits.rates import limit
from lionlite.testing import ManualClock

INTERVAL_S = 0.05


@pytest.fixture
def _eager_switching():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def one_at_a_time(**more):
    """A budget of one call an interval: who has it keeps all others waiting until it is sent."""
    return RateLimiter({"requests": [limit(1, INTERVAL_S)]}, **more)


class Waiter:
    """Another thread that waits for the one call."""

    def __init__(self, limiter):
        self._limiter = limiter
        self.waited_s = None
        self._thread = threading.Thread(target=self._wait, daemon=True)

    def _wait(self):
        with scope.deadline(10), self._limiter.reserve({"requests": 1}) as reservation:
            self.waited_s = reservation.waited_s

    def start(self, *, until_it_waits=True):
        self._thread.start()
        ends_at_s = time.monotonic() + 10
        while until_it_waits and not self._limiter.desk.budget.queue:
            assert time.monotonic() < ends_at_s
            time.sleep(0.0005)

    def is_served(self):
        self._thread.join(10)
        return self.waited_s is not None and self.waited_s < 5


def told_and_joined(monkeypatch, tell, *, joins_first):
    """Have somebody begin to wait while *tell* is under way; return whether it is served."""
    limiter = one_at_a_time()
    ledger, waiter = limiter.desk.budget.ledger, Waiter(limiter)
    really_tell = getattr(ledger, tell)

    def telling(entry):
        monkeypatch.undo()
        if joins_first:
            waiter.start()
        really_tell(entry)
        if not joins_first:
            waiter.start()

    mine = limiter.reserve({"requests": 1})
    if tell == "tell_replied":
        mine.sent()
    monkeypatch.setattr(ledger, tell, telling)
    getattr(mine, tell.removeprefix("tell_"))()
    return waiter.is_served()


@pytest.mark.parametrize("joins_first", [True, False])
@pytest.mark.parametrize("tell", ["tell_sent", "tell_replied"])
def test_who_begins_to_wait_while_it_is_told_is_served(monkeypatch, tell, joins_first):
    assert told_and_joined(monkeypatch, tell, joins_first=joins_first)


@pytest.mark.usefixtures("_eager_switching")
def test_no_race_of_telling_and_joining_leaves_anybody_waiting():
    for _ in range(30):
        limiter, start = one_at_a_time(), threading.Barrier(2)
        mine, waiter = limiter.reserve({"requests": 1}), Waiter(limiter)

        def tell(mine=mine, start=start):
            start.wait(10)
            mine.sent()

        teller = threading.Thread(target=tell)
        teller.start()
        start.wait(10)
        waiter.start(until_it_waits=False)

        assert waiter.is_served()
        teller.join(10)


def test_a_charge_expires_by_when_it_was_told_not_by_when_it_is_noted():
    clock = ManualClock()
    limiter = RateLimiter({"requests": [limit(1, 10)]}, clock=clock.now_s)
    mine = limiter.reserve({"requests": 1})
    clock.advance(1)
    mine.sent()
    clock.advance(0.05)
    mine.replied()

    clock.advance(9.99)
    assert limiter.try_reserve({"requests": 1}) is None
    clock.advance(0.03)
    assert limiter.try_reserve({"requests": 1}) is not None


def test_without_a_reply_it_may_arrive_until_the_guard_is_over():
    clock = ManualClock()
    limiter = RateLimiter({"requests": [limit(1, 10)]}, clock=clock.now_s)
    limiter.reserve({"requests": 1}).sent()

    clock.advance(10.05)
    assert limiter.try_reserve({"requests": 1}) is None
    clock.advance(0.1)
    assert limiter.try_reserve({"requests": 1}) is not None


def test_a_reply_that_is_noted_late_counts_in_each_window_that_still_has_it():
    clock = ManualClock()
    limiter = RateLimiter({"requests": [limit(2, 1), limit(3, 10)]}, clock=clock.now_s)
    mine = limiter.reserve({"requests": 1})
    mine.sent()
    assert limiter.try_reserve({"requests": 1}) is not None  # notes that it was sent
    mine.replied()
    clock.advance(5)

    used = {one.interval_s: one.used for one in _windows(limiter)}

    assert used == {1: 1, 10: 2}


def _windows(limiter):
    limiter.stats()
    ledger = limiter.desk.budget.ledger
    return [
        type("Seen", (), {"interval_s": window.interval_ns / 1e9, "used": window.used["requests"]})
        for window in ledger.windows
    ]


def test_a_clock_that_steps_back_lets_nothing_expire_sooner():
    clock = ManualClock(start_s=100)
    limiter = RateLimiter({"requests": [limit(1, 10)]}, clock=clock.now_s)
    mine = limiter.reserve({"requests": 1})
    limiter.stats()
    clock.set(50)
    mine.sent()
    mine.replied()

    clock.set(109.9)
    assert limiter.try_reserve({"requests": 1}) is None
    clock.set(110.2)
    assert limiter.try_reserve({"requests": 1}) is not None
