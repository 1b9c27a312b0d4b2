"""Pairs as they come: endless inputs, leaving early, slow takers, errors."""

from __future__ import annotations

import itertools
import threading

import pytest

from lionlite.calls.engine import READ_AHEAD
from lionlite.calls.family import icall
from lionlite.calls.pool import Pool
from lionlite.exceptions import AuthenticationError, CallError, Cancelled, Interrupted
from lionlite.scope import sleep

pytestmark = pytest.mark.quick

WAIT_S = 20  # only a failing test waits so long


def same(item):
    return item


def bad_at(*bad, error=ValueError):
    def func(number):
        if number in bad:
            raise error(number)
        return number

    return func


def taken(pairs):
    """Return what was yielded and the error at the end."""
    seen = []
    try:
        for pair in pairs:
            seen.append(pair)  # noqa: PERF402 - extend() would lose all at the error
    except BaseException as error:
        return seen, error
    return seen, None


def test_a_pair_comes_as_soon_as_it_is_there():
    second_asked = threading.Event()

    def func(name):
        if name == "slow":
            assert second_asked.wait(WAIT_S)
        return name

    pairs = icall(["slow", "quick"], func, max_workers=2)

    assert next(pairs) == (1, "quick")
    second_asked.set()
    assert list(pairs) == [(0, "slow")]


def test_an_endless_input_can_be_left():
    closed = []

    def endless():
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    for index, value in icall(endless(), same, max_workers=4):
        assert index == value
        if index >= 1000:
            break

    assert closed == [True]


def test_leaving_tells_the_items_that_run_and_waits_for_them():
    started, told = [], []
    all_run = threading.Barrier(3)

    def func(number):
        started.append(number)
        all_run.wait(WAIT_S)
        if number == 0:
            return number
        try:
            sleep(600, phase="turn")
        except Cancelled:
            told.append(number)
            raise

    pairs = icall(range(3), func, max_workers=3)
    assert next(pairs) == (0, 0)
    pairs.close()

    assert (sorted(started), sorted(told)) == ([0, 1, 2], [1, 2])
    assert list(pairs) == []


def test_leaving_starts_no_more_items():
    started = []
    leave = threading.Event()

    def func(number):
        started.append(number)
        if number:
            leave.wait(0.05)  # far less than leaving waits, so it is awaited
        return number

    pairs = icall(range(1000), func, max_workers=2)
    next(pairs)
    pairs.close()
    count = len(started)
    leave.set()

    assert len(started) == count <= 10


def test_a_slow_taker_holds_back_an_endless_input():
    read = []

    def endless():
        for number in itertools.count():
            read.append(number)
            yield number

    pairs = icall(endless(), same, max_workers=4)

    for taken_so_far in range(1, 500):
        next(pairs)
        assert len(read) <= taken_so_far + 4 + READ_AHEAD
    pairs.close()


def test_stop_yields_all_that_finished_before_the_error():
    seen, error = taken(icall(range(1000), bad_at(3), max_workers=1))

    assert seen == [(0, 0), (1, 1), (2, 2)]
    assert isinstance(error, CallError)
    assert (error.results, list(error.failed)) == ([], [3])


def test_continue_yields_all_then_raises():
    seen, error = taken(icall(range(100), bad_at(3, 50), max_workers=4, on_error="continue"))

    assert sorted(seen) == [(n, n) for n in range(100) if n not in (3, 50)]
    assert list(error.failed) == [3, 50]


def test_return_yields_errors_as_values():
    seen, error = taken(icall(range(100), bad_at(3), max_workers=4, on_error="return"))

    assert error is None
    assert [index for index, _ in sorted(seen, key=lambda pair: pair[0])] == list(range(100))
    assert repr(dict(seen)[3]) == "ValueError(3)"


@pytest.mark.parametrize("mode", ["stop", "continue", "return"])
def test_a_fatal_error_ends_every_mode_after_what_finished(mode):
    func = bad_at(5, error=AuthenticationError)

    seen, error = taken(icall(itertools.count(), func, max_workers=1, on_error=mode))

    assert seen == [(n, n) for n in range(5)]
    assert (error.fatal, list(error.failed)) == (True, [5])


def test_an_input_that_raises_ends_it_after_what_finished():
    def numbers():
        yield 7
        raise OSError("gone")

    seen, error = taken(icall(numbers(), same))

    assert seen in ([], [(0, 7)])  # it may not have started yet
    assert str(error).startswith("The input failed at index 1: OSError: gone.")


def test_keyboard_interrupt_in_an_item_comes_after_what_finished():
    func = bad_at(5, error=KeyboardInterrupt)

    seen, error = taken(icall(itertools.count(), func, max_workers=1))

    assert seen == [(n, n) for n in range(5)]
    assert isinstance(error, Interrupted)


def test_a_second_ctrl_c_while_leaving_ends_the_wait(monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Pool, "wait_idle", pressed)
    pairs = icall(itertools.count(), same)
    next(pairs)

    pairs.close()

    assert list(pairs) == []
