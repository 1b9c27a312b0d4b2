"""How much is allowed per how long, as values and as words.

Holds: `Rate`, `limit` and `parse_limits` ("500/minute"). Does not hold: any
accounting (ledger.py), nor which provider has which limits. Pure and frozen,
so safe to share between threads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

import attrs

from lionlite.exceptions import ConfigError

REQUESTS = "requests"
"""The dimension that providers charge on arrival and never give back."""

DIMENSIONS = (REQUESTS, "tokens", "input", "output")
"""What `limits=` may name; "input" and "output" are tokens counted apart (Anthropic)."""

PER_MODEL = "@"
"""Between a dimension and the model that it is of, as in "tokens@gpt-4o"."""

_SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
_SHORT = {
    "s": "second",
    "sec": "second",
    "m": "minute",
    "min": "minute",
    "h": "hour",
    "hr": "hour",
    "d": "day",
    "w": "week",
}
_WORDS = re.compile(r"([0-9][0-9_]*)\s*/\s*([0-9]+(?:\.[0-9]+)?)?\s*([a-z]+)", re.ASCII)
_MAX_INTERVAL_S = 366 * 86_400


@attrs.frozen
class Rate:
    """At most *limit* units in any window of *interval_s*.

    Attributes:
        limit: Units of the dimension, >= 1.
        interval_s: Length of the window, in seconds, > 0.
    """

    limit: int
    interval_s: float

    @property
    def interval_ns(self) -> int:
        """Length of the window, in nanoseconds, >= 1."""
        return max(1, round(self.interval_s * 1e9))

    def __str__(self) -> str:
        return f"{self.limit:,} per {self.interval_s:g} s"


Limits: TypeAlias = dict[str, tuple[Rate, ...]]
"""The rates of each dimension; a dimension that is not in it is unlimited."""


@lru_cache(maxsize=1024)  # asked several times for every call
def is_requests(dimension: str) -> bool:
    """Whether *dimension* counts requests, of all models or of one."""
    return dimension.partition(PER_MODEL)[0] == REQUESTS


def limit(n: int, interval_s: float, *, name: str = "limits=") -> Rate:
    """Return the rate of *n* units per *interval_s* seconds.

    Args:
        n: Units, an int >= 1.
        interval_s: Seconds, > 0, at most a year.
        name: The argument that the caller gave *n* as, for the error.

    Raises:
        ConfigError: *n* or *interval_s* is not such a number.

    Threads: pure; safe anywhere.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        msg = f"{name} takes a whole number >= 1, or None for no limit; got {n!r}."
        raise ConfigError(msg)
    is_number = isinstance(interval_s, (int, float)) and not isinstance(interval_s, bool)
    if not is_number or not 0 < interval_s <= _MAX_INTERVAL_S:
        msg = f"interval takes seconds, > 0 and at most a year; got {interval_s!r}."
        raise ConfigError(msg)
    return Rate(n, float(interval_s))


def parse_limits(limits: Mapping[str, str | Rate | Sequence[str | Rate]]) -> Limits:
    """Return the limits that a user wrote in words.

    Args:
        limits: For each of "requests", "tokens", "input", "output" one rate
            or several, such as `{"requests": ["10/second", "500/minute"],
            "tokens": "90_000/minute"}`. Units are second, minute, hour, day
            and week, also with a number: "5/30s".

    Raises:
        ConfigError: A name, a number or a unit is not known, an interval is
            missing, or one dimension has two rates of one interval.

    Threads: pure; safe anywhere.
    """
    if not isinstance(limits, Mapping):
        msg = f'limits= takes a dict such as {{"requests": "500/minute"}}; got {limits!r}.'
        raise ConfigError(msg)
    return {_known(name): _rates(name, words) for name, words in limits.items()}


def distinct(rates: Sequence[Rate], *, name: str) -> tuple[Rate, ...]:
    """Return *rates*, the shortest interval first.

    Raises:
        ConfigError: Two of them have the same interval.
    """
    ordered = tuple(sorted(rates, key=lambda rate: rate.interval_ns))
    for first, second in pairwise(ordered):
        if first.interval_ns == second.interval_ns:
            msg = f"{name} has two rates of one interval, {first} and {second}; keep the lower."
            raise ConfigError(msg)
    return ordered


def _known(name: str) -> str:
    if name in DIMENSIONS:
        return name
    msg = f"limits= knows {', '.join(DIMENSIONS)}; got {name!r}."
    raise ConfigError(msg)


def _rates(name: str, words: object) -> tuple[Rate, ...]:
    where = f"limits[{name!r}]"
    several = [words] if isinstance(words, (str, Rate)) else words
    if not isinstance(several, (list, tuple)) or not several:
        example = f'"{words}/minute"' if isinstance(words, int) else '"500/minute"'
        msg = f"{where} needs an interval: write {example}, or a list of such; got {words!r}."
        raise ConfigError(msg)
    return distinct([_rate(where, one) for one in several], name=where)


def _rate(where: str, words: object) -> Rate:
    if isinstance(words, Rate):
        return limit(words.limit, words.interval_s, name=where)
    found = _WORDS.fullmatch(words.strip().lower()) if isinstance(words, str) else None
    if found is None:
        msg = f'{where} takes words such as "500/minute" or "5/30s"; got {words!r}.'
        raise ConfigError(msg)
    count, number, unit = found.groups()
    interval_s = float(number or 1) * _unit_s(where, unit)
    if not math.isfinite(interval_s) or len(count) > 18:  # noqa: PLR2004 - beyond 64 bits
        msg = f"{where} is out of range: {words!r}."
        raise ConfigError(msg)
    return limit(int(count.replace("_", "")), interval_s, name=where)


def _unit_s(where: str, unit: str) -> int:
    word = _SHORT.get(unit) or _SHORT.get(unit.removesuffix("s")) or unit.removesuffix("s")
    if word in _SECONDS:
        return _SECONDS[word]
    msg = f"{where} has the unknown unit {unit!r}; units are {', '.join(_SECONDS)} (or s, m, h, d)."
    raise ConfigError(msg)
