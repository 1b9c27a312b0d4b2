"""What a service's arguments and the environment mean.

Holds: the checks and defaults behind `Service(...)`. Does not hold: the
service. Pure but for reading the environment; safe anywhere.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from lionlite import scope
from lionlite.display import shown
from lionlite.exceptions import ConfigError
from lionlite.service.address import checked_headers
from lionlite.unset import UNSET, UnsetType

if TYPE_CHECKING:
    from lionlite.service.providers import Provider

IDLE_S: Final = 300.0
"""A stream without a byte for so long is dead; models think for minutes before they speak."""


def checked_timeout(timeout: float | UnsetType | None) -> float | None:
    """Return *timeout* in seconds, None if it does not bound the whole call.

    Raises:
        ConfigError: It is not a number >= 0.
    """
    if timeout is None or timeout is UNSET:
        return None
    return scope.seconds_from(timeout, name="timeout=")


def checked_idle_timeout(idle_timeout: float | None) -> float | None:
    """Return *idle_timeout* in seconds, None if silence is not bounded.

    Raises:
        ConfigError: It is not a number > 0.
    """
    if idle_timeout is None:
        return None
    seconds = scope.seconds_from(idle_timeout, name="idle_timeout=")
    if seconds > 0:
        return seconds
    msg = "idle_timeout= takes seconds > 0, or None for no bound; got 0."
    raise ConfigError(msg)


def checked_retries(max_retries: int) -> int:
    """Return *max_retries* if it is a whole number >= 0.

    Raises:
        ConfigError: It is not.
    """
    if isinstance(max_retries, int) and not isinstance(max_retries, bool) and max_retries >= 0:
        return max_retries
    msg = f"max_retries= takes a whole number >= 0; got {shown(max_retries)}."
    raise ConfigError(msg)


def checked_flag(flag: bool, *, name: str) -> bool:  # noqa: FBT001 - it is what is checked
    """Return *flag* if it is True or False: "no" would count as true.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(flag, bool):
        return flag
    msg = f"{name} takes True or False; got {shown(flag)}."
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
