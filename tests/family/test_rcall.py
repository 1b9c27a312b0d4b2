"""One call, tried again: how often, after which wait, and what is never tried again."""

from __future__ import annotations

import functools
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionlite import scope
from lionlite.calls import again
from lionlite.calls.again import Patience, patience_from
from lionlite.calls.family import lcall
from lionlite.calls.single import rcall
from lionlite.exceptions import (
    AuthenticationError,
    Cancelled,
    ConfigError,
    DeadlineExceeded,
    RateLimitError,
    ServerError,
)
from lionlite.scope import cancellable, deadline

pytestmark = pytest.mark.quick


class Flaky:
    """Fails *times* times, then returns what it is given."""

    def __init__(self, times, error=ValueError):
        self.times = times
        self.error = error
        self.started = 0

    def __call__(self, value="done"):
        self.started += 1
        if self.started <= self.times:
            raise self.error if isinstance(self.error, BaseException) else self.error(self.started)
        return value


def note(waits, seconds, *, phase):
    waits.append(seconds)


@pytest.fixture
def slept(monkeypatch):
    """Return the waits between attempts; they take no time."""
    waits = []
    monkeypatch.setattr(again.scope, "sleep", functools.partial(note, waits))
    return waits


def test_a_success_is_not_repeated(slept):
    func = Flaky(0)

    assert rcall(func, "value", retries=5) == "value"
    assert (func.started, slept) == (1, [])


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_retries_are_attempts_beyond_the_first(slept, retries):
    func = Flaky(99)

    with pytest.raises(ValueError, match=str(retries + 1)):
        rcall(func, retries=retries)

    assert func.started == retries + 1


def test_waits_grow_and_none_follows_the_last_attempt(slept):
    with pytest.raises(ValueError):
        rcall(Flaky(99), retries=3, delay=0.5, backoff_factor=3)

    assert slept == [0.5, 1.5, 4.5]


def test_the_attempt_that_succeeds_ends_it(slept):
    func = Flaky(2)

    assert rcall(func, value="kept", retries=5, delay=1) == "kept"
    assert (func.started, slept) == (3, [1, 2])


@pytest.mark.parametrize("default", [None, 0, "", "spare"], ids=repr)
def test_a_default_stands_in_for_the_last_error(slept, default):
    func = Flaky(99)

    assert rcall(func, retries=2, default=default) == default
    assert func.started == 3


@pytest.mark.parametrize(
    "error",
    [Cancelled(), AuthenticationError(), KeyboardInterrupt(), SystemExit()],
    ids=lambda error: type(error).__name__,
)
def test_what_ends_everything_is_neither_repeated_nor_replaced(slept, error):
    func = Flaky(99, error)

    with pytest.raises(type(error)):
        rcall(func, retries=5, default="spare")

    assert (func.started, slept) == (1, [])


def test_a_config_error_is_not_repeated_but_may_be_replaced(slept):
    func = Flaky(99, ConfigError("NaN in the context"))

    assert rcall(func, retries=5, default="spare") == "spare"
    assert func.started == 1


def test_what_an_error_asks_for_is_waited_if_it_is_longer(slept):
    assert rcall(Flaky(1, RateLimitError(retry_after_s=7.0)), retries=1) == "done"
    assert rcall(Flaky(1, RateLimitError(retry_after_s=0.1)), retries=1, delay=2) == "done"

    assert slept == [7.0, 2]


def test_an_error_that_asks_for_too_long_goes_to_the_caller(slept):
    func = Flaky(99, ServerError(retry_after_s=3_600.0))

    with pytest.raises(ServerError):
        rcall(func, retries=5)

    assert (func.started, slept) == (1, [])


def test_each_attempt_has_the_whole_timeout():
    started = []

    def slow_once():
        started.append(time.monotonic())
        if len(started) < 3:
            scope.sleep(30, phase="test")
        return "done"

    assert rcall(slow_once, retries=2, delay=0, timeout=5) == "done"
    assert len(started) == 3


def test_the_last_timeout_is_let_through():
    with pytest.raises(DeadlineExceeded):
        rcall(lambda: scope.sleep(30, phase="test"), retries=1, delay=0, timeout=0.01)


def test_no_wait_goes_past_the_deadline_around():
    func = Flaky(99)
    began_s = time.monotonic()

    with deadline(5), pytest.raises(ValueError, match="1"):
        rcall(func, retries=9, delay=30)

    assert func.started == 1
    assert time.monotonic() - began_s < 2


def test_a_cancel_ends_the_wait():
    func = Flaky(99)
    with cancellable() as token:
        timer = threading.Timer(0.03, token.cancel)
        timer.start()

        with pytest.raises(Cancelled):
            rcall(func, retries=9, delay=30, default="spare")

        timer.join()
    assert func.started == 1


def test_calls_that_wait_in_the_threads_of_a_run_are_cut_with_it():
    funcs = [Flaky(99) for _ in range(8)]
    with cancellable() as token:
        timer = threading.Timer(0.05, token.cancel)
        timer.start()

        with pytest.raises(Cancelled):
            lcall(funcs, lambda func: rcall(func, retries=9, delay=30), max_workers=8)

        timer.join()
    assert {func.started for func in funcs} <= {0, 1}


@given(
    retries=st.integers(0, 9),
    delay=st.floats(0, 1e300) | st.just(0),
    factor=st.floats(0, 1e300) | st.integers(0, 9),
    failed=st.integers(1, 12),
)
def test_a_wait_is_always_one_that_a_lock_can_wait(retries, delay, factor, failed):
    patience = patience_from(retries, delay, factor)

    wait_s = patience.wait_s(ValueError(), failed=failed)

    assert (wait_s is None) == (failed > retries)
    assert wait_s is None or 0 <= wait_s <= threading.TIMEOUT_MAX


def test_many_attempts_do_not_overflow():
    patience = Patience(retries=10**9, delay_s=1.0, backoff_factor=2.0)

    assert patience.wait_s(ValueError(), failed=10**8) == threading.TIMEOUT_MAX
    assert Patience(9, 0.0, 1e9).wait_s(ValueError(), failed=9) == 0


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"retries": -1}, "retries must be an int >= 0"),
        ({"retries": True}, "retries must be an int >= 0"),
        ({"retries": 1.5}, "retries must be an int >= 0"),
        ({"delay": -1}, "delay takes seconds"),
        ({"backoff_factor": -1}, "backoff_factor must be a number >= 0"),
        ({"backoff_factor": float("nan")}, "backoff_factor must be a number >= 0"),
        ({"timeout": "8"}, "timeout takes seconds"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_before_the_call(arguments, match):
    func = Flaky(0)

    with pytest.raises(ConfigError, match=match):
        rcall(func, **{"default": None, **arguments})

    assert func.started == 0
