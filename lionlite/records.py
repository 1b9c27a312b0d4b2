"""What happened in one call, as values.

Holds: `Usage` and `CallRecord`. Does not hold: totals (service/ keeps them),
what the model said (service/wire.py), or anything with a life. Frozen, so
safe to share between threads.
"""

from __future__ import annotations

from lionlite.value import Value


class Usage(Value, frozen=True):
    """The tokens that the provider counted for one call.

    Attributes:
        input_tokens: Tokens of everything sent.
        output_tokens: Tokens of everything received, reasoning included.
        cached_tokens: The part of the input that was read from a cache.
        reasoning_tokens: The part of the output that is reasoning.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """Return the sum, part by part."""
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


class CallRecord(Value, frozen=True):
    """One logical call, with all its attempts.

    Attributes:
        model: The model asked for.
        attempts: Requests that went out, 0 if none did.
        rate_limited: How many of them the provider answered with 429.
        waited_s: Seconds spent waiting for the budget.
        elapsed_s: Seconds from the call to its end, all waiting included.
        usage: What the provider counted, None if it said nothing.
        cost: In US dollars, None if the provider does not say.
        answered_by: The model that answered, as the provider names it.
        finish_reason: Why the answer ended, None if the provider does not say.
        is_replayed: Whether the answer was taken from a checkpoint; then the
            other facts are those of the call that was paid for.
        request_id: The provider's name for the last request.
        error: The class name of the error it ended with, None if it did not.
    """

    model: str
    attempts: int = 0
    rate_limited: int = 0
    waited_s: float = 0.0
    elapsed_s: float = 0.0
    usage: Usage | None = None
    cost: float | None = None
    answered_by: str = ""
    finish_reason: str | None = None
    is_replayed: bool = False
    request_id: str | None = None
    error: str | None = None
