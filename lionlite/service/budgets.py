"""The budget that a service's arguments ask for, and what it may learn.

Holds: reading the arguments, and making the limiter with its lessons. Does not
hold: the budget itself (limits/), or what headers teach (lessons.py). Pure but
for making them; safe anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import attrs

from lionlite import limits
from lionlite.exceptions import ConfigError
from lionlite.limits.limiter import RateLimiter
from lionlite.limits.rates import Limits, limit, parse_limits
from lionlite.service.lessons import TOKEN_DIMENSIONS, Lessons
from lionlite.unset import UNSET, UnsetType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lionlite.limits.stats import LimiterStats
    from lionlite.service.providers import Provider
    from lionlite.service.secret import Secret


class Permit(Protocol):
    """What a call needs of a reservation, of whichever limiter."""

    @property
    def waited_s(self) -> float:
        """Seconds that it was waited for."""

    def sent(self) -> None:
        """Note that the request left."""

    def replied(self) -> None:
        """Note that the reply began."""

    def settle(self, actual: Mapping[str, int] | None = None) -> None:
        """End it, with what was used."""

    def cancel(self) -> None:
        """End it if it was not: given back if nothing was sent, else charged as estimated."""


class Limiter(Protocol):
    """What a service needs of its budget, of one process or of many."""

    def reserve(self, costs: Mapping[str, int]) -> Permit:
        """Wait until there is room for *costs*, and take it."""

    def refused(self, reservation: Any = None, *, retry_after_s: float | None = None) -> None:
        """Pause because the provider answered 429."""

    def stats(self) -> LimiterStats:
        """Return what the budget is doing."""

    def close(self) -> None:
        """Refuse everyone from now on."""


@attrs.frozen
class BudgetArguments:
    """What a service was asked to keep; see `Service` for each."""

    max_requests: int | UnsetType | None
    max_tokens: int | UnsetType | None
    interval: float
    limits: Mapping[str, Any] | None
    charge: str | None
    max_concurrency: int | None
    store: Secret | None
    budget: str | None
    on_store_down: str


@attrs.frozen
class ServiceBudget:
    """A service's budget.

    Attributes:
        limiter: Who may go when.
        lessons: What replies teach it.
        is_charged_used: Whether the provider charges what was used.
    """

    limiter: Limiter
    lessons: Lessons
    is_charged_used: bool


def budget_for(provider: Provider, asked: BudgetArguments, *, host: str) -> ServiceBudget:
    """Return the budget that *asked* and *provider* make together.

    Args:
        provider: What the provider is like.
        asked: The arguments.
        host: Where the provider is, for the default name of a shared budget.

    Raises:
        ConfigError: An argument is wrong.
    """
    given = limits_from(asked)
    charge = provider.charge if asked.charge is None else asked.charge
    limiter = _limiter(given, charge, asked, own_name=f"{provider.name}@{host}")
    lessons = Lessons(
        # What one process learned the others would not know: a shared budget
        # keeps the limits that it was given, and no others.
        limiter if isinstance(limiter, RateLimiter) else None,
        learned=learned_dimensions(provider, given, asked),
        given=frozenset(given),
        intervals=provider.intervals,
        may_change_charge=asked.charge is None and charge == "estimate",
    )
    return ServiceBudget(limiter, lessons, is_charged_used=charge != "estimate")


def _limiter(given: Limits, charge: str, asked: BudgetArguments, *, own_name: str) -> Limiter:
    if asked.store is None:
        if asked.budget is not None:
            msg = "budget= names a budget in a store: pass store='sqlite:///...' too."
            raise ConfigError(msg)
        if asked.on_store_down != "raise":
            msg = "on_store_down= is about a store: pass store='sqlite:///...' too."
            raise ConfigError(msg)
        return RateLimiter(given, charge=charge, max_concurrency=asked.max_concurrency)
    if not given:
        msg = "store= shares a budget: pass max_requests=, max_tokens= or limits= too."
        raise ConfigError(msg)
    return limits.SharedLimiter(
        given,
        store=asked.store.reveal(),
        budget=own_name if asked.budget is None else asked.budget,
        charge=charge,
        max_concurrency=asked.max_concurrency,
        on_store_down=asked.on_store_down,
    )


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
