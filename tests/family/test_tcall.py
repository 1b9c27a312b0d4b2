"""One call: later, timed, under a deadline, its error told or ignored."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time

import pytest

from lionlite import scope
from lionlite.calls.single import tcall
from lionlite.exceptions import (
    AuthenticationError,
    Cancelled,
    ConfigError,
    DeadlineExceeded,
)
from lionlite.scope import cancellable, deadline

pytestmark = pytest.mark.quick


def add(left, right=0):
    return left + right


def failing(error):
    def func():
        raise error

    return func


def wait_long():
    scope.sleep(30, phase="test")


def test_the_value_comes_back_and_arguments_go_in():
    assert tcall(add, 3, right=4) == 7
    assert tcall(functools.partial(add, 1), 2) == 3
    assert tcall(lambda: None) is None


def test_delay_waits_before_the_call():
    began_s = time.monotonic()

    started_s = tcall(time.monotonic, delay=0.03)

    assert started_s - began_s >= 0.03


def test_timing_counts_the_call_and_not_the_delay():
    value, seconds = tcall(add, 3, delay=0.3, timing=True)

    assert value == 3
    assert isinstance(seconds, float)
    assert 0 <= seconds < 0.3


def test_timing_counts_all_of_the_call():
    _, seconds = tcall(time.sleep, 0.02, timing=True)

    assert seconds >= 0.02


def test_an_error_is_let_through_as_it_is():
    error = ValueError("bad")

    with pytest.raises(ValueError) as caught:
        tcall(failing(error))

    assert caught.value is error
    assert not hasattr(error, "__notes__")


def test_err_msg_stands_on_the_error_as_a_note():
    with pytest.raises(ValueError, match="bad") as caught:
        tcall(failing(ValueError("bad")), err_msg="Row 7")

    assert caught.value.__notes__ == ["Row 7"]


def test_an_error_that_takes_no_note_is_let_through_all_the_same():
    @dataclasses.dataclass(frozen=True)
    class FrozenError(Exception):
        code: int

    with pytest.raises(FrozenError):
        tcall(failing(FrozenError(7)), err_msg="Row 7")


def test_an_ignored_error_is_none_and_is_logged(caplog):
    with caplog.at_level(logging.DEBUG, logger="lionlite"):
        assert tcall(failing(ValueError("bad")), ignore_err=True) is None
        assert tcall(failing(ValueError("bad")), ignore_err=True, err_msg="Row 7") is None

    assert [record.levelname for record in caplog.records] == ["DEBUG", "WARNING"]
    assert "ValueError: bad" in caplog.messages[0]
    assert caplog.messages[1].startswith("Row 7: ")


def test_an_ignored_error_leaves_the_shape_of_the_result():
    value, seconds = tcall(failing(ValueError()), ignore_err=True, timing=True)

    assert value is None
    assert seconds >= 0


@pytest.mark.parametrize(
    "error",
    [Cancelled(), AuthenticationError(), KeyboardInterrupt(), SystemExit(3), GeneratorExit()],
    ids=lambda error: type(error).__name__,
)
def test_what_ends_everything_is_never_ignored(error):
    with pytest.raises(type(error)):
        tcall(failing(error), ignore_err=True)


def test_an_error_after_a_cancel_is_never_ignored():
    with cancellable() as token:

        def wrapping():
            token.cancel()
            try:
                wait_long()
            except Cancelled as error:
                raise ValueError from error

        with pytest.raises(ValueError):
            tcall(wrapping, ignore_err=True)


def test_timeout_bounds_what_waits_inside():
    with pytest.raises(DeadlineExceeded) as caught:
        tcall(wait_long, timeout=0.02)

    assert isinstance(caught.value, TimeoutError)
    assert tcall(wait_long, timeout=0.02, ignore_err=True) is None


def test_timeout_begins_after_the_delay():
    assert tcall(lambda: scope.current().left_s, delay=0.3, timeout=0.25) <= 0.25


def test_a_value_that_comes_late_counts():
    def stuck():
        time.sleep(0.03)
        return "paid for"

    assert tcall(stuck, timeout=0.01) == "paid for"


def test_without_time_the_function_is_not_called():
    called = []

    with pytest.raises(DeadlineExceeded):
        tcall(called.append, 1, timeout=0)

    assert called == []


def test_the_deadline_around_cuts_the_delay_at_once():
    called = []
    began_s = time.monotonic()

    with deadline(5), pytest.raises(DeadlineExceeded):
        tcall(called.append, 1, delay=30, ignore_err=True)

    assert called == []
    assert time.monotonic() - began_s < 2


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"delay": -1}, "delay takes seconds"),
        ({"delay": "soon"}, "delay takes seconds"),
        ({"timeout": float("nan")}, "timeout takes seconds"),
        ({"err_msg": 7}, "err_msg must be a str; got int"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_before_the_call(arguments, match):
    called = []

    with pytest.raises(ConfigError, match=match):
        tcall(called.append, 1, **arguments)

    assert called == []


async def a_coroutine_function():
    """Nothing here awaits it."""


@pytest.mark.parametrize(
    ("func", "match"),
    [
        (a_coroutine_function, "async function"),
        (functools.partial(a_coroutine_function), "async function"),
        (7, "takes a function; got int"),
    ],
    ids=["async", "partial", "int"],
)
def test_what_is_no_plain_function_is_refused(func, match):
    with pytest.raises(ConfigError, match=match):
        tcall(func)
