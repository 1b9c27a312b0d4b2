"""Deadline and cancel around a mapping call hold in its items."""

from __future__ import annotations

import queue
import threading

import pytest

from lionlite.calls.family import icall, lcall
from lionlite.exceptions import CallError, Cancelled, DeadlineExceeded
from lionlite.scope import cancellable, current, deadline, sleep

pytestmark = pytest.mark.quick

WAIT_S = 20  # only a failing test waits so long


def ends_at_s(_):
    return current().ends_at_s


def test_the_deadline_around_the_call_holds_in_every_item():
    with deadline(60) as scope:
        assert lcall(range(300), ends_at_s, max_workers=4) == [scope.ends_at_s] * 300
        assert list(icall("abc", ends_at_s)) == [(0, scope.ends_at_s)]


def test_a_deadline_that_the_input_enters_holds_in_its_items():
    entered = []

    def numbers():
        yield 0
        with deadline(60) as scope:
            entered.append(scope.ends_at_s)
            yield from range(1, 300)
        yield 300

    for call in (lcall, lambda *args: [value for _, value in sorted(icall(*args))]):
        got = call(numbers(), ends_at_s)
        assert got == [float("inf"), *[entered[-1]] * 299, float("inf")]


def test_the_callers_scope_is_left_as_it_was():
    before = current()

    lcall(range(10), str)
    seen = [current() for _ in icall(range(10), str)]

    assert {*seen, current()} == {before}


def test_a_deadline_that_passed_fails_the_items_not_the_call():
    with deadline(0), pytest.raises(CallError) as caught:
        lcall([1, 2], lambda _: sleep(1, phase="turn"), on_error="continue")

    assert [type(error) for error in caught.value.failed.values()] == [DeadlineExceeded] * 2


def test_items_of_one_run_share_a_token_and_runs_do_not():
    first = set(lcall(range(9), lambda _: current().token))
    second = set(lcall(range(9), lambda _: current().token))

    assert (len(first), len(second), len(first | second)) == (1, 1, 2)


@pytest.mark.parametrize("call", [lcall, lambda *args: list(icall(*args))], ids=["lcall", "icall"])
def test_a_cancel_from_outside_ends_the_call_and_tells_its_items(call):
    told = threading.Event()
    with cancellable() as token:

        def func(number):
            if number == 0:
                token.cancel()
            try:
                sleep(600, phase="turn")
            except Cancelled:
                told.set()
                raise

        with pytest.raises(Cancelled, match="items were told to stop"):
            call(range(1000), func)

    assert told.wait(WAIT_S)


def test_a_cancelled_call_does_not_wait_for_an_item_that_does_not_listen():
    leave = threading.Event()
    with cancellable() as token:

        def deaf(_):
            token.cancel()
            assert leave.wait(WAIT_S)

        with pytest.raises(Cancelled):
            lcall([1], deaf)
    leave.set()


def test_nothing_starts_in_a_scope_that_was_cancelled():
    started = []
    with cancellable() as token:
        token.cancel()

        with pytest.raises(Cancelled):
            lcall(range(100), started.append)

    assert started == []


def test_a_run_inside_a_cancelled_run_is_cancelled_too():
    ended = queue.SimpleQueue()
    with cancellable() as token:

        def inner(number):
            if number == 5:
                token.cancel()
            sleep(600, phase="turn")

        def outer(_):
            try:
                lcall(range(6), inner, on_error="continue")
            except BaseException as error:
                ended.put(type(error))
                raise

        with pytest.raises(Cancelled):
            lcall([1], outer)

    assert ended.get(timeout=WAIT_S) is Cancelled


def test_cancelling_is_seen_while_the_input_is_slow():
    """Items that start after the cancel would run for nothing."""
    started = []
    with cancellable() as token:

        def numbers():
            yield 1
            token.cancel()
            yield 2

        with pytest.raises(Cancelled):
            lcall(numbers(), started.append)

    assert 2 not in started
