"""What a service has done so far, as numbers.

Holds: `Totals`, which counts, and `Stats`, what it says. Does not hold: what
the budget is doing (limits/). Safe to share between threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from lionlite.locks import ProcessLock
from lionlite.records import Usage

if TYPE_CHECKING:
    from lionlite.limits.stats import LimiterStats


@attrs.frozen
class Stats:
    """What a service has done since it was made.

    Attributes:
        calls: Calls that ended, well or not.
        failed: Those of them that ended in an error.
        attempts: Requests that went out.
        retries: Requests beyond the first of each call.
        rate_limited: Requests that the provider answered with 429.
        usage: Tokens that the provider counted.
        waited_s: Seconds that calls waited for the budget, added up.
        elapsed_s: Seconds that calls took, waiting included, added up.
        budget: What the budget is doing now.
    """

    calls: int
    failed: int
    attempts: int
    retries: int
    rate_limited: int
    usage: Usage
    waited_s: float
    elapsed_s: float
    budget: LimiterStats


class Totals:
    """Adds up calls.

    Threads: safe to share.
    """

    def __init__(self) -> None:
        # Guards all below.
        self._lock = ProcessLock()
        self._calls = self._failed = self._attempts = self._retries = self._rate_limited = 0
        # As numbers: adding two frozen values makes a third.
        self._input = self._output = self._cached = self._reasoning = 0
        self._waited_s = self._elapsed_s = 0.0

    def add(
        self,
        usage: Usage | None,
        *,
        attempts: int,
        rate_limited: int,
        waited_s: float,
        elapsed_s: float,
        has_failed: bool,
    ) -> None:
        """Count one call; the facts are those of `CallRecord`."""
        with self._lock.inner:
            self._calls += 1
            self._failed += has_failed
            self._attempts += attempts
            if attempts > 1:
                self._retries += attempts - 1
            self._rate_limited += rate_limited
            self._waited_s += waited_s
            self._elapsed_s += elapsed_s
            if usage is not None:
                self._input += usage.input_tokens
                self._output += usage.output_tokens
                self._cached += usage.cached_tokens
                self._reasoning += usage.reasoning_tokens

    def stats(self, budget: LimiterStats) -> Stats:
        """Return the sums so far."""
        with self._lock.inner:
            return Stats(
                calls=self._calls,
                failed=self._failed,
                attempts=self._attempts,
                retries=self._retries,
                rate_limited=self._rate_limited,
                usage=Usage(self._input, self._output, self._cached, self._reasoning),
                waited_s=self._waited_s,
                elapsed_s=self._elapsed_s,
                budget=budget,
            )
