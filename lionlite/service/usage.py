"""The tokens and the money that a provider says a call took.

Holds: reading them out of a reply's `usage`, believing only what can be true.
Does not hold: estimates (estimate.py), or what follows for the budget. Pure
functions, safe anywhere.
"""

from __future__ import annotations

from typing import Any

from lionlite.records import Usage

MAX_TOKENS_BELIEVED = 1_000_000_000
"""A count above it is a server's mistake: it would block a budget for good."""


def usage_in(body: dict[str, Any]) -> Any:
    """Return the usage object of a reply or a chunk, None if it has none.

    Groq's streams have it under "x_groq" as well, some only there.
    """
    usage = body.get("usage")
    if not usage:
        groq = body.get("x_groq")
        if isinstance(groq, dict):
            return groq.get("usage")
    return usage


def read_usage(usage: Any) -> Usage | None:
    """Return the counts in *usage*, None if it holds none that can be true."""
    if not isinstance(usage, dict):
        return None
    sent, received = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if sent is None or received is None:
        total = _count(usage, "total_tokens")
        if sent is None and received is None and total is None:
            return None
        if sent is None:
            sent = max((total or 0) - (received or 0), 0)
        if received is None:
            received = max((total or 0) - sent, 0)
    cached = _detail(usage.get("prompt_tokens_details"), "cached_tokens")
    reasoning = _detail(usage.get("completion_tokens_details"), "reasoning_tokens")
    return Usage(sent, received, cached, reasoning)


def read_cost(usage: Any) -> float | None:
    """Return what the call cost in US dollars, None if *usage* does not say."""
    cost = usage.get("cost") if isinstance(usage, dict) else None
    if isinstance(cost, (int, float)) and not isinstance(cost, bool) and cost >= 0:
        try:
            return float(cost)
        except OverflowError:
            return None
    return None


def _detail(details: Any, key: str) -> int:
    # Zero is the usual one: no need to look whether it can be true.
    if not isinstance(details, dict) or not details.get(key):
        return 0
    return _count(details, key) or 0


def _count(usage: dict[str, Any], key: str) -> int | None:
    value = usage.get(key)
    # type() and not isinstance(): a bool is an int.
    return value if type(value) is int and 0 <= value <= MAX_TOKENS_BELIEVED else None
