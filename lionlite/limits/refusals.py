"""The errors of the budget, each with the cure in its message.

Holds: the wording. Does not hold: the decision to refuse (budget.py). Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lionlite.exceptions import BudgetClosed, BudgetTimeout, RequestTooLarge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lionlite.limits.rates import Limits, Rate

_ARGUMENTS: Final = {"requests": "max_requests", "tokens": "max_tokens"}


def too_large(costs: Mapping[str, int], dimension: str, rate: Rate) -> RequestTooLarge:
    """Return the error for a request that *rate* can never let through."""
    needed = costs[dimension]
    argument = _ARGUMENTS.get(dimension, f"limits[{dimension!r}]")
    msg = (
        f"The request needs {needed:,} {dimension} and can never fit into {rate}. "
        f"Raise {argument}= of the service, its budget for all calls per interval"
    )
    if dimension == "requests":
        msg += "."
    else:
        msg += (
            ", or ask for less: a shorter prompt, or "
            'llmconfig={"max_tokens": n}, which caps one answer.'
        )
    return RequestTooLarge(msg, dimension=dimension, needed=needed, limit=rate.limit)


def late(
    costs: Mapping[str, int], limits: Limits, *, free_in_s: float, left_s: float, waited_s: float
) -> BudgetTimeout:
    """Return the error for a call that the budget grants too late.

    Args:
        costs: What the call needs.
        limits: The rates of each dimension.
        free_in_s: Seconds until it would be granted, as far as is known.
        left_s: Seconds to the deadline, <= 0 when it has passed.
        waited_s: Seconds waited.
    """
    needs = " and ".join(f"{cost:,} {dimension}" for dimension, cost in costs.items() if cost)
    allowed = "; ".join(
        f"{dimension} {', '.join(map(str, rates))}" for dimension, rates in limits.items()
    )
    when = f"with {left_s:.1f} s left" if left_s > 0 else f"after {waited_s:.1f} s of waiting"
    msg = (
        f"The budget ({allowed or 'no limits'}) has no room for {needs} before the deadline, "
        f"{when}; about {free_in_s:.1f} s more are needed. "
        "Give more time with timeout= or deadline(), or raise the limits."
    )
    return BudgetTimeout(msg, retry_after_s=free_in_s, waited_s=waited_s)


def closed(waited_s: float = 0.0) -> BudgetClosed:
    """Return the error for a call on a closed budget."""
    msg = "The budget was closed before the call was granted; build a new service for more calls."
    return BudgetClosed(msg, waited_s=waited_s)


def forked() -> BudgetClosed:
    """Return the error for a wait that a fork has cut."""
    msg = "The process was forked while the call waited for its budget; make the call again."
    return BudgetClosed(msg, retryable=True)
