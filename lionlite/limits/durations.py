"""Spans of time as servers write them.

Holds: `span_s` ("6m0s", "120ms", "59.5", an instant as RFC 3339 or epoch
milliseconds) and `until_s` (an HTTP date). Does not hold: any header's name.
Pure: the time of day is given. Never raises: what is not understood is None.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_NUMBER: Final = re.compile(r"[0-9]{1,308}(?:\.[0-9]{0,308})?|\.[0-9]{1,308}", re.ASCII)
_PART: Final = re.compile(
    r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|us|\u00b5s|\u03bcs|ns|s|m|h|d)", re.ASCII
)
_PARTS: Final = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)
_UNIT_S: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,  # the micro sign
    "\u03bcs": 1e-6,  # the Greek mu; Go writes either
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3_600.0,
    "d": 86_400.0,
}

_EPOCH_MS_FROM: Final = 1e11
"""A plain number above it is an instant: as seconds it would be 3,000 years."""

_LONGEST_TEXT: Final = 200


def number(text: str) -> float | None:
    """Return the decimal number >= 0 that *text* is, or None.

    Not `float()` alone: that takes "nan", "inf", "1_0", "1e400" and the digits
    of every script.
    """
    if not _NUMBER.fullmatch(text.strip()):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def span_s(text: str, *, now_epoch_s: float) -> float | None:
    """Return the seconds that *text* says to wait, >= 0, or None.

    Args:
        text: "1s", "6m0s", "14h29m11.04s", "120ms"; plain seconds; epoch
            milliseconds, if above 1e11; or an instant as RFC 3339.
        now_epoch_s: The time of day, in seconds since 1970, for the instants.

    Source: Go durations (OpenAI, Groq), RFC 3339 (Anthropic), epoch
        milliseconds (OpenRouter), facts recorded from their replies.
    """
    text = text.strip()
    if len(text) > _LONGEST_TEXT:
        return None
    plain = number(text)
    if plain is not None:
        return plain if plain <= _EPOCH_MS_FROM else _left(plain / 1000 - now_epoch_s)
    if _PARTS.fullmatch(text):
        return sum(float(count) * _UNIT_S[unit] for count, unit in _PART.findall(text))
    return _until_rfc3339(text, now_epoch_s)


def until_s(http_date: str, *, now_epoch_s: float) -> float | None:
    """Return the seconds until *http_date*, None if it is none or has passed.

    Source: RFC 9110, section 5.6.7.
    """
    if len(http_date) > _LONGEST_TEXT:
        return None
    try:
        then = parsedate_to_datetime(http_date)
        return _left(_utc(then).timestamp() - now_epoch_s)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _until_rfc3339(text: str, now_epoch_s: float) -> float | None:
    try:
        return _left(_utc(datetime.fromisoformat(text)).timestamp() - now_epoch_s)
    except (ValueError, OverflowError):
        return None


def _utc(then: datetime) -> datetime:
    return then if then.tzinfo is not None else then.replace(tzinfo=UTC)


def _left(seconds: float) -> float | None:
    return seconds if seconds >= 0 else None
