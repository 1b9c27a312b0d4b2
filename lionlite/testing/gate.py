"""The fake provider's rate limit: requests and tokens, judged together.

Holds: `Gate`, which admits or refuses and charges. Does not hold: the windows'
arithmetic (window.py), the wording of a 429 (protocol.py), or anything of
lionlite.limits, which it judges. Safe to share between threads.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal

import attrs

from lionlite.testing.window import Entry, SlidingWindow

if TYPE_CHECKING:
    from lionlite.testing.settings import Settings

Dimension = Literal["requests", "tokens"]


@attrs.frozen
class Ticket:
    """A request that was let in.

    Attributes:
        arrival_s: The instant it was judged by.
        estimate: Input tokens and the room asked for the reply.
        entry: Its place in the token window, None when it has none yet.
    """

    arrival_s: float
    estimate: int
    entry: Entry | None = None


@attrs.frozen
class Refusal:
    """A request that was not.

    Attributes:
        dimension: The limit that it met, the one with the longer wait.
        limit: The most that one window may hold.
        used: What the window holds already.
        requested: What the request would have added.
        wait_s: Seconds until it would fit, infinite when it never will.
    """

    dimension: Dimension
    limit: int
    used: int
    requested: int
    wait_s: float


@attrs.frozen
class Charged:
    """What a request costs, and the instant it counts from."""

    tokens: int
    at_s: float


@attrs.frozen
class Headroom:
    """How one dimension stands, for the x-ratelimit-* headers.

    Attributes:
        limit: The most that one window may hold.
        remaining: What is left of it, >= 0.
        reset_s: Seconds until nothing is used any more.
    """

    limit: int
    remaining: int
    reset_s: float


class Gate:
    """Judges arrivals by a strict window of requests and one of tokens.

    Args:
        settings: The limits, the interval and the charge mode are read.
    """

    def __init__(self, settings: Settings) -> None:
        self._charge = settings.charge
        self._lock = threading.Lock()  # guards both windows, taken together
        self._windows: dict[Dimension, SlidingWindow] = {}
        if settings.max_requests is not None:
            self._windows["requests"] = SlidingWindow(settings.max_requests, settings.interval_s)
        if settings.max_tokens is not None:
            self._windows["tokens"] = SlidingWindow(settings.max_tokens, settings.interval_s)

    def admit(self, arrival_s: float, estimate: int) -> Ticket | Refusal:
        """Let a request in and charge it, or refuse it and charge nothing.

        With charge "usage" its own tokens are not known yet: it is let in
        while at least one token is left, as real providers do.
        """
        costs: dict[Dimension, int] = {
            "requests": 1,
            "tokens": 1 if self._charge == "usage" else estimate,
        }
        with self._lock:
            refusals = [
                Refusal(name, window.limit, window.held(arrival_s), costs[name], wait_s)
                for name, window in self._windows.items()
                if (wait_s := window.wait_s(arrival_s, costs[name])) > 0
            ]
            if refusals:
                return max(refusals, key=lambda refusal: refusal.wait_s)
            return self._take(arrival_s, estimate)

    def on_arrival(self, ticket: Ticket) -> Charged:
        """Return what the request costs while its reply is still to come."""
        return Charged(0 if self._charge == "usage" else ticket.estimate, ticket.arrival_s)

    def settle(self, ticket: Ticket, *, usage: int, now_s: float) -> Charged:
        """Charge what the reply really used, where the charge mode says so."""
        if self._charge == "estimate":
            return Charged(ticket.estimate, ticket.arrival_s)
        with self._lock:
            if self._charge == "usage":
                if "tokens" in self._windows:
                    self._windows["tokens"].take(now_s, usage)
                return Charged(usage, now_s)
            if ticket.entry is not None:
                self._windows["tokens"].correct(ticket.entry, usage)
            return Charged(usage, ticket.arrival_s)

    def headroom(self, now_s: float) -> dict[Dimension, Headroom]:
        """Return how each limited dimension stands."""
        with self._lock:
            return {
                name: Headroom(
                    window.limit,
                    max(0, window.limit - window.held(now_s)),
                    window.reset_s(now_s),
                )
                for name, window in self._windows.items()
            }

    def _take(self, arrival_s: float, estimate: int) -> Ticket:
        if "requests" in self._windows:
            self._windows["requests"].take(arrival_s, 1)
        if "tokens" not in self._windows or self._charge == "usage":
            return Ticket(arrival_s, estimate)
        return Ticket(arrival_s, estimate, self._windows["tokens"].take(arrival_s, estimate))
