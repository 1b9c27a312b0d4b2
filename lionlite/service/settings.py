"""What a service's arguments and the environment mean.

Holds: the checks and defaults behind `Service(...)`. Does not hold: the
service. Pure but for reading the environment; safe anywhere.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lionlite import scope
from lionlite.exceptions import ConfigError
from lionlite.limits.rates import Limits, limit, parse_limits
from lionlite.service.address import checked_headers
from lionlite.service.estimate import Estimator
from lionlite.unset import UNSET, UnsetType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lionlite.service.providers import Provider

_TOKEN_DIMENSIONS = frozenset({"tokens", "input", "output"})


def limits_from(
    *,
    max_requests: int | UnsetType | None,
    max_tokens: int | UnsetType | None,
    interval: float,
    limits: Mapping[str, Any] | None,
) -> Limits:
    """Return the budgets that a service's arguments ask for.

    Raises:
        ConfigError: One is no whole number >= 1, or `limits=` comes with one
            of the others.
    """
    given = {"max_requests": max_requests, "max_tokens": max_tokens}
    numbers: dict[str, Any] = {
        name: value for name, value in given.items() if value is not None and value is not UNSET
    }
    if limits is not None:
        if numbers:
            msg = f"limits= and {' and '.join(numbers)}= say the same twice: pass one of them."
            raise ConfigError(msg)
        return parse_limits(limits)
    # An interval without a number would go unchecked: check it in any case.
    limit(1, interval, name="interval=")
    return {
        name.removeprefix("max_"): (limit(value, interval, name=f"{name}="),)
        for name, value in numbers.items()
    }


def checked_timeout(timeout: float | UnsetType | None) -> float | None:
    """Return *timeout* in seconds, None if it does not bound the whole call.

    Raises:
        ConfigError: It is not a number >= 0.
    """
    if timeout is None or timeout is UNSET:
        return None
    return scope.seconds_from(timeout, name="timeout=")


def checked_retries(max_retries: int) -> int:
    """Return *max_retries* if it is a whole number >= 0.

    Raises:
        ConfigError: It is not.
    """
    if isinstance(max_retries, int) and not isinstance(max_retries, bool) and max_retries >= 0:
        return max_retries
    msg = f"max_retries= takes a whole number >= 0; got {max_retries!r:.60}."
    raise ConfigError(msg)


def chosen_base_url(provider: Provider, base_url: str | None) -> str:
    """Return *base_url*, or the environment's, or the provider's own.

    Raises:
        ConfigError: There is none.
    """
    if base_url is not None:
        return base_url
    variable = provider.env_base_url
    chosen = (os.environ.get(variable, "").strip() if variable else "") or provider.base_url
    if chosen is None:
        msg = f"{provider.name} needs base_url=, such as 'http://localhost:8000/v1'."
        raise ConfigError(msg)
    return chosen


def env_headers(provider: Provider) -> dict[str, str]:
    """Return the headers that the environment asks for.

    Raises:
        ConfigError: One cannot go on the wire.
    """
    found = {
        header: os.environ.get(variable, "").strip()
        for header, variable in provider.env_headers.items()
    }
    given = {header: value for header, value in found.items() if value}
    return checked_headers(given, name="the environment's headers")


def estimator_for(
    budgets: Limits, encoding_name: str | None, *, may_download: bool
) -> Estimator | None:
    """Return what estimates requests, or None when no budget counts tokens."""
    if not _TOKEN_DIMENSIONS & budgets.keys():
        return None
    return Estimator(encoding_name=encoding_name, may_download=may_download)
