"""One logical call, from its first attempt to its end.

Holds: `Call`: what a call knows over its attempts, the loop over them, and
what is done with an answer: learn, remember, settle. Does not hold: the parts
that calls share (delivery.py), the policy of retries (retry.py), or the budget
itself. A call belongs to one thread; a stream, to the thread that reads it.
"""

from __future__ import annotations

import random
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeVar

from lionlite import scope
from lionlite.exceptions import (
    CheckpointError,
    LionError,
    RateLimitError,
    RequestTooLarge,
    ResponseError,
)
from lionlite.jsontext import canonical
from lionlite.records import CallRecord
from lionlite.service import idempotency
from lionlite.service.chunks import StreamReader
from lionlite.service.reply import reply_from_json, reply_to_json
from lionlite.service.retry import MAX_RETRY_AFTER_S, NO_ATTEMPTS, wait_before_retry
from lionlite.service.secret import NO_SECRET
from lionlite.service.wire import read_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lionlite.limits.headers import ServerView
    from lionlite.records import Usage
    from lionlite.service.budgets import Permit
    from lionlite.service.delivery import Delivery
    from lionlite.service.estimate import Cost
    from lionlite.service.lessons import Exchange
    from lionlite.service.reply import Reply
    from lionlite.service.request import Request
    from lionlite.service.transport.parse import RawReply
    from lionlite.service.transport.streamed import OpenReply

T = TypeVar("T")

EXCHANGE_S: Final = 600.0
"""One exchange, connecting to last byte, where no timeout= bounds it (openai-python's default)."""


