"""A model's answer as it is being written.

Holds: `Stream`, the iterator of text that a caller gets, how a call opens one,
and `Held`, what the call holds meanwhile. Does not hold: what the events mean
(chunks.py), sockets (transport/), or the turn that a stream may be part of
(conversation/). A stream belongs to one thread at a time.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import os
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, Self

from lionlite import scope
from lionlite.exceptions import (
    ConnectionFailed,
    DeadlineExceeded,
    LionError,
    RateLimitError,
    ResponseError,
    ServiceError,
    StreamTruncated,
)
from lionlite.service.transport.parse import is_good

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from lionlite.limits.headers import ServerView
    from lionlite.service.budgets import Permit
    from lionlite.service.call import Call
    from lionlite.service.chunks import StreamReader
    from lionlite.service.delivery import Delivery
    from lionlite.service.estimate import Cost
    from lionlite.service.lessons import Exchange, Lessons
    from lionlite.service.reply import Reply
    from lionlite.service.transport.streamed import OpenReply


DRAIN_S: Final = 0.05
"""What follows the end mark of a stream is on its way; a server that keeps quiet is left."""


class Stream:
    """A model's answer, piece by piece, as the provider sends it.

    An iterator of text: every piece as soon as it arrives, none of them empty.
    When it ends, `reply` is the whole reply and the budget has been corrected.
    Use it in a `with`, or read it to its end: leaving early closes the
    connection, so the provider stops, and gives the call's place back. A stream
    that is simply dropped is given up in the same way.

    Attributes:
        reply: The whole reply, None until the stream has ended.

    Iterating raises:
        StreamTruncated: It was cut; what was said stands in `.partial`. Nobody
            sends the request again by himself: part of the text was handed out.
        ServiceError: The provider reported an error in mid-stream.
        DeadlineExceeded: A deadline passed, or nothing came for too long.
        Cancelled: The scope in which it was opened was cancelled, or the
            current one, or the service.

    Threads: one at a time.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._ready: deque[str] = deque()
        self._is_over = False
        self._on_reply: list[Callable[[Reply], None]] = []
        self._on_end: list[Callable[[], object]] = []
        self.reply: Reply | None = None
        self._dropped = weakref.finalize(self, _give_up, source, self._on_end, os.getpid())
        self._dropped.atexit = False

    def when(self, *, complete: Callable[[Reply], None], over: Callable[[], object]) -> None:
        """Have *complete* called with the reply, and *over* when it ends in any way.

        Neither may hold the stream; *over* may be called in another thread, and twice.
        """
        # In this order: Ctrl-C in between must not lose *over*.
        self._on_end.append(over)
        self._on_reply.append(complete)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        while not self._ready:
            if self._is_over:
                raise StopIteration
            self._read_on()
        return self._ready.popleft()

    def close(self) -> None:
        """Leave the stream; what has not been read is lost. A second call does nothing."""
        try:
            self._ready.clear()
            self._end()
        finally:
            # Again: Ctrl-C may have cut it short, and others wait for what it held.
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "complete" if self.reply is not None else "over" if self._is_over else "open"
        return f"<Stream, {state}>"

    def _read_on(self) -> None:
        try:
            pieces, reply = self._source.more()
            if reply is not None:
                for complete in self._on_reply:
                    complete(reply)
                self.reply = reply
                self._end()
        except BaseException:
            self.close()
            raise
        self._ready.extend(pieces)

    def _end(self) -> None:
        """Give everything back; may be cut short at any place, and called again."""
        if not self._is_over:
            self._source.leave()
            for over in self._on_end:
                over()
            self._dropped.detach()
            self._is_over = True


class Source(Protocol):
    """Where a stream's text comes from."""

    def more(self) -> tuple[list[str], Reply | None]:
        """Return the text that arrived next, and the reply when it was the last."""

    def leave(self) -> None:
        """Give everything back; safe after the end too, and twice."""


