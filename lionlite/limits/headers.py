"""What a provider says about its rate limit in the headers of a reply.

Holds: `retry_after_s` and `rate_limit_view`. Does not hold: what follows from
it (service/ decides), nor any provider's habits: whether "requests" are those
of a minute or of a day, the header does not tell. Pure: the time of day is
given. Never raises: a header comes from outside, and what is not understood
is None.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from lionlite.limits.durations import number, span_s, until_s

if TYPE_CHECKING:
    from collections.abc import Mapping

_DIMENSION: Final = r"(requests|tokens|input-tokens|output-tokens)"
_NAMES: Final = (
    # OpenAI, Azure, Groq, Mistral; with the interval at the end: Cerebras.
    re.compile(
        rf"x-ratelimit-(?P<what>limit|remaining|reset)-(?P<of>{_DIMENSION})"
        r"(?:-(?P<per>second|minute|hour|day))?"
    ),
    re.compile(rf"anthropic-ratelimit-(?P<of>{_DIMENSION})-(?P<what>limit|remaining|reset)"),
    # OpenRouter, which says it of requests only.
    re.compile(r"x-ratelimit-(?P<what>limit|remaining|reset)"),
)
_SHORT: Final = {"input-tokens": "input", "output-tokens": "output"}
_PER_S: Final = {"second": 1.0, "minute": 60.0, "hour": 3_600.0, "day": 86_400.0}
_COUNT: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)


@attrs.frozen
class ServerView:
    """What the server says of one dimension.

    Attributes:
        limit: Units per interval, >= 1, None if unknown.
        remaining: Units left, >= 0, None if unknown.
        reset_s: Seconds until all units are back, >= 0, None if unknown.
        interval_s: The interval, in seconds, where the header's name has it.
    """

    limit: int | None = None
    remaining: int | None = None
    reset_s: float | None = None
    interval_s: float | None = None


def retry_after_s(headers: Mapping[str, str], *, now_epoch_s: float) -> float | None:
    """Return how long the server asks us to wait, or None.

    A server may ask for years: the caller caps it.

    Args:
        headers: Names in any case. retry-after-ms counts before Retry-After.
        now_epoch_s: The time of day, in seconds since 1970.

    Returns:
        Seconds, >= 0 and finite. None if nothing sensible is asked for; a date
        that has passed is not.

    Threads: pure; safe anywhere.
    Source: RFC 9110, section 10.2.3; retry-after-ms is Azure's and OpenAI's.
    """
    lowered = _lowered(headers)
    milliseconds = number(lowered.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    text = lowered.get("retry-after", "")
    seconds = number(text)
    return seconds if seconds is not None else until_s(text, now_epoch_s=now_epoch_s)


def rate_limit_view(headers: Mapping[str, str], *, now_epoch_s: float) -> dict[str, ServerView]:
    """Return what the headers say of "requests", "tokens", "input", "output".

    A limit of 0 or -1 means unknown (Azure), and so does what is left of it.
    Where one dimension comes with several intervals, the shortest is kept.

    Args:
        headers: Names in any case.
        now_epoch_s: The time of day, in seconds since 1970.

    Returns:
        Only the dimensions of which something is known.

    Threads: pure; safe anywhere.
    """
    texts: dict[tuple[str, float], dict[str, str]] = {}
    for name, text in _lowered(headers).items():
        found = _found(name)
        if found is not None:
            dimension, per_s, what = found
            texts.setdefault((dimension, per_s), {})[what] = text
    views: dict[str, ServerView] = {}
    for (dimension, per_s), parts in sorted(texts.items(), reverse=True):
        view = _view(parts, per_s or None, now_epoch_s)
        if view != ServerView(interval_s=per_s or None):
            views[dimension] = view
    return views


def _found(name: str) -> tuple[str, float, str] | None:
    for pattern in _NAMES:
        match = pattern.fullmatch(name)
        if match:
            parts = match.groupdict()
            dimension = parts.get("of") or "requests"
            per_s = _PER_S.get(parts.get("per") or "", 0.0)
            return _SHORT.get(dimension, dimension), per_s, parts["what"]
    return None


def _view(parts: Mapping[str, str], interval_s: float | None, now_epoch_s: float) -> ServerView:
    limit = _count(parts.get("limit", ""))
    remaining = _count(parts.get("remaining", ""))
    if limit is not None and limit <= 0:
        return ServerView(interval_s=interval_s)
    return ServerView(
        limit=limit,
        remaining=remaining if remaining is not None and remaining >= 0 else None,
        reset_s=span_s(parts.get("reset", ""), now_epoch_s=now_epoch_s),
        interval_s=interval_s,
    )


def _count(text: str) -> int | None:
    return int(text) if _COUNT.fullmatch(text) else None


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name.lower(): text.strip()
        for name, text in headers.items()
        if isinstance(name, str) and isinstance(text, str)
    }
