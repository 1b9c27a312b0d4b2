"""Batches one after the other, the items of each at the same time."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lionlite.calls.batches import bcall
from lionlite.exceptions import (
    AuthenticationError,
    CallError,
    Cancelled,
    ConfigError,
    Interrupted,
)
from lionlite.scope import cancellable

pytestmark = pytest.mark.quick


def double(number):
    return number * 2


def broken_at(*bad):
    def func(number):
        if number in bad:
            raise ValueError(number)
        return number

    return func


def outcome_of(items, func, batch_size, mode):
    """Return the values, and the indices of the errors, however they come back."""
    try:
        got = bcall(items, func, batch_size=batch_size, on_error=mode)
    except CallError as error:
        return error.results, list(error.failed)
    return got, [index for index, value in enumerate(got) if isinstance(value, ValueError)]


class Batches:
    """Notes what runs when, so that a test can see the batches."""

    def __init__(self):
        self.lock = threading.Lock()
        self.log = []

    def reading(self, numbers):
        for number in numbers:
            self.log.append(("read", number))
            yield number

    def __call__(self, number):
        with self.lock:
            self.log.append(("begin", number))
        time.sleep(0.001 * (number % 3))
        with self.lock:
            self.log.append(("end", number))
        return number


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100])
def test_values_come_flat_and_in_order(batch_size):
    assert bcall([1, 2, 3, 4, 5], double, batch_size=batch_size) == [2, 4, 6, 8, 10]


def test_nothing_gives_nothing():
    assert bcall([], double, batch_size=3) == []
    assert bcall(iter(()), double, batch_size=3) == []


def test_the_items_of_a_batch_run_at_the_same_time():
    meeting = threading.Barrier(20, timeout=10)

    assert bcall(range(40), lambda _: meeting.wait() >= 0, batch_size=20) == [True] * 40


@pytest.mark.parametrize("max_workers", [None, 1, 2, "auto"])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 200])
def test_a_batch_is_read_and_begun_when_the_one_before_has_ended(batch_size, max_workers):
    batches = Batches()

    got = bcall(batches.reading(range(20)), batches, batch_size=batch_size, max_workers=max_workers)

    assert got == list(range(20))
    numbers = [number // batch_size for _, number in batches.log]
    assert numbers == sorted(numbers)


def test_a_batch_larger_than_the_window_is_whole():
    batches = Batches()

    bcall(batches.reading(range(700)), batches, batch_size=350, max_workers=4)

    numbers = [number // 350 for _, number in batches.log]
    assert numbers == sorted(numbers)


def test_an_endless_input_is_read_no_further_than_the_batch_that_fails():
    batches = Batches()

    with pytest.raises(CallError) as caught:
        bcall(batches.reading(itertools.count()), broken_at(5), batch_size=4)

    assert max(number for what, number in batches.log if what == "read") <= 7
    assert caught.value.results[:4] == [0, 1, 2, 3]


@given(
    total=st.integers(0, 30),
    batch_size=st.integers(1, 12),
    bad=st.sets(st.integers(0, 29)),
    mode=st.sampled_from(["stop", "continue", "return"]),
)
@settings(deadline=None, max_examples=60)
def test_a_run_agrees_with_a_plain_loop(total, batch_size, bad, mode):
    bad = sorted(number for number in bad if number < total)
    model = [None if number in bad else number for number in range(total)]

    got, failed = outcome_of(range(total), broken_at(*bad), batch_size, mode)

    values = [None if isinstance(value, ValueError) else value for value in got]
    if mode == "stop" and bad:
        whole = min(bad) // batch_size * batch_size
        assert values[:whole] == model[:whole]
        assert {index // batch_size for index in failed} == {min(bad) // batch_size}
        assert set(failed) <= set(bad)
        assert len(values) <= whole + batch_size
    else:
        assert (values, failed) == (model, bad)


def test_a_fatal_error_stops_every_mode():
    def no_key(number):
        if number == 4:
            raise AuthenticationError("no such key")
        return number

    with pytest.raises(CallError) as caught:
        bcall(range(100), no_key, batch_size=3, on_error="return")

    assert caught.value.fatal
    assert caught.value.results[:3] == [0, 1, 2]
    assert len(caught.value.results) == 6


def test_an_input_that_fails_keeps_everything_finished():
    def numbers():
        yield from range(5)
        raise OSError("no disk")

    with pytest.raises(CallError, match="The input failed at index 5") as caught:
        bcall(numbers(), double, batch_size=2)

    assert caught.value.results[:4] == [0, 2, 4, 6]


def test_ctrl_c_keeps_everything_finished_over_all_batches():
    def pressed(number):
        if number == 7:
            raise KeyboardInterrupt
        return number

    with pytest.raises(Interrupted) as caught:
        bcall(range(100), pressed, batch_size=3, max_workers=1)

    assert caught.value.results[:7] == list(range(7))
    assert len(caught.value.results) == 9


def test_a_cancel_ends_it_in_the_middle_of_a_batch():
    is_in = threading.Event()
    free = threading.Event()

    def stuck(_):
        is_in.set()
        free.wait(10)

    with cancellable() as token:
        helper = threading.Thread(target=lambda: (is_in.wait(10), token.cancel()))
        helper.start()

        with pytest.raises(Cancelled):
            bcall(range(100), stuck, batch_size=4)

        free.set()
        helper.join()


def test_progress_goes_over_all_batches():
    shown = []

    bcall(range(7), double, batch_size=3, progress=lambda *at: shown.append(at))

    assert shown[-1] == (7, 7)
    assert [done for done, _ in shown] == sorted({done for done, _ in shown})


def test_retries_stay_within_the_batch():
    tried = []

    def second_time(number):
        tried.append(number)
        if tried.count(number) == 1:
            raise ValueError(number)
        return number

    assert bcall(range(5), second_time, batch_size=2, retries=1) == list(range(5))
    assert [number // 2 for number in tried] == sorted(number // 2 for number in tried)


@pytest.mark.parametrize("progress", [False, lambda done, total: None], ids=["plain", "progress"])
def test_waiting_for_a_batch_takes_no_processor(progress):
    began_s = time.thread_time()

    bcall(range(4), lambda _: time.sleep(0.3), batch_size=2, progress=progress)

    assert time.thread_time() - began_s < 0.2


def test_calls_nest():
    def inner(number):
        return sum(bcall(range(number), double, batch_size=2, max_workers=2))

    assert bcall(range(6), inner, batch_size=2, max_workers=2) == [0, 0, 2, 6, 12, 20]


def test_a_text_is_one_item():
    assert bcall("abc", len, batch_size=2) == [3]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"batch_size": 0}, "batch_size must be an int >= 1"),
        ({"batch_size": True}, "batch_size must be an int >= 1"),
        ({"batch_size": 2, "max_workers": 0}, "max_workers must be an int >= 1"),
        ({"batch_size": 2, "flatten": True}, r"bcall\(\) has no argument 'flatten'"),
        ({"batch_size": 2, "on_error": "ignore"}, "on_error must be"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_before_any_call(arguments, match):
    called = []

    with pytest.raises(ConfigError, match=match):
        bcall([1], called.append, **arguments)

    assert called == []
