"""retries=N: N more attempts of an item, and which errors deserve them."""

from __future__ import annotations

import time
from contextvars import ContextVar

import pytest

from lionlite import scope
from lionlite.calls.family import icall, lcall
from lionlite.exceptions import (
    AuthenticationError,
    CallError,
    Cancelled,
    ConfigError,
    DeadlineExceeded,
    RateLimitError,
    ServerError,
)
from lionlite.scope import deadline

pytestmark = pytest.mark.quick


class Flaky:
    """Fails a number of times, then returns how often it was called."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.calls = 0

    def __call__(self, _):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.calls


@pytest.mark.parametrize("retries", [0, 1, 2, 5])
def test_retries_are_attempts_beyond_the_first(retries):
    func = Flaky(*[ValueError(number) for number in range(20)])

    [error] = lcall([1], func, retries=retries, on_error="return")

    assert func.calls == 1 + retries
    assert error.args == (retries,)  # the last attempt's


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_an_attempt_that_does_well_is_the_last(failures):
    func = Flaky(*[OSError()] * failures)

    assert lcall([1], func, retries=3) == [failures + 1]


def test_every_item_has_its_own_retries():
    calls = []

    def func(number):
        calls.append(number)
        if calls.count(number) < 3:
            raise ServerError("again")
        return number

    assert sorted(icall(range(50), func, retries=2, max_workers=8)) == [(n, n) for n in range(50)]
    assert len(calls) == 150


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("no key"),
        ConfigError("wrong argument"),
        Cancelled("by the service"),
        SystemExit(3),
        CallError("inside", fatal=True),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_would_fail_again_is_not_tried_again(error):
    func = Flaky(error)

    with pytest.raises(CallError) as caught:
        lcall([1], func, retries=5)

    assert (func.calls, caught.value.failed) == (1, {0: error})


def test_each_attempt_begins_in_the_context_of_the_first():
    seen, variable = [], ContextVar("variable", default="caller's")

    def func(_):
        seen.append(variable.get())
        variable.set("attempt's")
        raise ValueError

    lcall([1], func, retries=2, on_error="return")

    assert seen == ["caller's"] * 3


def test_an_error_that_says_when_to_come_again_is_obeyed():
    func = Flaky(RateLimitError("slow down", retry_after_s=0.15))
    began_s = time.monotonic()

    assert lcall([1], func, retries=1) == [2]

    assert time.monotonic() - began_s >= 0.15


def test_an_error_that_asks_for_too_long_a_wait_is_final(monkeypatch):
    slept = []
    monkeypatch.setattr(scope, "sleep", lambda seconds, phase: slept.append(seconds))
    func = Flaky(ServerError(retry_after_s=120.0), error := ServerError(retry_after_s=120.5))

    assert lcall([1], func, retries=5, on_error="return") == [error]

    assert (func.calls, slept) == (2, [120.0])


@pytest.mark.parametrize("retry_after_s", [600, None], ids=["too late then", "too late now"])
def test_nothing_is_tried_again_past_the_deadline(retry_after_s):
    error = DeadlineExceeded("too late", retry_after_s=retry_after_s)
    func = Flaky(error)

    with deadline(0 if retry_after_s is None else 60):
        assert lcall([1], func, retries=5, on_error="return") == [error]
    assert func.calls == 1


def test_no_retry_is_begun_in_a_run_that_was_cancelled():
    calls = []

    def func(number):
        calls.append(number)
        if number == 0:
            raise KeyboardInterrupt
        while calls.count(0) == 0:
            time.sleep(0.001)
        time.sleep(0.05)
        raise ValueError

    with pytest.raises(KeyboardInterrupt):
        lcall([1, 0], func, retries=1000, max_workers=2)

    # A few may fit in between the error and the cancel, none after it.
    count = len(calls)
    time.sleep(0.12)
    assert len(calls) == count < 20