class Whole:
    """A reply that came in one piece."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def more(self) -> tuple[list[str], Reply | None]:
        """Return all of it."""
        return [self._reply.text] if self._reply.text else [], self._reply

    def leave(self) -> None:
        """Do nothing: it holds nothing."""


class Held:
    """What a call holds while it is sent and read, one attempt after the other.

    Ctrl-C may come between any two steps: what was taken stands here from the
    next step on, and giving it back may be cut short at any place and done twice.

    Args:
        call: The call.
        lessons: Counts the exchanges.

    Attributes:
        permit: Its share of the budget.
        opened: The open reply.
        exchange: The exchange under way.
        is_waiting: Whether the run around counts it among those that wait.
    """

    def __init__(self, call: Call, lessons: Lessons) -> None:
        self._call = call
        self._lessons = lessons
        self._is_recorded = False
        self.permit: Permit | None = None
        self.opened: OpenReply | None = None
        self.exchange: Exchange | None = None
        self.is_waiting = False

    def give_back(self) -> None:
        """Free connection and permit; what was not settled stays charged as estimated."""
        try:
            if self.opened is not None:
                self.opened.close()
        finally:
            if self.permit is not None:
                self.permit.cancel()
            # These two only count, so each is crossed out before: Python looks
            # for signals at calls, and there is none in between.
            if self.is_waiting:
                self.is_waiting = False
                self._call.goes_on()
            exchange, self.exchange = self.exchange, None
            self._lessons.end(exchange)

    def ended(self, record: Callable[[], None]) -> None:
        """Give everything back and *record* how the call ended, unless that was done."""
        self.give_back()
        if not self._is_recorded:
            self._is_recorded = True
            record()


class Arriving:
    """A reply that is on its way.

    Args:
        call: Whose reply it is.
        opened: The open reply.
        reader: What its bytes mean.
        held: What the call holds.
        permit: The call's share of the budget.
        exchange: The exchange under way.
        cost: What the call was taken to cost.
    """

    def __init__(
        self,
        call: Call,
        opened: OpenReply,
        reader: StreamReader,
        *,
        held: Held,
        permit: Permit,
        exchange: Exchange | None,
        cost: Cost | None,
    ) -> None:
        self._call = call
        self._opened = opened
        self._chunks = opened.chunks()
        self._reader = reader
        self._held = held
        self._permit = permit
        self._exchange = exchange
        self._cost = cost
        self._cut: ConnectionFailed | None = None
        self._is_read = False

    def more(self) -> tuple[list[str], Reply | None]:
        """Return what arrived; the reply only when it is remembered and settled."""
        try:
            pieces = [] if self._is_read else self._next_pieces()
            if pieces or not self._is_read:
                return pieces, None
            reply = self._completed()
        except BaseException as error:
            self._failed(error)
            raise
        self._held.ended(functools.partial(self._call.record, reply))
        return pieces, reply

    def leave(self) -> None:
        """Close the connection, so that the provider stops, and settle the call."""
        self._held.ended(functools.partial(self._call.record_failure, GeneratorExit()))

    def _next_pieces(self) -> list[str]:
        try:
            data = next(self._chunks, None)
        except ConnectionFailed as exc:
            # Cut, or closed without a farewell: the reader knows.
            self._cut, data = exc.with_traceback(None), None
        except DeadlineExceeded:
            # Silence after the answer's end: only the end mark did not come.
            if not self._reader.have_all_ended:
                raise
            data = None
        if data is None:
            self._is_read = True
            return self._reader.feed_end()
        pieces = self._reader.feed(data)
        if self._reader.is_done:
            self._is_read = True
            self._drain()
        return pieces

    def _drain(self) -> None:
        """Read what follows the end mark, so that the connection can be used again."""
        soon = scope.Scope(time.monotonic() + DRAIN_S)
        with scope.entered(soon), contextlib.suppress(LionError):
            deque(self._chunks, maxlen=0)

    def _completed(self) -> Reply:
        views: Mapping[str, ServerView] = self._call.learned(self._opened.headers)
        try:
            reply = self._call.finished(self._reader)
        except StreamTruncated as error:
            raise error from self._cut
        self._call.completed(
            reply, views, permit=self._permit, exchange=self._exchange, cost=self._cost
        )
        return reply

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, RateLimitError):
            self._call.refused(self._permit, error)
        if self._reader.usage is not None:
            self._call.settle(self._permit, self._reader.usage)
        if isinstance(error, LionError):
            self._call.noted(error)
            error.partial = error.partial or self._reader.partial
            if isinstance(error, ServiceError) and error.partial:
                # Part of it was handed out: who retries must know.
                error.retryable = False
        self._held.ended(functools.partial(self._call.record_failure, error))


def streamed(parts: Delivery, call: Call, *, idle_s: float | None) -> Stream:
    """Return the stream that *call* opens, once its status is known to be good.

    Args:
        parts: What the service's calls share.
        call: Its request asks for a stream.
        idle_s: The longest silence, in seconds; None = no bound of its own.

    Raises:
        LionError: See `Service.stream`.
    """
    held = Held(call, parts.lessons)
    try:
        kept = call.replayed()
        if kept is None:
            return Stream(call.until(lambda: _opened(parts, call, held, idle_s=idle_s)))
        held.ended(functools.partial(call.record, kept))
        return Stream(Whole(kept))
    except BaseException as error:
        held.ended(functools.partial(call.record_failure, error))
        raise


def _opened(parts: Delivery, call: Call, held: Held, *, idle_s: float | None) -> Source:
    """Send the request once; return the source of its text."""
    with contextlib.ExitStack() as undo:
        undo.callback(held.give_back)
        cost = call.cost()
        permit = held.permit = call.reserve(cost)
        exchange = held.exchange = parts.lessons.begin()
        call.waits()
        held.is_waiting = True
        opened = held.opened = call.opened(permit, idle_s)
        if not is_good(opened.status):
            raise _refusal(call, opened, permit)
        reader = call.reader(opened.headers)
        undo.pop_all()
    return Arriving(call, opened, reader, held=held, permit=permit, exchange=exchange, cost=cost)


def _refusal(call: Call, opened: OpenReply, permit: Permit) -> LionError:
    """Return the error that a reply with this status is."""
    call.learned(opened.headers)
    try:
        call.read(opened.read())
    except RateLimitError as error:
        call.refused(permit, error)
        return error.with_traceback(None)
    except LionError as error:
        return error.with_traceback(None)
    msg = f"The provider answered {opened.status} with a whole reply."
    return ResponseError(msg, status=opened.status)


def _give_up(source: Source, on_end: list[Callable[[], object]], pid: int) -> None:
    """Leave a stream that was dropped.

    Garbage collection may run this inside any lock, our own too, so another
    thread does it; started below `threading`, which has locks as well.
    """
    if os.getpid() == pid:
        with contextlib.suppress(RuntimeError):  # the interpreter ends
            _thread.start_new_thread(_leave, (source, on_end))


def _leave(source: Source, on_end: list[Callable[[], object]]) -> None:
    try:
        source.leave()
    finally:
        for over in on_end:
            over()
