"""The way of one request through a fake provider.

Holds: key, route, rate limit, script, latency, charge and log, in that order.
Does not hold: sockets (server.py), wording (protocol.py), the sending of a
stream (generation.py), or the public face (provider.py). Called by one thread
per connection; safe for that.
"""

from __future__ import annotations

import itertools
import threading
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING

import attrs

from lionlite.testing import protocol
from lionlite.testing.chatbody import BadBodyError, ChatBody, read_chat
from lionlite.testing.counting import TokenRule
from lionlite.testing.gate import Gate, Refusal, Ticket
from lionlite.testing.generation import Progress, Stream
from lionlite.testing.log import Outcome, ReceivedRequest, RequestLog, masked
from lionlite.testing.message import Head, HttpReply, HttpRequest, SteppedReply, json_reply
from lionlite.testing.report import report_on
from lionlite.testing.streaming import stream_events

if TYPE_CHECKING:
    from lionlite.testing.script import Script, Turn
    from lionlite.testing.settings import Settings

_CHAT = "/v1/chat/completions"
_MODELS = "/v1/models"
_REPORT = "/report"
_EVENTS = "text/event-stream; charset=utf-8"
_Seen = partial[ReceivedRequest]  # what the log knows of a request so far
_METHODS = {_CHAT: "POST", _MODELS: "GET"}


@attrs.frozen
class _Draft:
    """A reply that only waits for its time.

    Attributes:
        reply: What will be sent.
        outcome: What the log will call it.
        due_s: When, on `time.monotonic`.
        usage: Input and output tokens told in it; zeros if it tells none.
        stream: Its events, when the body is a stream.
        fault: The kind of the fault in it, None without one.
    """

    reply: HttpReply
    outcome: Outcome
    due_s: float
    usage: tuple[int, int] = (0, 0)
    stream: Stream | None = None
    fault: str | None = None


