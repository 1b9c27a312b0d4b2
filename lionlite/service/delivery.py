"""The parts of a service that every call goes through.

Holds: `Delivery`, the parts put together, and the scope in which a call runs.
Does not hold: settings (service.py), or what a call does (call.py, stream.py).
Safe to share between threads.
"""

from __future__ import annotations

import time
from contextvars import copy_context
from typing import TYPE_CHECKING

import attrs

from lionlite import scope
from lionlite.service.call import Call
from lionlite.service.stream import Stream, streamed

if TYPE_CHECKING:
    from lionlite.service.address import Heads
    from lionlite.service.budgets import Limiter
    from lionlite.service.estimate import Estimator
    from lionlite.service.keys import KeySource
    from lionlite.service.lessons import Lessons
    from lionlite.service.providers import Provider
    from lionlite.service.reply import Reply
    from lionlite.service.request import Request
    from lionlite.service.retry import RetryPolicy
    from lionlite.service.retry_budget import RetryBudget
    from lionlite.service.totals import Totals
    from lionlite.service.transport.way import Way


@attrs.frozen
class Delivery:
    """The parts that every call of a service goes through.

    Attributes:
        provider: What the provider is like.
        where: Host and path; what tells equal requests to two places apart.
        keys: Its key.
        heads: What every request begins with.
        connections: The way there.
        limiter: The budget.
        estimator: What a request costs.
        lessons: What replies teach the budget.
        policy: How often to try a call.
        retry_budget: How often to try at all.
        totals: Where each call is recorded.
    """

    provider: Provider
    where: str
    keys: KeySource
    heads: Heads
    connections: Way
    limiter: Limiter
    estimator: Estimator
    lessons: Lessons
    policy: RetryPolicy
    retry_budget: RetryBudget
    totals: Totals

    def deliver(
        self, request: Request, *, timeout_s: float | None, token: scope.CancelToken
    ) -> Reply:
        """Send *request* until it is answered, or may not be tried again.

        Args:
            request: Checked and encoded.
            timeout_s: Total seconds for everything; None = each exchange has
                600 s, and waiting for the budget is not bounded here.
            token: Cancels the call, besides the scope's own.

        Raises:
            LionError: See `Service.send`.
        """
        bounds = _bounds(timeout_s, token)
        # In a context of its own: Ctrl-C between entering a scope and leaving
        # it must not leave a deadline behind in the caller's.
        call = Call(self, request, bounds, is_bounded=timeout_s is not None)
        return copy_context().run(call.answer)

    def stream(
        self,
        request: Request,
        *,
        timeout_s: float | None,
        idle_s: float | None,
        token: scope.CancelToken,
    ) -> Stream:
        """Send *request* until its stream begins, or it may not be tried again.

        Args:
            request: As for `deliver`, asking for a stream.
            timeout_s: Total seconds, to the stream's last byte.
            idle_s: The longest silence, in seconds.
            token: As for `deliver`.

        Raises:
            LionError: See `Service.stream`.
        """
        bounds = _bounds(timeout_s, token)
        call = Call(self, request, bounds, is_bounded=timeout_s is not None)
        return copy_context().run(streamed, self, call, idle_s=idle_s)


def _bounds(timeout_s: float | None, token: scope.CancelToken) -> scope.Scope:
    """Return the scope of a call that begins now."""
    outer = scope.current()
    own = token if outer.token is None else scope.CancelToken(outer.token, token)
    ends_at_s = outer.ends_at_s
    if timeout_s is not None:
        ends_at_s = min(ends_at_s, time.monotonic() + timeout_s)
    return scope.Scope(ends_at_s, own, outer.work)
