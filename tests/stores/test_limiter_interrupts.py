"""A signal at every place of a call's life in a limiter takes nothing and holds nobody up."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from interrupts import ctrl_c_at

from lionlite import BudgetTimeout, deadline
from lionlite.limits import accounts, budget, desk, limiter, reservation, shared, windows
from lionlite.limits.gate import Gate
from lionlite.limits.rates import Rate
from lionlite.limits.stores import alone, doorway, holding, line, redis, sqlite, till
from lionlite.limits.stores import desk as shared_desk
from lionlite.limits.stores.protocol import store_down

MODULES = (
    *(limiter, reservation, desk, budget, accounts, windows),
    *(shared, shared_desk, line, holding, till, sqlite, doorway, redis, alone),
)
FILES = {module.__file__ for module in MODULES}
# The first step of what begins or ends a `with`, and of what puts right what was cut
# short: it stands outside of what it protects.
OUTSIDE = {"__enter__", "__exit__", "_withdraw"}


@contextmanager
def occupied(limiter_, *, until):
    """Hold the only permit in another thread until *until* is set or somebody waits."""

    def hold():
        with limiter_.reserve({"requests": 1}):
            is_held.set()
            while not until.is_set() and not limiter_.stats().waiting:
                time.sleep(0.001)

    is_held = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    assert is_held.wait(10)
    try:
        yield
    finally:
        until.set()
        thread.join(10)
        assert not thread.is_alive()


def settled(limiter_, cut):
    with cut, limiter_.reserve({"requests": 1}) as held:
        held.sent()
        held.settle({"requests": 1})
    return 1


def left_at_once(limiter_, cut):
    with cut, limiter_.reserve({"requests": 1}):
        pass
    return 0


def tried(limiter_, cut):
    with cut, limiter_.try_reserve({"requests": 1}):
        pass
    return 0


def tried_in_vain(limiter_, cut):
    with occupied(limiter_, until=threading.Event()), cut:
        assert limiter_.try_reserve({"requests": 1}) is None
    return 0


def waited_for(limiter_, cut):
    is_tried = threading.Event()
    with occupied(limiter_, until=is_tried):
        try:
            with cut, limiter_.reserve({"requests": 1}):
                pass
        finally:
            is_tried.set()
    return 0


def given_up(limiter_, cut):
    blocker = limiter_.reserve({"requests": 1})
    try:
        with suppress(BudgetTimeout), deadline(0.01), cut:
            limiter_.reserve({"requests": 1})
    finally:
        blocker.cancel()
    return 0


class SoftLimitError(Exception):
    """What a handler may raise besides KeyboardInterrupt: Celery's SoftTimeLimitExceeded."""


RAISED = pytest.mark.parametrize(
    "raised", [KeyboardInterrupt, SoftLimitError], ids=lambda raised: raised.__name__
)
LIVES = pytest.mark.parametrize(
    "life",
    [settled, left_at_once, tried, tried_in_vain, waited_for, given_up],
    ids=lambda life: life.__name__,
)
TRACED = pytest.mark.skipif(sys.version_info >= (3, 13), reason="not every opcode is traced")


@TRACED
@RAISED
@LIVES
def test_a_signal_at_any_place_takes_nothing_and_holds_nobody_up(limiter_of, life, raised):
    limiter_ = limiter_of(requests=[Rate(10**6, 3600.0)], max_concurrency=1)

    assert_whole(limiter_, life, raised)


@TRACED
@RAISED
@LIVES
def test_a_signal_at_any_place_in_the_share_does_no_harm_either(
    on_sqlite, life, raised, monkeypatch
):
    limiter_ = on_sqlite(
        requests=[Rate(10**6, 3600.0)], max_concurrency=1, on_store_down="share"
    )
    with limiter_.reserve({"requests": 1}):
        pass

    def down(*_):
        raise store_down("here", "no answer")

    monkeypatch.setattr(limiter_._store, "trip", down)
    with limiter_.reserve({"requests": 1}):
        pass
    # As it is after the ramp, which takes two seconds.
    limiter_._desk.fallback.alone.limiter.desk.budget.gate = Gate()

    assert_whole(limiter_, life, raised)
    assert limiter_._desk.fallback.alone is not None


def assert_whole(limiter_, life, raised):
    """Live that life with a signal at each place, and look what is left behind."""

    def used():
        return limiter_.stats().dimensions["requests"].used

    def interrupted_at(number):
        """Live with the signal at that place; return whether it came."""
        before, charged, came = used(), 0, False
        try:
            charged = life(limiter_, ctrl_c_at(number, FILES, outside=OUTSIDE, error=raised))
        except raised:
            came = True
        with deadline(3), limiter_.reserve({"requests": 1}):
            pass
        stats = limiter_.stats()
        assert (stats.in_flight, stats.waiting) == (0, 0), number
        # What was cut after it was sent may have arrived.
        most = 1 if life is settled else 0
        assert charged <= used() - before <= most, number
        return came

    def places():
        with limiter_.reserve({"requests": 1}):
            pass  # the store is open
        return next(number for number in itertools.count() if not interrupted_at(number))

    # In a thread of its own: what a tracer raises stays its context (CPython 3.11).
    with ThreadPoolExecutor(1) as pool:
        count = pool.submit(places).result(55)
    assert count > 20, count
