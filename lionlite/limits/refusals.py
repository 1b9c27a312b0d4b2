"""The errors of the budget, each with the cure in its message.

Holds: the wording. Does not hold: the decision to refuse (budget.py). Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lionlite.display import shown
from lionlite.exceptions import BudgetClosed, BudgetTimeout, ConfigError, RequestTooLarge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lionlite.limits.rates import Limits, Rate

_ARGUMENTS: Final = {"requests": "max_requests", "tokens": "max_tokens"}


def no_costs(got: object) -> ConfigError:
    """Return the error for *costs* that say nothing a budget can grant."""
    msg = (
        "costs takes ints >= 0 by dimension, at least one of them > 0, "
        f'such as {{"requests": 1, "tokens": 1_200}}; got {shown(got)}.'
    )
    return ConfigError(msg)


def no_usage(got: object) -> ConfigError:
    """Return the error for what `settle` was given instead of usage."""
    msg = f"actual takes a mapping of units by dimension, or None; got {shown(got)}."
    return ConfigError(msg)


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
    costs: Mapping[str, int],
    limits: Limits,
    *,
    free_in_s: float | None,
    left_s: float,
    waited_s: float,
    max_concurrency: int | None = None,
    is_paused: bool = False,
) -> BudgetTimeout:
    """Return the error for a call that the budget grants too late.

    Args:
        costs: What the call needs.
        limits: The rates of each dimension.
        free_in_s: Seconds until it would be granted, as far as is known; None
            when that depends on the calls in flight.
        left_s: Seconds to the deadline, <= 0 when it has passed.
        waited_s: Seconds waited.
        max_concurrency: Calls that may run at one time, None for any number.
        is_paused: Whether nobody is granted because of a 429.
    """
    full = _full(costs, limits, max_concurrency=max_concurrency, is_paused=is_paused)
    when = f"with {left_s:.1f} s left" if left_s > 0 else f"after {waited_s:.1f} s of waiting"
    msg = (
        f"{full} before the deadline, {when}; {_need(free_in_s)}. "
        "Give more time with timeout= or deadline(), or raise the limits."
    )
    return BudgetTimeout(msg, retry_after_s=free_in_s, waited_s=waited_s)


def waiting(
    costs: Mapping[str, int],
    limits: Limits,
    *,
    free_in_s: float | None,
    max_concurrency: int | None = None,
    is_paused: bool = False,
) -> str:
    """Return what a call waits for, as a sentence; arguments as for `late`."""
    full = _full(costs, limits, max_concurrency=max_concurrency, is_paused=is_paused)
    return f"{full} now; {_need(free_in_s)}."


def _full(
    costs: Mapping[str, int], limits: Limits, *, max_concurrency: int | None, is_paused: bool
) -> str:
    needs = " and ".join(f"{cost:,} {dimension}" for dimension, cost in costs.items() if cost)
    rules = [f"{name} {', '.join(map(str, rates))}" for name, rates in limits.items()]
    rules += [] if max_concurrency is None else [f"max_concurrency {max_concurrency}"]
    why = ", paused since the provider refused a call," if is_paused else ""
    return f"The budget ({'; '.join(rules) or 'no limits'}){why} has no room for {needs}"


def _need(free_in_s: float | None) -> str:
    if free_in_s is None:
        return "calls in flight must end"
    return f"about {free_in_s:.1f} s are needed"


def closed(waited_s: float = 0.0) -> BudgetClosed:
    """Return the error for a call on a closed budget."""
    msg = "The budget was closed before the call was granted; build a new service for more calls."
    return BudgetClosed(msg, waited_s=waited_s)


def forked() -> BudgetClosed:
    """Return the error for a wait that a fork has cut."""
    msg = "The process was forked while the call waited for its budget; make the call again."
    return BudgetClosed(msg, retryable=True)
