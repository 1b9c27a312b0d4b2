"""What becomes of the items when some of them fail."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import sys
import threading
import time
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lionlite.calls import engine
from lionlite.calls.family import icall, lcall
from lionlite.exceptions import (
    AuthenticationError,
    CallError,
    Cancelled,
    Interrupted,
    ServerError,
)

pytestmark = pytest.mark.quick

MODES = ("stop", "continue", "return")


class BadItemError(Exception):
    pass


def failing_at(*bad, error=BadItemError):
    def func(number):
        if number in bad:
            raise error(number)
        return number * 10

    return func


def outcome_of(items, func, workers, mode):
    try:
        return lcall(iter(items), func, max_workers=workers, on_error=mode), []
    except CallError as error:
        return error.results, list(error.failed)


@pytest.mark.parametrize("share", range(1, 101), ids="{} %".format)
def test_whatever_share_fails_all_the_rest_is_returned_in_order(share):
    workers = (1, 8, 64)[share % 3]
    bad = {number for number in range(300) if number * 37 % 100 < share}

    with pytest.raises(CallError) as caught:
        lcall(range(300), failing_at(*bad), max_workers=workers, on_error="continue")

    expected = [None if number in bad else number * 10 for number in range(300)]
    assert caught.value.results == expected
    assert {index: error.args for index, error in caught.value.failed.items()} == {
        number: (number,) for number in sorted(bad)
    }
    assert list(caught.value.failed) == sorted(bad)


@given(
    outcomes=st.lists(st.sampled_from(["value", "error"]), max_size=200),
    workers=st.integers(1, 9),
    mode=st.sampled_from(MODES),
)
@settings(deadline=None, max_examples=150)
def test_a_run_agrees_with_a_plain_loop(outcomes, workers, mode):
    bad = [index for index, outcome in enumerate(outcomes) if outcome == "error"]
    model = [BadItemError if index in bad else index * 10 for index in range(len(outcomes))]

    got, failed = outcome_of(range(len(outcomes)), failing_at(*bad), workers, mode)

    kinds = [type(value) if isinstance(value, Exception) else value for value in got]
    if mode == "return":
        assert (kinds, failed) == (model, [])
    elif mode == "continue":
        assert (kinds, failed) == ([None if kind is BadItemError else kind for kind in model], bad)
    else:
        assert bool(failed) == bool(bad)
        assert set(failed) <= set(bad)
        assert all(kind in (None, made) for kind, made in zip(kinds, model, strict=False))
        assert bad or kinds == model


def test_stop_starts_no_item_after_the_first_error():
    started = []

    def func(number):
        started.append(number)
        if number == 3:
            raise BadItemError(number)
        return number

    with pytest.raises(CallError) as caught:
        lcall(range(1000), func, max_workers=1)

    assert started == [0, 1, 2, 3]
    assert caught.value.results[:4] == [0, 1, 2, None]
    assert set(caught.value.results[4:]) <= {None}
    assert list(caught.value.failed) == [3]


def test_stop_lets_those_in_flight_finish():
    failed, both_run = threading.Event(), threading.Barrier(2)

    def func(name):
        both_run.wait()
        if name == "bad":
            failed.set()
            raise BadItemError
        failed.wait()
        return name

    with pytest.raises(CallError) as caught:
        lcall(["good", "bad"], func, max_workers=2)

    assert caught.value.results == ["good", None]


def test_the_first_error_is_the_cause_and_the_message_tells_the_cure():
    with pytest.raises(CallError) as caught:
        lcall(range(5), failing_at(2, 3), max_workers=1, on_error="continue")

    assert caught.value.__cause__ is caught.value.failed[2]
    assert str(caught.value) == (
        '2 of 5 items failed. Index 2: BadItemError: 2. Pass on_error="return" to get errors in '
        "their places. Everything finished is in .results, the errors are in .failed."
    )


def test_return_puts_errors_in_their_places():
    values = lcall(range(4), failing_at(1, 2), on_error="return")

    assert [values[0], values[3]] == [0, 30]
    assert [(type(value), value.args) for value in values[1:3]] == [
        (BadItemError, (1,)),
        (BadItemError, (2,)),
    ]


def test_an_exception_returned_by_the_function_is_a_value():
    error = BadItemError("as a value")

    assert lcall([1], lambda _: error) == [error]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("workers", [1, 8])
def test_a_fatal_error_stops_every_mode(mode, workers):
    started = []

    def func(number):
        started.append(number)
        if number >= 5:
            raise AuthenticationError("no such key")
        return number

    with pytest.raises(CallError, match=r"Index \d: .*no such key. It is fatal") as caught:
        lcall(range(10_000), func, max_workers=workers, on_error=mode)

    assert caught.value.fatal
    assert caught.value.results[:5] == [0, 1, 2, 3, 4]
    assert len(started) <= 5 + workers
    assert isinstance(caught.value.__cause__, AuthenticationError)


def test_a_fatal_error_stops_the_runs_around_it():
    def inner(_):
        return lcall([1], failing_at(1, error=AuthenticationError))

    with pytest.raises(CallError) as caught:
        lcall(range(1000), inner, max_workers=1, on_error="continue")

    assert list(caught.value.failed) == [0]


def test_errors_before_a_fatal_one_are_kept_apart_from_values():
    def func(number):
        raise (AuthenticationError if number else ServerError)("no")

    with pytest.raises(CallError) as caught:
        lcall([0, 1], func, max_workers=1, on_error="return")

    assert caught.value.results == [None, None]
    assert {i: type(e) for i, e in caught.value.failed.items()} == {
        0: ServerError,
        1: AuthenticationError,
    }


@pytest.mark.parametrize(
    "kind", [SystemExit, GeneratorExit, StopIteration, MemoryError], ids=lambda k: k.__name__
)
@pytest.mark.parametrize(
    "call", [lcall, lambda *a, **k: list(icall(*a, **k))], ids=["lcall", "icall"]
)
def test_what_would_end_a_thread_is_only_its_items_error(kind, call):
    with pytest.raises(CallError) as caught:
        call(range(4), failing_at(2, error=kind), max_workers=2, on_error="continue")

    assert {index: type(error) for index, error in caught.value.failed.items()} == {2: kind}


def test_keyboard_interrupt_raised_by_the_function_interrupts_the_run():
    def func(number):
        if number == 3:
            raise KeyboardInterrupt("from the function")
        return number

    with pytest.raises(Interrupted) as caught:
        lcall(range(1000), func, max_workers=1, on_error="return")

    assert caught.value.results[:4] == [0, 1, 2, None]
    assert caught.value.failed == {}
    assert str(caught.value.__cause__) == "from the function"


def test_keyboard_interrupt_of_the_last_item_is_not_missed():
    both_run, asked, raised = threading.Barrier(2), threading.Event(), threading.Event()

    def func(number):
        both_run.wait(20)
        if number:
            asked.wait(20)
            raised.set()
            raise KeyboardInterrupt
        return number

    def progress(done, total):
        """Hold the calling thread until the run is over behind its back."""
        asked.set()
        raised.wait(20)
        time.sleep(0.02)

    with pytest.raises(Interrupted) as caught:
        lcall([0, 1], func, progress=progress)

    assert caught.value.results == [0, None]


def test_an_interrupted_run_leaves_behind_what_does_not_come_back(monkeypatch):
    monkeypatch.setattr(engine, "GRACE_S", 0)
    together, leave = threading.Barrier(2), threading.Event()

    def func(name):
        together.wait(20)
        if name == "key":
            raise KeyboardInterrupt
        leave.wait(20)

    with pytest.raises(Interrupted, match="1 still run; Python waits for them at exit"):
        lcall(["key", "deaf"], func)
    leave.set()


class UnreadableError(Exception):
    def __str__(self):
        raise RuntimeError

    __repr__ = __reduce__ = __str__

    @property
    def fatal(self):
        raise RuntimeError


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    number: int


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [UnreadableError, FrozenError])
def test_odd_exceptions_are_errors_like_any_other(kind, mode):
    try:
        values = lcall([0, 1], failing_at(1, error=kind), max_workers=1, on_error=mode)
    except CallError as error:
        values = [error.results[0], error.failed[1]]

    assert values[0] == 0
    assert type(values[1]) is kind


def test_an_unreadable_error_is_named_by_its_class():
    with pytest.raises(CallError, match=r"UnreadableError \(its text cannot be read\)"):
        lcall([1], failing_at(1, error=UnreadableError))


def test_a_very_long_text_is_cut_in_the_message():
    with pytest.raises(CallError) as caught:
        lcall([1], lambda _: {}["x" * 5000])

    assert len(str(caught.value)) < 600


def test_cancelled_for_its_own_reason_is_an_items_error():
    [error] = lcall([1], failing_at(1, error=Cancelled), on_error="return")

    assert isinstance(error, Cancelled)


def test_tracebacks_begin_in_the_users_function():
    [error] = lcall([1], failing_at(1), on_error="return")

    assert error.__traceback__.tb_frame.f_code.co_name == "func"


@pytest.mark.parametrize("mode", MODES)
def test_an_input_that_raises_loses_nothing_that_finished(mode):
    def numbers():
        yield from range(5)
        raise OSError("cursor lost")

    with pytest.raises(
        CallError, match="The input failed at index 5: OSError: cursor lost"
    ) as caught:
        lcall(numbers(), failing_at(), max_workers=1, on_error=mode)

    results = caught.value.results
    assert len(results) == 5
    assert all(value in (None, index * 10) for index, value in enumerate(results))
    assert isinstance(caught.value.__cause__, OSError)


def test_an_input_that_raises_lets_those_in_flight_finish():
    entered, raised = threading.Event(), threading.Event()

    def numbers():
        yield 1
        entered.wait()
        raised.set()
        raise OSError

    def func(number):
        entered.set()
        raised.wait()
        return number

    with pytest.raises(CallError) as caught:
        lcall(numbers(), func)

    assert caught.value.results == [1]
    assert caught.value.failed == {}


def test_system_exit_from_the_input_goes_through():
    def numbers():
        yield 1
        sys.exit(3)

    with pytest.raises(SystemExit):
        lcall(numbers(), failing_at())


class Thing:
    pass


def refuse(thing):
    raise BadItemError(thing)


def one_thing_then_an_error():
    yield Thing()
    raise OSError


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [one_thing_then_an_error, lambda: [Thing()]], ids=["gen", "list"])
def test_errors_and_items_die_without_the_garbage_collector(make, mode):
    alive = weakref.WeakSet()

    def run():
        for error in lcall(make(), refuse, on_error=mode):
            alive.update([error, *error.args])

    gc.disable()
    try:
        with contextlib.suppress(CallError):
            run()
        left = list(alive) + [thing for thing in gc.get_objects() if type(thing) is Thing]
    finally:
        gc.enable()

    assert left == []
