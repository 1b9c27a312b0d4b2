"""One call from the request to the reply: reserve, send, read, settle, again.

Holds: the loop over attempts, and the scope and record of a call. Does not
hold: settings (service.py), the policy of retries (retry.py), or the budget
itself. Safe to share between threads; a call belongs to one thread.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

import attrs

from lionlite import scope
from lionlite.exceptions import LionError, RateLimitError, RequestTooLarge
from lionlite.records import CallRecord
from lionlite.service.retry import (
    MAX_RETRY_AFTER_S,
    Attempts,
    RetryPolicy,
    wait_before_retry,
)
from lionlite.service.wire import read_reply

if TYPE_CHECKING:
    from lionlite.records import Usage
    from lionlite.service.address import Heads
    from lionlite.service.budgets import Limiter, Permit
    from lionlite.service.estimate import Cost, Estimator
    from lionlite.service.keys import KeySource
    from lionlite.service.lessons import Exchange, Lessons
    from lionlite.service.providers import Provider
    from lionlite.service.reply import Reply
    from lionlite.service.request import Request
    from lionlite.service.secret import Secret
    from lionlite.service.totals import Totals
    from lionlite.service.transport.connections import Connections

EXCHANGE_S = 600.0
"""One exchange, connecting to last byte, where no timeout= bounds it (openai-python's default)."""


@attrs.frozen
class Delivery:
    """The parts that every call of a service goes through.

    Attributes:
        provider: What the provider is like.
        keys: Its key.
        heads: What every request begins with.
        connections: The way there.
        limiter: The budget.
        estimator: What a request costs.
        lessons: What replies teach the budget.
        policy: How often to try.
        totals: Where each call is recorded.
    """

    provider: Provider
    keys: KeySource
    heads: Heads
    connections: Connections
    limiter: Limiter
    estimator: Estimator
    lessons: Lessons
    policy: RetryPolicy
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
        with ExitStack() as stack:
            outer = scope.current()
            tokens = (*outer.tokens, token)
            inner = token if len(tokens) == 1 else scope.CancelToken(*tokens)
            stack.enter_context(scope.entered(attrs.evolve(outer, token=inner)))
            if timeout_s is not None:
                stack.enter_context(scope.deadline(timeout_s))
            return _Call(self, request, is_bounded=timeout_s is not None).run()


class _Call:
    """One logical call; its state over the attempts."""

    def __init__(self, parts: Delivery, request: Request, *, is_bounded: bool) -> None:
        self._parts = parts
        self._request = request
        self._is_bounded = is_bounded
        self._began_s = time.monotonic()
        self._tried = 0
        self._failed = Attempts()
        self._waited_s = 0.0

    def run(self) -> Reply:
        """Return the reply, and record the call however it ends."""
        try:
            reply = self._until_answered()
        except BaseException as error:
            self._record(error=type(error).__name__, request_id=getattr(error, "request_id", None))
            raise
        self._record(usage=reply.usage, request_id=reply.request_id)
        return attrs.evolve(
            reply,
            attempts=self._tried,
            waited_s=self._waited_s,
            elapsed_s=self._elapsed_s(),
        )

    def _until_answered(self) -> Reply:
        last: LionError | None = None
        while True:
            try:
                return self._attempt(self._cost())
            except LionError as error:
                self._note(error, last)
                self._wait_before_next(error)
                # Without its traceback, whose frames would hold it in a cycle.
                last = error.with_traceback(None)

    def _cost(self) -> Cost | None:
        """Return what the request is taken to cost, None if nobody counts tokens."""
        if not self._parts.lessons.counts_tokens(self._request.model):
            return None
        return self._parts.estimator.cost_of(self._request)

    def _attempt(self, cost: Cost | None) -> Reply:
        lessons = self._parts.lessons
        with self._reserve(cost) as reservation:
            exchange = lessons.begin()
            try:
                reply = self._exchange(reservation, exchange, cost)
            except RateLimitError as error:
                self._parts.limiter.refused(reservation, retry_after_s=_capped(error.retry_after_s))
                raise
            finally:
                lessons.end()
            if reply.usage is not None:
                reservation.settle(lessons.actual_of(self._request.model, reply.usage))
        return reply

    def _reserve(self, cost: Cost | None) -> Permit:
        costs = self._parts.lessons.costs_of(self._request.model, cost)
        try:
            reservation = self._parts.limiter.reserve(costs)
        except RequestTooLarge as error:
            raise _explained(error, cost) from None
        self._waited_s += reservation.waited_s
        return reservation

    def _exchange(self, reservation: Permit, exchange: Exchange, cost: Cost | None) -> Reply:
        """Send the request once, read the reply, and learn from it."""
        parts = self._parts
        key = parts.keys.key()
        self._tried += 1
        with nullcontext() if self._is_bounded else scope.deadline(EXCHANGE_S):
            raw = parts.connections.exchange(self._bytes(key), reservation)
        views = parts.lessons.learn(self._request.model, raw.headers)
        reply = read_reply(
            raw, now_epoch_s=time.time(), scrub=key.scrub, provider=parts.provider.name
        )
        if cost is not None and reply.usage is not None:
            parts.estimator.learn(self._request, cost, reply.usage)
            parts.lessons.watch(exchange, views.get("tokens"), cost=cost, usage=reply.usage)
        return reply

    def _bytes(self, key: Secret) -> memoryview:
        """Return the request's bytes, in a view whose repr does not show them."""
        body = self._request.body
        head = self._parts.heads.head_for(key, self._request.headers)
        return memoryview(b"".join((head, b"%d\r\n\r\n" % len(body), body)))

    def _note(self, error: LionError, last: LionError | None) -> None:
        """Give *error* what the whole call knows, and keep count."""
        self._failed = self._failed.after(error, elapsed_s=self._elapsed_s())
        # Only the budget's own errors say that they waited.
        self._waited_s += error.waited_s
        error.attempts = self._tried
        error.waited_s = self._waited_s
        if error.__cause__ is None:
            error.__cause__ = last

    def _wait_before_next(self, error: LionError) -> None:
        """Wait as long as the policy says, or raise *error* if it gives up."""
        wait_s = wait_before_retry(
            self._failed, error, policy=self._parts.policy, rng=random.random
        )
        if wait_s is None:
            raise error
        if isinstance(error, RateLimitError):
            # The budget is paused for everybody: this call waits in its queue.
            return
        try:
            scope.sleep(wait_s, phase="backoff")
        except LionError as stop:
            stop.attempts, stop.waited_s = self._tried, self._waited_s
            stop.retry_after_s = wait_s
            raise stop from error.with_traceback(None)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def _record(
        self,
        *,
        usage: Usage | None = None,
        request_id: str | None = None,
        error: str | None = None,
    ) -> None:
        self._parts.totals.add(
            CallRecord(
                model=self._request.model,
                attempts=self._tried,
                rate_limited=self._failed.rate_limited,
                waited_s=self._waited_s,
                elapsed_s=self._elapsed_s(),
                usage=usage,
                request_id=request_id,
                error=error,
            )
        )


def _capped(retry_after_s: float | None) -> float | None:
    # A hostile or broken header must neither park every session nor let them storm.
    return min(retry_after_s, MAX_RETRY_AFTER_S) if retry_after_s else None


def _explained(error: RequestTooLarge, cost: Cost | None) -> RequestTooLarge:
    """Return *error* with the two things called max_tokens told apart."""
    if not error.dimension.startswith("tokens") or cost is None:
        return error
    msg = (
        f"The request needs about {error.needed:,} tokens ({cost.input_tokens:,} of input and up "
        f"to {cost.output_tokens:,} of output), but the service's budget never allows more than "
        f"{error.limit:,} at once. Raise the service's max_tokens=, which counts all calls "
        f"together, or cap this answer with llmconfig={{'max_tokens': n}}."
    )
    return RequestTooLarge(
        msg, dimension=error.dimension, needed=error.needed, limit=error.limit
    )