class Call:
    """One logical call; its state over the attempts.

    Args:
        parts: What it shares with all calls of its service.
        request: Checked and encoded.
        bounds: Its scope. A call runs in a context of its own (delivery.py),
            and enters the scope itself: one for waiting, one for an exchange.
        is_bounded: Whether a `timeout=` bounds it, so that no exchange needs
            a bound of its own.
    """

    __slots__ = (
        "_began_s",
        "_bounds",
        "_failed",
        "_is_bounded",
        "_key",
        "_memory",
        "_name",
        "_parts",
        "_request",
        "_tried",
        "_waited_s",
        "_work",
    )

    def __init__(
        self, parts: Delivery, request: Request, bounds: scope.Scope, *, is_bounded: bool
    ) -> None:
        self._parts = parts
        self._request = request
        self._is_bounded = is_bounded
        self._bounds = bounds
        self._work = bounds.work
        # That of the last attempt: a function may give a new one for each.
        self._key = NO_SECRET
        self._began_s = time.monotonic()
        self._tried = 0
        self._failed = NO_ATTEMPTS
        self._waited_s = 0.0
        self._memory = None if bounds.work is None else self._recalled(bounds.work)
        self._name = self._memory.name if self._memory is not None else idempotency.new_name()

    def answer(self) -> Reply:
        """Return the reply, and record the call however it ends."""
        try:
            reply = self.replayed() or self.until(self._answered)
        except BaseException as error:
            self.record_failure(error)
            raise
        self.record(reply)
        return reply

    def replayed(self) -> Reply | None:
        """Return the reply that an earlier run paid for, None if there is none.

        Raises:
            CheckpointError: What was kept cannot be read.
        """
        if self._memory is None or self._memory.reply is None:
            return None
        try:
            return reply_from_json(self._memory.reply)
        except ResponseError as exc:
            msg = f"The checkpoint holds a reply that cannot be read: {exc}."
            raise CheckpointError(msg) from exc

    def until(self, attempt: Callable[[], T]) -> T:
        """Return what *attempt* returns, as soon as it does and while it may be tried."""
        last: LionError | None = None
        while True:
            scope.enter(self._bounds)
            try:
                return attempt()
            except LionError as error:
                self._note(error, last)
                self._wait_before_next(error)
                # Without its traceback, whose frames would hold it in a cycle.
                last = error.with_traceback(None)

    def reserve(self, cost: Cost | None) -> Permit:
        """Wait for the call's share of the budget.

        Raises:
            BudgetError: See `RateLimiter.reserve`.
        """
        parts, work = self._parts, self._work
        costs = parts.lessons.costs_of(self._request.model, cost)
        # Nothing follows the grant here: Ctrl-C would lose it.
        try:
            if work is None:
                return parts.limiter.reserve(costs)
            return _reserved_in_sight(work, parts.limiter.reserve, costs)
        except RequestTooLarge as error:
            raise _explained(error, cost) from None

    def cost(self) -> Cost | None:
        """Return what the request is taken to cost, None if nobody counts tokens."""
        if not self._parts.lessons.counts_tokens(self._request.model):
            return None
        return self._parts.estimator.cost_of(self._request)

    def _outgoing(self, permit: Permit) -> memoryview:
        """Return the next attempt's bytes, in a view whose repr does not show them."""
        self._waited_s += permit.waited_s
        self._tried += 1
        self._key = self._parts.keys.key()
        body, headers = self._request.body, self._request.headers
        head = self._parts.heads.head_for(self._key, headers)
        is_named = bool(headers) and idempotency.is_in(headers)
        name = b"" if is_named else idempotency.line_of(self._name)
        return memoryview(b"".join((head, name, b"Content-Length: %d\r\n\r\n" % len(body), body)))

    def read(self, raw: RawReply) -> Reply:
        """Return the reply that *raw* is.

        Raises:
            StatusError: The provider said no.
            ResponseError: It is no reply.
        """
        parts = self._parts
        return read_reply(
            raw,
            now_epoch_s=time.time(),
            scrub=self._key.scrub,
            provider=parts.provider.name,
            attempts=self._tried,
            waited_s=self._waited_s,
            elapsed_s=time.monotonic() - self._began_s,
        )

    def reader(self, headers: Mapping[str, str]) -> StreamReader:
        """Return what reads the stream with these *headers*."""
        return StreamReader(
            headers,
            now_epoch_s=time.time(),
            scrub=self._key.scrub,
            provider=self._parts.provider.name,
            answers=self._request.answers,
        )

    def finished(self, reader: StreamReader) -> Reply:
        """Return the reply that *reader* has read; raises what it raises."""
        return reader.finish(
            attempts=self._tried, waited_s=self._waited_s, elapsed_s=self._elapsed_s()
        )

    def learned(self, headers: Mapping[str, str]) -> dict[str, ServerView]:
        """Take the limits in a reply's *headers* to heart."""
        return self._parts.lessons.learn(self._request.model, headers)

    def completed(
        self,
        reply: Reply,
        views: Mapping[str, ServerView],
        *,
        permit: Permit,
        exchange: Exchange | None,
        cost: Cost | None,
    ) -> None:
        """Keep *reply*, learn from it and settle.

        It is kept before anyone sees it, and before its permit is given back.
        """
        parts = self._parts
        parts.retry_budget.answered()
        if self._memory is not None:
            self._memory.keep(reply_to_json(reply, scrub=self._key.scrub_own))
        if reply.usage is None:
            return
        if cost is not None:
            parts.estimator.learn(self._request, cost, reply.usage)
            if exchange is not None and views:
                parts.lessons.watch(exchange, views.get("tokens"), cost=cost, usage=reply.usage)
        self.settle(permit, reply.usage)

    def settle(self, permit: Permit, usage: Usage) -> None:
        """End *permit* with what was used."""
        permit.settle(self._parts.lessons.actual_of(self._request.model, usage))

    def refused(self, permit: Permit, error: RateLimitError) -> None:
        """Pause the budget for everybody."""
        self._parts.limiter.refused(permit, retry_after_s=_capped(error.retry_after_s))

    def waits(self) -> None:
        """Say that the call waits for the provider."""
        if self._work is not None:
            self._work.waits("reply")

    def goes_on(self) -> None:
        """Say that the call waits no more."""
        if self._work is not None:
            self._work.goes_on("reply")

    def noted(self, error: LionError) -> None:
        """Give *error*, which ends the call, what the call knows."""
        error.attempts = self._tried
        error.waited_s = self._waited_s

    def record(self, reply: Reply) -> None:
        """Record the call, which was answered."""
        # No attempt but an answer: an earlier run paid for it.
        is_replayed = self._tried == 0
        if not is_replayed:
            self._parts.totals.add(
                reply.usage,
                attempts=reply.attempts,
                rate_limited=self._failed.rate_limited,
                waited_s=reply.waited_s,
                elapsed_s=reply.elapsed_s,
                has_failed=False,
            )
        if self._work is not None:
            self._work.ended(
                CallRecord(
                    model=self._request.model,
                    attempts=reply.attempts,
                    rate_limited=self._failed.rate_limited,
                    waited_s=reply.waited_s,
                    elapsed_s=reply.elapsed_s,
                    usage=reply.usage,
                    cost=reply.cost,
                    answered_by=reply.model,
                    finish_reason=reply.finish_reason,
                    is_replayed=is_replayed,
                    request_id=reply.request_id,
                )
            )

    def record_failure(self, error: BaseException) -> None:
        """Record the call, which *error* ended."""
        elapsed_s = self._elapsed_s()
        self._parts.totals.add(
            None,
            attempts=self._tried,
            rate_limited=self._failed.rate_limited,
            waited_s=self._waited_s,
            elapsed_s=elapsed_s,
            has_failed=True,
        )
        if self._work is not None:
            self._work.ended(
                CallRecord(
                    model=self._request.model,
                    attempts=self._tried,
                    rate_limited=self._failed.rate_limited,
                    waited_s=self._waited_s,
                    elapsed_s=elapsed_s,
                    request_id=getattr(error, "request_id", None),
                    error=type(error).__name__,
                )
            )

    def _answered(self) -> Reply:
        """Send the request once, and return the reply."""
        cost = self.cost()
        permit = self.reserve(cost)
        try:
            return self._answered_with(permit, cost)
        finally:
            try:
                permit.cancel()
            except BaseException:
                # Ctrl-C cut it short, and others wait for it.
                permit.cancel()
                raise

    def _answered_with(self, permit: Permit, cost: Cost | None) -> Reply:
        lessons = self._parts.lessons
        exchange = lessons.begin()
        try:
            raw = self._exchanged(permit)
            views = self.learned(raw.headers)
            reply = self.read(raw)
        except RateLimitError as error:
            self.refused(permit, error)
            raise
        finally:
            lessons.end(exchange)
        self.completed(reply, views, permit=permit, exchange=exchange, cost=cost)
        return reply

    def opened(self, permit: Permit, idle_s: float | None) -> OpenReply:
        """Send the request once, and return the reply when its head is there."""
        request = self._outgoing(permit)
        self._bound_exchange()
        return self._parts.connections.open(request, permit, idle_s=idle_s)

    def _exchanged(self, permit: Permit) -> RawReply:
        request = self._outgoing(permit)
        self._bound_exchange()
        if self._work is None:
            return self._parts.connections.exchange(request, permit)
        self.waits()
        try:
            return self._parts.connections.exchange(request, permit)
        finally:
            self.goes_on()

    def _bound_exchange(self) -> None:
        """Bound what follows by what one exchange may take, where nothing else does."""
        if not self._is_bounded:
            bounds = self._bounds
            ends_at_s = min(bounds.ends_at_s, time.monotonic() + EXCHANGE_S)
            scope.enter(scope.Scope(ends_at_s, bounds.token, bounds.work))

    def _recalled(self, work: scope.Work) -> scope.RememberedChat | None:
        if not work.remembers:
            return None
        where = self._parts.where.encode()
        return work.chat(sha256(where + b"\n" + canonical(self._request.fields)).digest())

    def _note(self, error: LionError, last: LionError | None) -> None:
        """Give *error* what the whole call knows, and keep count."""
        self._failed = self._failed.after(error, elapsed_s=self._elapsed_s())
        # Only the budget's own errors say that they waited.
        self._waited_s += error.waited_s
        self.noted(error)
        if error.__cause__ is None:
            error.__cause__ = last

    def _wait_before_next(self, error: LionError) -> None:
        """Wait as long as the policy says, or raise *error* if it gives up."""
        parts = self._parts
        wait_s = wait_before_retry(self._failed, error, policy=parts.policy, rng=random.random)
        if wait_s is None:
            raise error
        if isinstance(error, RateLimitError):
            # The budget is paused for everybody: this call waits in its queue.
            return
        if not parts.retry_budget.take():
            error.add_note(_NO_RETRIES_LEFT)
            raise error
        # The bound of the exchange that failed is not that of the waiting.
        scope.enter(self._bounds)
        try:
            scope.sleep(wait_s, phase="backoff")
        except LionError as stop:
            self.noted(stop)
            stop.retry_after_s = wait_s
            raise stop from error.with_traceback(None)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s


_NO_RETRIES_LEFT: Final = (
    "It was not tried again: so many calls of this service failed that more retries would "
    "only add to the provider's load."
)


def _reserved_in_sight(
    work: scope.Work, reserve: Callable[[Mapping[str, int]], Permit], costs: Mapping[str, int]
) -> Permit:
    """Return the permit, while the run around sees that it is waited for."""
    work.waits("budget")
    try:
        permit = reserve(costs)
    except BaseException:
        work.goes_on("budget")
        raise
    try:
        work.goes_on("budget")
    except BaseException:
        # Ctrl-C: nobody knows of the permit yet.
        permit.cancel()
        raise
    return permit


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
