"""The budget that a service's arguments ask for, and what it may learn.

Holds: reading the arguments, and making the limiter with its lessons. Does not
hold: the budget itself (limits/), or what headers teach (lessons.py). Pure but
for making them; safe anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from lionlite.exceptions import ConfigError
from lionlite.limits.limiter import RateLimiter
from lionlite.limits.rates import Limits, limit, parse_limits
from lionlite.service.lessons import TOKEN_DIMENSIONS, Lessons
from lionlite.unset import UNSET, UnsetType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lionlite.service.providers import Provider


@attrs.frozen
class BudgetArguments:
    """What a service was asked to keep; see `Service` for each."""

    max_requests: int | UnsetType | None
    max_tokens: int | UnsetType | None
    interval: float
    limits: Mapping[str, Any] | None
    charge: str | None
    max_concurrency: int | None


@attrs.frozen
class ServiceBudget:
    """A service's budget.

    Attributes:
        limiter: Who may go when.
        lessons: What replies teach it.
        is_charged_used: Whether the provider charges what was used.
    """

    limiter: RateLimiter
    lessons: Lessons
    is_charged_used: bool


def budget_for(provider: Provider, asked: BudgetArguments) -> ServiceBudget:
    """Return the budget that *asked* and *provider* make together.

    Raises:
        ConfigError: An argument is wrong.
    """
    limits = limits_from(asked)
    charge = asked.charge or provider.charge
    limiter = RateLimiter(limits, charge=charge, max_concurrency=asked.max_concurrency)
    lessons = Lessons(
        limiter,
        learned=learned_dimensions(provider, limits, asked),
        given=frozenset(limits),
        intervals=provider.intervals,
        may_change_charge=asked.charge is None and charge == "estimate",
    )
    return ServiceBudget(limiter, lessons, is_charged_used=charge != "estimate")


def limits_from(asked: BudgetArguments) -> Limits:
    """Return the limits that were given.

    Raises:
        ConfigError: One is no whole number >= 1, or `limits=` comes with one
            of the others.
    """
    given = {"max_requests": asked.max_requests, "max_tokens": asked.max_tokens}
    numbers: dict[str, Any] = {
        name: value for name, value in given.items() if value is not None and value is not UNSET
    }
    if asked.limits is not None:
        if numbers:
            msg = f"limits= and {' and '.join(numbers)}= say the same twice: pass one of them."
            raise ConfigError(msg)
        return parse_limits(asked.limits)
    # An interval without a number would go unchecked: check it in any case.
    limit(1, asked.interval, name="interval=")
    return {
        name.removeprefix("max_"): (limit(value, asked.interval, name=f"{name}="),)
        for name, value in numbers.items()
    }


def learned_dimensions(
    provider: Provider, given: Limits, asked: BudgetArguments
) -> frozenset[str]:
    """Return the dimensions whose limits may be learned from headers.

    None of those that were given, and none that were declined with None.
    """
    if not provider.has_limits:
        return frozenset()
    learned = {"requests"} if asked.max_requests is UNSET else set()
    if asked.max_tokens is UNSET and given.keys().isdisjoint(TOKEN_DIMENSIONS):
        learned |= set(TOKEN_DIMENSIONS)
    return frozenset(learned - given.keys())