class Endpoint:
    """Answers requests and logs them.

    Args:
        settings: Everything the provider was told to be.
        script: Where replies come from.
        log: Where requests go.
        closing: Ends all waiting.
    """

    def __init__(
        self, settings: Settings, *, script: Script, log: RequestLog, closing: threading.Event
    ) -> None:
        self._settings = settings
        self._script = script
        self._log = log
        self._closing = closing
        self._gate = Gate(settings)
        self._rule = TokenRule(settings.bytes_per_token)
        self._numbers = itertools.count(1)

    def respond(self, request: HttpRequest) -> HttpReply | SteppedReply | None:
        """Return the reply to *request*, after its latency.

        Returns:
            None when the provider closed meanwhile.
        """
        head = request.head
        if (head.method, head.path) == ("GET", _REPORT):
            return json_reply(attrs.asdict(report_on(self._log.snapshot(), self._settings)))
        seen: _Seen = partial(
            ReceivedRequest,
            arrival_s=request.arrival_s,
            method=head.method,
            path=head.path,
            headers=masked(head.headers) if self._settings.keep_bodies else {},
            client_port=request.client_port,
        )
        refused = self._refuse(head)
        if refused is not None:
            return self._log_at_once(seen, refused, outcome="error")
        if head.path == _MODELS:
            reply = protocol.models_reply(self._settings.model)
            return self._log_at_once(seen, reply, outcome="answered")
        try:
            chat = read_chat(request.body)
        except BadBodyError as exc:
            return self._log_at_once(seen, exc.reply, outcome="error")
        return self._chat(seen, request, chat)

    def _refuse(self, head: Head) -> HttpReply | None:
        """Return the reply to a bad key, path or method; None when all are good."""
        key = self._settings.api_key
        given = head.headers.get("authorization")
        if key is not None and given != f"Bearer {key}":
            return protocol.unauthorized_reply(key_given=given is not None)
        if head.path not in _METHODS:
            return protocol.error_reply(404, f"Unknown path: use {_CHAT}.", code="unknown_url")
        if head.method != _METHODS[head.path]:
            return protocol.error_reply(405, f"Not allowed to {head.method} {head.path}.")
        return None

    def _log_at_once(self, seen: _Seen, reply: HttpReply, *, outcome: Outcome) -> HttpReply:
        self._log.add(seen(outcome=outcome, status=reply.status, finished_s=time.monotonic()))
        return reply

    def _chat(
        self, seen: _Seen, request: HttpRequest, chat: ChatBody
    ) -> HttpReply | SteppedReply | None:
        input_tokens = self._rule.request(chat.messages)
        body = chat.body if self._settings.keep_bodies else None
        seen = partial(seen, body=body, input_tokens=input_tokens, is_stream=chat.is_stream)
        verdict = self._gate.admit(request.arrival_s, input_tokens + chat.output_cap)
        if isinstance(verdict, Refusal):
            reply = protocol.refusal_reply(verdict, model=chat.model)
            return self._with_headers(self._log_at_once(seen, reply, outcome="refused"), {})
        charged = self._gate.on_arrival(verdict)
        record = seen(is_admitted=True, charged_tokens=charged.tokens, charged_at_s=charged.at_s)
        place = self._log.add(record)
        number = next(self._numbers)
        draft = self._draft(record, chat, number=number)
        if self._waits_in_vain(draft.due_s):
            return None
        names = {"x-request-id": f"req_{number:08d}"}
        if draft.stream is None:
            self._log.update(place, self._settled(record, verdict, draft))
            return self._with_headers(draft.reply, names)

        def ended(progress: Progress) -> None:
            self._log.update(place, self._ended(record, verdict, draft, progress))

        return draft.stream.reply(
            self._with_headers(draft.reply, names | _last_word(request.head)),
            is_chunked=request.head.version == "HTTP/1.1",
            ended=ended,
        )

    def _draft(self, record: ReceivedRequest, chat: ChatBody, *, number: int) -> _Draft:
        try:
            turn = self._script.next_turn(chat.body)
            return self._build(turn, record=record, chat=chat, number=number)
        # Replies and latency may be functions of the test's own: whatever they
        # raise is told to the client, and so to the test that reads its error.
        except Exception as exc:  # noqa: BLE001
            why = "".join(traceback.format_exception_only(exc)).strip()
            reply = protocol.error_reply(500, f"the reply could not be made: {why}")
            return _Draft(reply, "error", record.arrival_s)

    def _build(self, turn: Turn, *, record: ReceivedRequest, chat: ChatBody, number: int) -> _Draft:
        latency = self._settings.latency_s
        latency_s = float(latency() if callable(latency) else latency)
        due_s = record.arrival_s + latency_s + turn.delay_s
        outcome: Outcome = "fault" if turn.faults else "answered"
        fault = turn.faults[-1].kind if turn.faults else None
        if turn.content is None:
            return _Draft(turn.http, "error" if turn.is_broken else outcome, due_s, fault=fault)
        message = protocol.as_message(turn.content)
        usage = (record.input_tokens, self._rule.reply(message))
        if chat.is_stream:
            reply, stream = HttpReply(content_type=_EVENTS), self._stream(turn, chat, number, usage)
            return _Draft(reply, outcome, due_s, usage, stream, fault)
        body = protocol.completion(turn.content, number=number, model=chat.model, usage=usage)
        return _Draft(turn.shape(json_reply(body)), outcome, due_s, usage, fault=fault)

    def _stream(self, turn: Turn, chat: ChatBody, number: int, usage: tuple[int, int]) -> Stream:
        chosen = turn.stream
        events = stream_events(
            turn.content or "",
            number=number,
            model=chat.model,
            usage=usage,
            wants_usage=chat.wants_usage,
            pieces=None if chosen is None else chosen.pieces,
        )
        delay_s = None if chosen is None else chosen.delay_s
        if delay_s is None:
            delay_s = self._settings.stream_delay_s
        cut = turn.cut
        if cut is None:
            return Stream(events, delay_s)
        return Stream(events, delay_s, cut.sent_bytes, cut.after)

    def _waits_in_vain(self, due_s: float) -> bool:
        """Wait until *due_s*; return whether the provider closed before."""
        wait_s = min(due_s - time.monotonic(), threading.TIMEOUT_MAX)
        return wait_s > 0 and self._closing.wait(wait_s)

    def _settled(self, record: ReceivedRequest, ticket: Ticket, draft: _Draft) -> ReceivedRequest:
        """Charge for the reply; return what the log will say."""
        if draft.reply.after == "hold":  # it never ends, so its usage is never known
            return attrs.evolve(record, outcome=draft.outcome, fault=draft.fault)
        now_s = time.monotonic()
        charged = self._gate.settle(ticket, usage=sum(draft.usage), now_s=now_s)
        return attrs.evolve(
            record,
            outcome=draft.outcome,
            status=None if draft.reply.is_silent else draft.reply.status,
            finished_s=now_s,
            output_tokens=draft.usage[1],
            charged_tokens=charged.tokens,
            charged_at_s=charged.at_s,
            fault=draft.fault,
        )

    def _ended(
        self, record: ReceivedRequest, ticket: Ticket, draft: _Draft, progress: Progress
    ) -> ReceivedRequest:
        """Charge for a stream as far as it came; return what the log will say."""
        is_cut = draft.stream is not None and draft.stream.sent_bytes is not None
        if progress.is_aborted or is_cut:
            draft = attrs.evolve(draft, usage=(draft.usage[0], self._rule.text(progress.said)))
        return attrs.evolve(
            self._settled(record, ticket, draft),
            pieces_sent=progress.pieces,
            is_aborted=progress.is_aborted,
        )

    def _with_headers(self, reply: HttpReply, headers: dict[str, str]) -> HttpReply:
        """Return *reply* with *headers* and the rate limit's, where it has none of its own."""
        if self._settings.rate_limit_headers:
            headers |= protocol.rate_limit_headers(self._gate.headroom(time.monotonic()))
        return reply.with_headers(headers)


def _last_word(head: Head) -> dict[str, str]:
    return {} if head.keeps_alive else {"connection": "close"}
