"""What a fake provider is told to be, checked once at the start.

Holds: `Settings` and the refusal of values that make no sense. Does not hold:
anything that changes while the provider runs. Frozen, so safe to share.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import attrs

from lionlite.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

Charge = Literal["estimate", "adjust", "usage"]
_CHARGES = ("estimate", "adjust", "usage")
_LAST_PORT = 65_535


def check_seconds(name: str, value: object, *, above_zero: bool = False) -> float:
    """Return *value* as a float of seconds.

    Raises:
        ConfigError: It is not a finite number, or negative, or zero where
            *above_zero* is asked for.
    """
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (value > 0 if above_zero else value >= 0)
    ):
        return float(value)
    least = "> 0" if above_zero else ">= 0"
    msg = f"{name}={value!r} is no length of time: give finite seconds {least}."
    raise ConfigError(msg)


def _limit(_: Settings, field: attrs.Attribute[Any], value: object) -> None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return
    msg = f"{field.name}={value!r} is no limit: give a whole number >= 1, or None for no limit."
    raise ConfigError(msg)


def _charge(_: Settings, field: attrs.Attribute[Any], value: object) -> None:
    if value not in _CHARGES:
        msg = f"{field.name}={value!r} is unknown: give one of {', '.join(_CHARGES)}."
        raise ConfigError(msg)


def _interval(_: Settings, field: attrs.Attribute[Any], value: object) -> None:
    check_seconds(field.name, value, above_zero=True)


def _pause(_: Settings, field: attrs.Attribute[Any], value: object) -> None:
    check_seconds(field.name, value)


def _latency(_: Settings, field: attrs.Attribute[Any], value: object) -> None:
    if not callable(value):
        check_seconds(field.name, value)


def _size(_: Settings, field: attrs.Attribute[Any], value: object) -> None:
    if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
        msg = f"{field.name}={value!r} is no size of a token: give a number > 0, such as 4.0."
        raise ConfigError(msg)


def _port(_: Settings, field: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LAST_PORT:
        msg = f"{field.name}={value!r} is no port: give 0 (any free one) to {_LAST_PORT}."
        raise ConfigError(msg)


def _text(_: Settings, field: attrs.Attribute[Any], value: object) -> None:
    if not (isinstance(value, str) and value.strip()):
        msg = f"{field.name} is empty or no text: give a name such as 'fake-model'."
        raise ConfigError(msg)


def _key(_: Settings, field: attrs.Attribute[Any], value: object) -> None:
    if value is None or (isinstance(value, str) and value.isascii() and value.isprintable()):
        return
    msg = f"{field.name} is no key: give one line of ASCII text, or None to let everyone in."
    raise ConfigError(msg)


@attrs.frozen(kw_only=True)
class Settings:
    """The keyword arguments of `FakeProvider`, which explains them."""

    model: str = attrs.field(default="fake-model", validator=_text)
    latency_s: float | Callable[[], float] = attrs.field(default=0.0, validator=_latency)
    max_requests: int | None = attrs.field(default=None, validator=_limit)
    max_tokens: int | None = attrs.field(default=None, validator=_limit)
    interval_s: float = attrs.field(default=60.0, validator=_interval)
    charge: Charge = attrs.field(default="estimate", validator=_charge)
    rate_limit_headers: bool = True
    api_key: str | None = attrs.field(default=None, validator=_key, repr=False)
    port: int = attrs.field(default=0, validator=_port)
    bytes_per_token: float = attrs.field(default=4.0, validator=_size)
    keep_bodies: bool = True
    stream_delay_s: float = attrs.field(default=0.0, validator=_pause)
