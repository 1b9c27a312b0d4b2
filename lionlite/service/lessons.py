"""What the provider's headers teach the budget.

Holds: limits that nobody gave, learned per model; use of the key by others;
whether the provider refunds. Does not hold: reading headers (limits/headers.py)
or the budget itself. Safe to share between threads.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs

from lionlite.limits.headers import ServerView, rate_limit_view
from lionlite.limits.rates import PER_MODEL, Rate
from lionlite.locks import ProcessLock
from lionlite.service.refunds import RefundWatch, Sighting
from lionlite.service.transport.headers import Headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lionlite.limits.limiter import RateLimiter
    from lionlite.records import Usage
    from lionlite.service.estimate import Cost

MINUTE_S = 60.0
"""What providers' limits count in, where neither the header nor the provider's entry says."""

WATCHED_REPLIES = 200
"""How many replies are read for refunds; a provider that does not show them by then does not."""

TOKEN_DIMENSIONS = ("tokens", "input", "output")


@attrs.frozen
class Exchange:
    """One exchange under way.

    Attributes:
        began_s: When it began, on `time.monotonic`.
        serial: Its number in the service.
        was_alone: Whether no other was under way then.
    """

    began_s: float
    serial: int
    was_alone: bool


class Lessons:
    """Reads each reply's headers and tells the budget.

    Args:
        limiter: The budget; None if it cannot be taught.
        learned: Dimensions whose limits nobody gave, nor declined.
        given: Dimensions whose limits were given.
        intervals: Dimension to seconds, where the provider's headers mean
            something else than a minute.
        may_change_charge: Whether the provider's way of charging is unknown,
            so that what its headers show counts.

    Threads: safe to share.
    """

    def __init__(
        self,
        limiter: RateLimiter | None,
        *,
        learned: frozenset[str],
        given: frozenset[str],
        intervals: Mapping[str, float],
        may_change_charge: bool,
    ) -> None:
        self._limiter = limiter
        self._learned = learned
        self._counts_always = not given.isdisjoint(TOKEN_DIMENSIONS)
        self._intervals = intervals
        # Guards all below; held for arithmetic only.
        self._lock = ProcessLock()
        self._rates: dict[str, Rate] = {}
        self._by_model: dict[str, tuple[str, ...]] = {}
        self._watch = RefundWatch()
        self._looks_left = WATCHED_REPLIES if may_change_charge else 0
        self._serial = 0
        self._active = 0

    def counts_tokens(self, model: str) -> bool:
        """Whether the tokens of a call to *model* matter to the budget."""
        if self._counts_always:
            return True
        return any(not name.startswith("requests") for name in self._by_model.get(model, ()))

    def costs_of(self, model: str, cost: Cost | None) -> dict[str, int]:
        """Return what a call to *model* asks of the budget, by dimension."""
        costs = {"requests": 1}
        if cost is not None:
            costs["tokens"] = cost.tokens
            costs["input"] = cost.input_tokens
            costs["output"] = cost.output_tokens
        if self._learned:
            for name in self._by_model.get(model) or self._first_names(model):
                costs[name] = costs.get(_plain_name(name), 0)
        return costs

    def _first_names(self, model: str) -> tuple[str, ...]:
        """Return what calls to *model* are counted as before any limit is known.

        So the calls of a first burst, which are under way when the first reply
        tells the limit, count against it.
        """
        if self._limiter is None or "requests" not in self._learned:
            return ()
        return self._by_model.setdefault(model, (f"requests{PER_MODEL}{model}",))

    def actual_of(self, model: str, usage: Usage) -> dict[str, int]:
        """Return what a call to *model* used, by dimension."""
        used = {
            "tokens": usage.total_tokens,
            "input": usage.input_tokens,
            "output": usage.output_tokens,
        }
        for name in self._by_model.get(model, ()):
            if _plain_name(name) in used:
                used[name] = used[_plain_name(name)]
        return used

    def begin(self) -> Exchange | None:
        """Note that an exchange begins, None if nobody watches; `end` must follow."""
        if self._looks_left <= 0:
            return None
        with self._lock.inner:
            self._serial += 1
            self._active += 1
            return Exchange(time.monotonic(), self._serial, self._active == 1)

    def end(self, exchange: Exchange | None) -> None:
        """Note that *exchange* ended."""
        if exchange is not None:
            with self._lock.inner:
                self._active -= 1

    def learn(self, model: str, headers: Mapping[str, str]) -> dict[str, ServerView]:
        """Take the limits in *headers* to heart, and what is left of them.

        Returns:
            What they say, empty when nobody needs to know.
        """
        if self._limiter is None or (not self._learned and self._looks_left <= 0):
            return {}
        if not _tells_limits(headers):
            return {}
        views = rate_limit_view(headers, now_epoch_s=time.time())
        for dimension in self._learned & views.keys():
            self._learn_one(self._limiter, f"{dimension}{PER_MODEL}{model}", views[dimension])
        return views

    def watch(
        self,
        exchange: Exchange | None,
        view: ServerView | None,
        *,
        cost: Cost | None,
        usage: Usage,
    ) -> None:
        """Look whether the provider gave back what the last call did not use."""
        if exchange is None or cost is None or self._limiter is None:
            return
        if view is None or view.limit is None or view.remaining is None:
            return
        sighting = Sighting(
            began_s=exchange.began_s,
            ended_s=time.monotonic(),
            used=view.limit - view.remaining,
            reserved=cost.tokens,
            actual=usage.total_tokens,
            refill_per_s=view.limit / self._interval_s("tokens", view),
        )
        with self._lock.inner:
            if self._looks_left <= 0:
                return
            self._looks_left -= 1
            is_alone = exchange.was_alone and self._serial == exchange.serial
            self._watch.see(sighting, is_alone=is_alone)
            if not self._watch.refunds:
                return
            self._looks_left = 0
        # Not "adjust": whether it charges at arrival or at the end is unknown,
        # and what counts until the end is right for both.
        self._limiter.set_charge("usage")

    def _learn_one(self, limiter: RateLimiter, name: str, view: ServerView) -> None:
        dimension, _, model = name.partition(PER_MODEL)
        if view.limit is not None:
            rate = Rate(view.limit, self._interval_s(dimension, view))
            with self._lock.inner:
                is_new = self._rates.get(name) != rate
                self._rates[name] = rate
                names = self._by_model.get(model, ())
                if name not in names:
                    self._by_model[model] = (*names, name)
            if is_new:
                limiter.set_rates(name, [rate])
        known = self._rates.get(name)
        if known is not None and view.remaining is not None:
            limiter.tighten(name, known.limit - view.remaining)

    def _interval_s(self, dimension: str, view: ServerView) -> float:
        return view.interval_s or self._intervals.get(dimension, MINUTE_S)


def _tells_limits(headers: Mapping[str, str]) -> bool:
    if isinstance(headers, Headers):
        return headers.mention("ratelimit")
    for name in headers:  # noqa: SIM110 - any() of a generator costs three times as much
        if "ratelimit" in name:
            return True
    return False


def _plain_name(name: str) -> str:
    return name.partition(PER_MODEL)[0]
