"""Values remembered by their arguments: how long, how many, and made once for all threads."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest

from lionlite.calls.decorators.cd import cd
from lionlite.calls.decorators.memo import CallKey
from lionlite.calls.family import lcall
from lionlite.exceptions import Cancelled, ConfigError, DeadlineExceeded
from lionlite.scope import cancellable, deadline
from lionlite.testing import ManualClock

pytestmark = pytest.mark.quick


class Made:
    """A function that counts its calls by argument."""

    def __init__(self, pause_s=0.0):
        self.pause_s = pause_s
        self.calls = []

    def __call__(self, *args, **kwargs):
        self.calls.append((*args, *sorted(kwargs.items())))
        time.sleep(self.pause_s)
        return object()


def waiting(decorated):
    """Return how many stand in the lines of a cached function, makers included."""
    cells = dict(zip(decorated.__code__.co_freevars, decorated.__closure__, strict=True))
    memo = cells["memo"].cell_contents
    return sum(flight.line.length for flight in list(memo._flights.values()))


def until(condition):
    ends_at_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends_at_s
        time.sleep(0.001)


@pytest.mark.parametrize("decorate", [cd.cache, cd.cache(), cd.cache(ttl=None, maxsize=None)])
def test_the_same_arguments_give_the_same_object(decorate):
    made = Made()
    func = decorate(made)

    assert func(1) is func(1)
    assert func(1) is not func(2)
    assert made.calls == [(1,), (2,)]


def test_none_is_a_value_like_any_other():
    calls = []
    func = cd.cache(lambda: calls.append(1))

    assert (func(), func(), calls) == (None, None, [1])


def test_what_tells_calls_apart():
    made = Made()
    func = cd.cache(made)

    assert func(a=1, b=2) is func(b=2, a=1)
    different = [func(1), func(1.0), func(True), func("1"), func(a=1), func(("a", 1)), func()]
    assert len(set(different)) == 7


def test_a_value_is_made_again_when_its_time_is_over():
    clock, made = ManualClock(), Made()
    func = cd.cache(made, ttl=10, clock=clock)

    func(1)
    clock.advance(9.9)
    func(1)
    assert len(made.calls) == 1

    clock.advance(0.2)
    func(1)
    func(1)
    assert len(made.calls) == 2


def test_the_time_of_a_value_begins_when_it_is_there():
    clock = ManualClock()
    calls = []

    def slow():
        calls.append(1)
        clock.advance(8)

    func = cd.cache(slow, ttl=10, clock=clock)
    func()
    clock.advance(9)
    func()

    assert calls == [1]


def test_the_one_not_asked_for_the_longest_goes_first():
    made = Made()
    func = cd.cache(made, maxsize=2)

    func(1), func(2), func(1), func(3), func(1), func(2)

    assert made.calls == [(1,), (2,), (3,), (2,)]


def test_what_is_pushed_out_or_too_old_is_let_go():
    class Value:
        pass

    clock = ManualClock()
    func = cd.cache(lambda _: Value(), ttl=10, maxsize=3, clock=clock)
    values = [weakref.ref(func(number)) for number in range(9)]
    gc.collect()
    assert [value() is not None for value in values] == [False] * 6 + [True] * 3

    clock.advance(11)
    func(100)
    gc.collect()
    assert [value() is not None for value in values] == [False] * 9


def test_errors_are_not_remembered():
    outcomes = [ValueError("first"), "second"]

    def flaky():
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    func = cd.cache(flaky)

    with pytest.raises(ValueError, match="first"):
        func()
    assert (func(), func()) == ("second", "second")


@pytest.mark.parametrize(
    ("args", "kwargs", "match"),
    [
        (([1],), {}, r"argument 0 is \(or holds\) a list"),
        ((1, {"a": 1}), {}, r"argument 1 is \(or holds\) a dict"),
        ((), {"rows": {1}}, r"rows is \(or holds\) a set"),
        (((1, []),), {}, r"argument 0 is \(or holds\) a tuple"),
    ],
    ids=["list", "dict", "set", "list in a tuple"],
)
def test_an_argument_without_a_hash_is_named(args, kwargs, match):
    made = Made()

    with pytest.raises(ConfigError, match=match):
        cd.cache(made)(*args, **kwargs)

    assert made.calls == []


@pytest.mark.parametrize("threads", [2, 64])
def test_many_threads_make_one_value(threads):
    made, start = Made(pause_s=0.03), threading.Barrier(threads, timeout=20)
    func = cd.cache(made)

    def ask(number):
        start.wait()
        return func(number % 2)

    got = lcall(range(threads), ask, max_workers=threads)

    assert sorted(made.calls) == [(0,), (1,)]
    assert len(set(got)) == 2


def test_those_who_wait_share_a_value_that_is_pushed_out_at_once():
    calls, all_are_there = [], threading.Barrier(5, timeout=20)

    @cd.cache(maxsize=1)
    def func(number):
        calls.append(number)
        all_are_there.wait()
        return number

    def release():
        until(lambda: waiting(func) == 32)
        all_are_there.wait()

    helper = threading.Thread(target=release)
    helper.start()
    got = lcall(range(32), lambda number: func(number % 4), max_workers=32)
    helper.join(20)

    assert got == [number % 4 for number in range(32)]
    assert sorted(calls) == [0, 1, 2, 3]


def test_after_an_error_the_next_who_waits_makes_the_value():
    threads = 16
    start, calls = threading.Barrier(threads, timeout=20), []

    @cd.cache
    def flaky():
        calls.append(1)
        time.sleep(0.01)
        if len(calls) < 3:
            raise ValueError(len(calls))
        return "made"

    got = lcall(
        range(threads), lambda _: (start.wait(), flaky())[1], max_workers=threads, on_error="return"
    )

    assert len(calls) == 3
    assert sorted(map(str, got)) == ["1", "2"] + ["made"] * (threads - 2)


def test_waiting_for_another_thread_ends_with_the_deadline():
    is_free = threading.Event()
    func = cd.cache(lambda: is_free.wait(20))
    maker = threading.Thread(target=func)
    maker.start()
    until(lambda: waiting(func) == 1)

    with deadline(0.03), pytest.raises(DeadlineExceeded) as caught:
        func()

    assert caught.value.phase == "cache"
    assert waiting(func) == 1
    is_free.set()
    maker.join()
    assert func() is True


def test_a_maker_that_is_cancelled_leaves_the_value_to_the_next():
    def make():
        with deadline(20) as scope_:
            while not is_free.wait(0.001):
                scope_.check("test")
        return "made"

    is_free, got = threading.Event(), []
    func = cd.cache(make)

    def cancelled():
        with cancellable() as token, pytest.raises(Cancelled):
            tokens.append(token)
            func()

    tokens = []
    maker = threading.Thread(target=cancelled)
    maker.start()
    until(lambda: waiting(func) == 1)
    other = threading.Thread(target=lambda: got.append(func()))
    other.start()
    until(lambda: waiting(func) == 2)

    tokens[0].cancel()
    maker.join(10)
    is_free.set()
    other.join(10)

    assert got == ["made"]


def test_a_function_that_calls_itself_with_the_same_arguments_is_told():
    @cd.cache
    def endless(number):
        return endless(number)

    with pytest.raises(ConfigError, match="calls itself with the same arguments"):
        endless(1)


def test_the_same_through_threads_is_told_too():
    @cd.cache
    def endless(number):
        return lcall([number], endless)[0]

    with pytest.raises(Exception, match="calls itself"):
        endless(1)


def test_recursion_with_other_arguments_works():
    @cd.cache
    def fibonacci(number):
        return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

    assert fibonacci(60) == 1_548_008_755_920


def test_no_line_outlives_those_who_stood_in_it():
    func = cd.cache(Made())

    lcall(range(100), lambda number: func(number % 10))
    gc.collect()

    assert waiting(func) == 0
    cells = dict(zip(func.__code__.co_freevars, func.__closure__, strict=True))
    assert len(cells["memo"].cell_contents._flights) == 0


def test_a_value_that_is_too_old_when_it_is_there_is_handed_over_all_the_same():
    clock = ManualClock()

    def tell():
        clock.advance(5)
        return clock.now_s()

    func = cd.cache(lambda: 7, ttl=1, clock=tell)

    assert (func(), func()) == (7, 7)


def test_keys_equal_nothing_but_keys():
    key = CallKey(len, ("a",), {})

    assert key == CallKey(len, ("a",), {})
    assert key not in (7, ("a",))
