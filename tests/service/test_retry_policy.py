"""Whether and when a failed call is tried again: the table, without any waiting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionlite.exceptions import (
    AuthenticationError,
    BadRequestError,
    BudgetTimeout,
    Cancelled,
    ConfigError,
    ConnectionFailed,
    DeadlineExceeded,
    QuotaExhausted,
    RateLimitError,
    ResponseError,
    ResponseTooLarge,
    ServerError,
)
from lionlite.service.retry import (
    BASE_S,
    CAP_S,
    MAX_RATE_LIMITED_S,
    MAX_RETRY_AFTER_S,
    Attempts,
    RetryPolicy,
    wait_before_retry,
)

pytestmark = pytest.mark.quick


def wait(error, *, failed=1, max_retries=2, rng=1.0, **attempts):
    return wait_before_retry(
        Attempts(failed=failed, **attempts),
        error,
        policy=RetryPolicy(max_retries=max_retries),
        rng=lambda: rng,
    )


RETRIED = [ConnectionFailed("x"), ServerError("x"), BadRequestError("x", retryable=True)]
FINAL = [
    AuthenticationError("x"),
    BadRequestError("x"),
    Cancelled("x"),
    ConfigError("x"),
    ConnectionFailed("bad certificate", retryable=False),
    DeadlineExceeded("x"),
    QuotaExhausted("x"),
    ResponseTooLarge("x"),
    ServerError("x", retryable=False),
]


@pytest.mark.parametrize("error", RETRIED, ids=lambda error: type(error).__name__)
def test_what_may_pass_is_tried_again(error):
    assert wait(error) == BASE_S


@pytest.mark.parametrize("error", FINAL, ids=lambda error: f"{type(error).__name__} {error}")
def test_what_cannot_pass_is_not_tried_again(error):
    assert wait(error) is None


def test_what_our_own_budget_refused_is_not_tried_again():
    """The caller may come back later; within the same deadline it would be too late again."""
    assert wait(BudgetTimeout("x", retry_after_s=0.1)) is None


@pytest.mark.parametrize(("failed", "is_tried"), [(1, True), (2, True), (3, False)])
def test_two_retries_mean_three_attempts(failed, is_tried):
    assert (wait(ServerError("x"), failed=failed) is not None) == is_tried


@pytest.mark.parametrize("error", [*RETRIED, RateLimitError("x")])
def test_no_retries_means_none_at_all(error):
    assert wait(error, failed=1, max_retries=0) is None


@pytest.mark.parametrize(("bad_replies", "is_tried"), [(1, True), (2, False)])
def test_a_broken_reply_is_asked_for_once_more(bad_replies, is_tried):
    again = wait(ResponseError("x"), failed=bad_replies, bad_replies=bad_replies, max_retries=9)

    assert (again is not None) == is_tried


def test_a_429_uses_up_no_attempt():
    assert wait(RateLimitError("x"), failed=0, rate_limited=500, max_retries=1) == CAP_S
    assert wait(ServerError("x"), failed=1, rate_limited=500, max_retries=1) == CAP_S


def test_nothing_but_429s_ends_after_ten_minutes():
    error = RateLimitError("x")

    assert wait(error, rate_limited=9, elapsed_s=MAX_RATE_LIMITED_S - 1) is not None
    assert wait(error, rate_limited=9, elapsed_s=MAX_RATE_LIMITED_S) is None


@pytest.mark.parametrize(
    ("retry_after_s", "expected"),
    [(0.001, 0.001), (20.0, 20.0), (MAX_RETRY_AFTER_S, MAX_RETRY_AFTER_S), (120.001, None)],
)
def test_the_servers_wish_is_obeyed_unless_absurd(retry_after_s, expected):
    assert wait(ServerError("x", retry_after_s=retry_after_s)) == expected


def test_a_wish_for_no_wait_is_no_wish():
    """openai-python backs off too: a server in trouble is not hammered."""
    assert wait(ServerError("x", retry_after_s=0.0)) == BASE_S


@given(st.integers(1, 2_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_full_jitter_below_a_doubling_cap(failed, rng):
    waited_s = wait(ServerError("x"), failed=failed, max_retries=5_000, rng=rng)

    assert 0 <= waited_s <= min(CAP_S, BASE_S * 2 ** min(failed - 1, 99))
    assert wait(ServerError("x"), failed=failed, max_retries=5_000, rng=0.0) == 0


def test_attempts_count_each_kind_of_failure():
    attempts = Attempts()

    for elapsed_s, error in enumerate([ServerError("x"), RateLimitError("x"), ResponseError("x")]):
        attempts = attempts.after(error, elapsed_s=elapsed_s)

    assert attempts == Attempts(failed=2, rate_limited=1, bad_replies=1, elapsed_s=2)
    assert attempts.count == 3
