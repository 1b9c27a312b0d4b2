"""Ctrl-C at every place of a call's life in a limiter takes nothing and holds nobody up."""

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
from lionlite.limits.rates import Rate
from lionlite.limits.stores import desk as shared_desk
from lionlite.limits.stores import holding, line, redis, sqlite, till

MODULES = (
    *(limiter, reservation, desk, budget, accounts, windows),
    *(shared, shared_desk, line, holding, till, sqlite, redis),
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


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="not every opcode is traced")
@pytest.mark.parametrize(
    "life",
    [settled, left_at_once, tried, tried_in_vain, waited_for, given_up],
    ids=lambda life: life.__name__,
)
def test_ctrl_c_at_any_place_takes_nothing_and_holds_nobody_up(limiter_of, life):
    limiter_ = limiter_of(requests=[Rate(10**6, 3600.0)], max_concurrency=1)

    def used():
        return limiter_.stats().dimensions["requests"].used

    def interrupted_at(number):
        """Live with Ctrl-C at that place; return whether it came."""
        before, charged, came = used(), 0, False
        try:
            charged = life(limiter_, ctrl_c_at(number, FILES, outside=OUTSIDE))
        except KeyboardInterrupt:
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
