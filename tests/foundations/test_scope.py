"""Deadlines and cancelling, as far as one thread sees them."""

from __future__ import annotations

import contextvars
import math
import time

import pytest

from lionlite import scope
from lionlite.exceptions import Cancelled, ConfigError, DeadlineExceeded
from lionlite.scope import CancelToken, Scope, cancellable, current, deadline, entered, sleep

pytestmark = pytest.mark.quick


@pytest.fixture
def now_s(monkeypatch):
    """Hold the clock at one instant."""
    monkeypatch.setattr(time, "monotonic", lambda: 1_000.0)
    return 1_000.0


def test_without_a_deadline_nothing_ends():
    here = current()

    here.check("read")

    assert (here, here.left_s, here.tokens) == (Scope(), math.inf, ())


def test_a_deadline_counts_from_entering(now_s):
    bound = deadline(8)

    with bound as here:
        assert (here.ends_at_s, here.left_s, current()) == (now_s + 8, 8.0, here)

    assert current() == Scope()


@pytest.mark.parametrize(("outer", "inner"), [(5, 8), (8, 5)], ids=["outer", "inner"])
def test_of_nested_deadlines_the_soonest_counts(now_s, outer, inner):
    with deadline(outer), deadline(inner) as here:
        assert here.left_s == 5

    assert current().left_s == math.inf


def test_an_inner_deadline_ends_with_its_block(now_s):
    with deadline(8):
        with deadline(5):
            pass

        assert current().left_s == 8


def test_one_deadline_may_be_used_again(now_s):
    bound = deadline(8)

    for _ in range(2):
        with bound as here:
            assert here.left_s == 8


def test_a_copied_context_carries_the_scope(now_s):
    with deadline(8), cancellable() as token:
        carried = contextvars.copy_context()

    assert carried.run(current) == Scope(now_s + 8, token)
    assert current() == Scope()


def test_the_scope_is_left_when_the_block_raises():
    with pytest.raises(KeyError), deadline(8), cancellable():
        raise KeyError

    assert current() == Scope()


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan, True, "8", None, [8]], ids=repr)
def test_bad_seconds_are_refused_with_their_value(seconds):
    with pytest.raises(ConfigError, match=r"deadline\(\) takes seconds, a number >= 0; got"):
        deadline(seconds)


@pytest.mark.parametrize("seconds", [math.inf, 1e300, 1e10], ids=repr)
def test_seconds_beyond_any_wait_are_for_ever(seconds):
    with deadline(seconds) as here:
        assert here.left_s == math.inf


def test_a_passed_deadline_names_what_was_being_done():
    with deadline(0) as here, pytest.raises(DeadlineExceeded, match="during: turn") as caught:
        here.check("turn")

    assert caught.value.phase == "turn"


def test_a_cancelled_scope_says_so_before_its_deadline():
    token = CancelToken()
    token.cancel()

    with deadline(0), entered(Scope(0.0, token)) as here, pytest.raises(Cancelled):
        here.check("turn")


def test_a_token_is_cancelled_by_any_of_its_parents():
    grandparent, other, stranger = CancelToken(), CancelToken(), CancelToken()
    child = CancelToken(CancelToken(grandparent), other)

    before = child.is_cancelled
    stranger.cancel()
    grandparent.cancel()

    assert (before, child.is_cancelled, other.is_cancelled) == (False, True, False)


def test_cancelling_below_does_not_reach_above():
    with cancellable() as outer, cancellable() as inner:
        inner.cancel()

        assert (outer.is_cancelled, inner.is_cancelled) == (False, True)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["itself", "parent", "other parent"])
def test_a_waker_is_called_from_wherever_the_cancel_comes(which):
    parents = CancelToken(), CancelToken()
    token = CancelToken(*parents)
    calls = []

    with token.woken_by(lambda: calls.append(1)):
        (token, *parents)[which].cancel()

    assert calls == [1]


def test_a_second_cancel_calls_no_waker_again():
    token = CancelToken()
    calls = []

    with token.woken_by(lambda: calls.append(1)):
        token.cancel()
        token.cancel()

    assert calls == [1]


def test_a_waker_that_comes_too_late_is_called_at_once():
    token = CancelToken()
    token.cancel()
    calls = []

    with Scope(token=token).woken_by(lambda: calls.append(1)):
        assert calls == [1]


def test_a_waker_is_never_called_after_it_left():
    parent = CancelToken()
    token = CancelToken(parent)
    calls = []

    with pytest.raises(KeyError), token.woken_by(lambda: calls.append(1)):
        raise KeyError
    token.cancel()
    parent.cancel()

    assert calls == []


def test_a_scope_without_a_token_takes_wakers_all_the_same():
    with Scope().woken_by(lambda: None):
        pass


def test_sleeping_past_the_deadline_fails_before_sleeping():
    began_s = time.monotonic()

    with deadline(30), pytest.raises(DeadlineExceeded, match="during: backoff"):
        sleep(30, phase="backoff")

    assert time.monotonic() - began_s < 5


def test_sleeping_for_ever_is_refused():
    with pytest.raises(DeadlineExceeded):
        sleep(math.inf, phase="backoff")


def test_sleeping_in_a_cancelled_scope_fails_at_once():
    with cancellable() as token, pytest.raises(Cancelled):
        token.cancel()
        sleep(30, phase="backoff")


def test_a_short_sleep_ends_by_itself():
    began_s = time.monotonic()

    with deadline(30):
        sleep(0.01, phase="backoff")

    assert time.monotonic() - began_s >= 0.01
    assert scope.current() == Scope()


def test_a_generator_closed_in_another_context_leaves_that_context_alone():
    def inside():
        with scope.deadline(5):
            yield

    suspended = inside()
    contextvars.copy_context().run(next, suspended)
    with scope.deadline(50) as outer:
        suspended.close()

        assert scope.current() is outer
