"""Threads of a mapping call: how many, how far ahead, in which context."""

from __future__ import annotations

import functools
import itertools
import sys
import threading
from contextvars import ContextVar

import pytest

from lionlite.calls.attempt import attempt
from lionlite.calls.engine import READ_AHEAD
from lionlite.calls.family import icall, lcall
from lionlite.calls.pool import Pool
from lionlite.exceptions import CallError, Interrupted

pytestmark = pytest.mark.quick

WAIT_S = 20  # only a failing test waits so long


@pytest.fixture
def _many_switches():
    """Let threads take turns 500 times as often, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def same(item):
    return item


def our_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("lionlite")]


@pytest.mark.usefixtures("_many_switches")
@pytest.mark.parametrize("workers", [1, 2, 8, 64, 512])
def test_nothing_is_lost_or_mixed_up_among_many_threads(workers):
    for _ in range(3):
        assert lcall(iter(range(3000)), same, max_workers=workers) == list(range(3000))


@pytest.mark.usefixtures("_many_switches")
@pytest.mark.parametrize("workers", [1, 8, 64])
def test_each_pair_comes_once_among_many_threads(workers):
    pairs = icall(iter(range(3000)), lambda number: -number, max_workers=workers)

    assert sorted(pairs) == [(number, -number) for number in range(3000)]


@pytest.mark.usefixtures("_many_switches")
def test_many_calls_side_by_side_keep_apart():
    def outer(number):
        return lcall(range(number, number + 50), same, max_workers=4)

    assert lcall(range(40), outer, max_workers=16) == [
        list(range(number, number + 50)) for number in range(40)
    ]


def test_values_keep_the_order_when_the_last_item_finishes_first():
    done = [threading.Event() for _ in range(9)]
    done[8].set()

    def func(number):
        assert done[number + 1].wait(WAIT_S)
        done[number].set()
        return number

    assert lcall(range(8), func, max_workers=8) == list(range(8))


@pytest.mark.parametrize("count", [2, 16, 64])
def test_every_item_gets_a_worker_at_once_while_there_are_workers(count):
    """The barrier falls only when all the items run at the same time."""
    together = threading.Barrier(count)

    seen = lcall(range(count), lambda _: together.wait(WAIT_S), max_workers=count)

    assert sorted(seen) == list(range(count))


def test_no_item_waits_for_the_input_to_give_the_next():
    first_ran = threading.Event()

    def slow_input():
        yield 1
        assert first_ran.wait(WAIT_S)
        yield 2

    assert lcall(slow_input(), lambda _: first_ran.set()) == [None, None]


def test_never_more_items_run_than_workers():
    # Appending and popping a list are atomic, so no lock hides a race here.
    running, most = [], []

    def func(_):
        running.append(1)
        most.append(len(running))
        running.pop()

    lcall(range(3000), func, max_workers=3)

    assert max(most) <= 3


def test_never_more_threads_than_items():
    names = set()
    together = threading.Barrier(3)

    def func(_):
        together.wait(WAIT_S)
        names.add(threading.current_thread().name)
        return len(our_threads())

    assert max(lcall(range(3), func, max_workers=64)) <= 3
    assert len(names) == 3


def test_one_thread_does_all_when_one_worker_is_asked_for():
    names = set(lcall(range(200), lambda _: threading.get_ident(), max_workers=1))

    assert len(names) == 1
    assert names != {threading.get_ident()}


def test_no_thread_is_left_when_the_call_returns():
    lcall(range(200), same, max_workers=32)
    list(icall(range(200), same, max_workers=32))
    with pytest.raises(CallError):
        lcall(range(200), lambda number: 1 // number, max_workers=32)

    assert our_threads() == []


@pytest.mark.parametrize("workers", [1, 4])
def test_the_input_is_read_a_bounded_window_ahead(workers):
    window = workers + READ_AHEAD
    ahead, ended = [], []
    is_full = threading.Event()

    def numbers():
        for number in range(2000):
            ahead.append(number + 1 - len(ended))
            if number + 1 == window:
                is_full.set()
            yield number

    def func(number):
        assert is_full.wait(WAIT_S)  # so nothing ends before the window is full
        ended.append(number)
        return number

    assert lcall(numbers(), func, max_workers=workers) == list(range(2000))
    assert max(ahead) == window


def test_each_item_runs_in_a_copy_of_the_callers_context():
    variable = ContextVar("variable")
    variable.set("caller")

    def func(number):
        before = variable.get()
        variable.set(number)
        return before

    assert lcall(range(100), func, max_workers=4) == ["caller"] * 100
    assert variable.get() == "caller"


def test_an_item_sees_what_the_input_set_when_it_gave_the_item():
    variable = ContextVar("variable")

    def numbers():
        for number in range(300):
            variable.set(number)
            yield number

    assert lcall(numbers(), lambda _: variable.get(), max_workers=4) == list(range(300))
    assert variable.get(None) is None


def test_a_pool_with_nothing_to_do_does_not_wait():
    way = functools.partial(attempt, same)
    pool = Pool(way, max_workers=1, closes=lambda _: True, is_eager=False)

    pool.wait(low_water=-1)
    pool.wait_idle(WAIT_S)
    pool.close(joins=True)

    assert pool.is_over()


@pytest.mark.parametrize("workers", [1, 2])
def test_calls_nested_3_deep_on_few_workers_end(workers):
    def sums(depth):
        def func(number):
            return (
                number if depth == 0 else sum(lcall(range(4), sums(depth - 1), max_workers=workers))
            )

        return func

    assert lcall(range(4), sums(2), max_workers=workers) == [4 * 6] * 4


def test_a_call_may_read_its_items_from_another_call():
    halves = (value for _, value in icall(range(100), lambda number: number / 2, max_workers=2))

    assert sorted(lcall(halves, same, max_workers=2)) == [number / 2 for number in range(100)]


class NoThreads:
    """Refuses to start a thread after the first *allowed*."""

    def __init__(self, monkeypatch, allowed):
        self.left = itertools.count(allowed, -1)
        start = threading.Thread.start

        def start_or_refuse(thread):
            if next(self.left) <= 0:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_or_refuse)


@pytest.mark.parametrize("allowed", [1, 3])
def test_a_call_goes_on_with_the_threads_it_can_get(monkeypatch, allowed):
    NoThreads(monkeypatch, allowed)

    assert lcall(range(500), same, max_workers=16) == list(range(500))


def test_a_call_that_gets_no_thread_says_so(monkeypatch):
    NoThreads(monkeypatch, 0)

    with pytest.raises(CallError, match=r"No thread for the items: .*can't start") as caught:
        lcall(range(5), same)

    assert caught.value.results == [None]


def test_ctrl_c_that_comes_out_of_a_thread_start_as_an_error_is_ctrl_c(monkeypatch):
    """Seen in CPython: Condition.wait makes it "release unlocked lock"."""

    def start(_):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("release unlocked lock")

    monkeypatch.setattr(threading.Thread, "start", start)

    with pytest.raises(Interrupted):
        lcall(range(5), same)
