"""What a provider answered, as a value.

Holds: `Reply`. Does not hold: how it is read (wire.py), or whether it is good
enough (conversation/). Frozen, so safe to share between threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from lionlite.records import Usage


@attrs.frozen
class Reply:
    """One answer of a model, with what it cost.

    `str(reply)` is the text.

    Attributes:
        text: What the model said; "" if it said nothing.
        model: The model that answered, as the provider names it.
        finish_reason: Why it stopped ("stop", "length", "tool_calls",
            "content_filter", ...), None if the provider does not say.
        usage: The tokens that the provider counted, None if it said nothing.
        cost: In US dollars, None if the provider does not say.
        tool_calls: The tools it asks for, as the provider sent them.
        refusal: Why it refuses, None if it does not.
        reasoning: Its reasoning, None if it shows none.
        request_id: The provider's name for the request.
        attempts: Requests that went out for this answer, >= 1.
        waited_s: Seconds spent waiting for the budget, over all attempts.
        elapsed_s: Seconds from the call to the answer, all waiting included.
        raw: The whole reply, decoded.
    """

    text: str
    model: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    cost: float | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    refusal: str | None = None
    reasoning: str | None = None
    request_id: str | None = None
    attempts: int = 1
    waited_s: float = 0.0
    elapsed_s: float = 0.0
    raw: dict[str, Any] = attrs.field(factory=dict, repr=False)

    def __str__(self) -> str:
        return self.text
