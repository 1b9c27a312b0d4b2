"""Whether a failed call is tried again, and how long to wait before.

Pure: no clock, no sleeping, no network; randomness comes in. Does not hold:
the loop that obeys it (service.py), nor which errors are retryable (the error
says so). Safe anywhere.

Source: the rule of openai-python, but a 429 that means "no credit" is final.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from lionlite.exceptions import RateLimitError, ResponseError, ServiceError
from lionlite.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from lionlite.exceptions import LionError

BASE_S = 0.5
CAP_S = 8.0
"""First and longest backoff, in seconds, as openai-python has them."""

MAX_RETRY_AFTER_S = 120.0
"""A server that asks for more is not waited for: the caller decides (openai-python's bound)."""

MAX_RATE_LIMITED_S = 600.0
"""Without a deadline, a call that has met only 429s for so long gives up."""

MAX_RESPONSE_RETRIES = 1
"""A reply that is not what the protocol promises was paid for: ask once more, not twice."""


@attrs.frozen
class RetryPolicy:
    """How often a call is tried again.

    Attributes:
        max_retries: More attempts after the first; 0 = none at all, not even
            after a 429. Otherwise a 429 does not use them up.
    """

    max_retries: int = 2


class Attempts(Value, frozen=True):
    """What a call has been through so far.

    Attributes:
        failed: Attempts that failed, 429s aside, >= 0.
        rate_limited: Attempts answered with 429, >= 0.
        bad_replies: Attempts that ended in a `ResponseError`, >= 0.
        elapsed_s: Seconds since the first attempt began.
    """

    failed: int = 0
    rate_limited: int = 0
    bad_replies: int = 0
    elapsed_s: float = 0.0

    @property
    def count(self) -> int:
        """All failed attempts."""
        return self.failed + self.rate_limited

    def after(self, error: LionError, *, elapsed_s: float) -> Attempts:
        """Return what it has been through once *error* has come too."""
        limited = isinstance(error, RateLimitError)
        return Attempts(
            failed=self.failed + (not limited),
            rate_limited=self.rate_limited + limited,
            bad_replies=self.bad_replies + isinstance(error, ResponseError),
            elapsed_s=elapsed_s,
        )


NO_ATTEMPTS: Final = Attempts()


def wait_before_retry(
    attempts: Attempts,
    error: LionError,
    *,
    policy: RetryPolicy,
    rng: Callable[[], float],
) -> float | None:
    """Return how long to wait before the next attempt, or None to give up.

    Only what the provider or the way to it did is tried again: what our own
    budget refused for this deadline, it would refuse again. The server's wish
    wins over our own backoff, unless it is absurd; no wait at all is no wish.

    Args:
        attempts: What the call has been through, *error* included.
        error: What the last attempt ended with.
        policy: How often to try.
        rng: Returns a float in [0, 1): full jitter spreads a herd.

    Returns:
        Seconds, >= 0; the caller must not wait past its deadline.

    Threads: pure.
    Source: RFC 9110, section 10.2.3 (Retry-After).
    """
    if not error.retryable or not _may_again(attempts, error, policy):
        return None
    if error.retry_after_s:
        return error.retry_after_s if error.retry_after_s <= MAX_RETRY_AFTER_S else None
    return min(CAP_S, BASE_S * 2.0 ** min(attempts.count - 1, 16)) * rng()


def _may_again(attempts: Attempts, error: LionError, policy: RetryPolicy) -> bool:
    if policy.max_retries == 0 or not isinstance(error, ServiceError):
        return False
    if isinstance(error, RateLimitError):
        return attempts.elapsed_s < MAX_RATE_LIMITED_S
    if isinstance(error, ResponseError) and attempts.bad_replies > MAX_RESPONSE_RETRIES:
        return False
    return attempts.failed <= policy.max_retries
