"""A streamed reply: its bytes in, pieces of text out, the whole reply at the end.

Holds: what each event of a stream means, and whether the stream is complete.
Does not hold: the cutting into events (sse.py), the merging of deltas
(deltas.py), reading a reply that is whole (wire.py), sockets, time. One reader
belongs to one stream of one thread.

Source: OpenAI's OpenAPI description; recorded streams of six providers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lionlite import jsontext
from lionlite.exceptions import (
    ResponseError,
    ResponseTooLarge,
    ServiceError,
    StreamTruncated,
)
from lionlite.service.bodykind import BodyKind
from lionlite.service.deltas import Choice
from lionlite.service.halves import Halves
from lionlite.service.reply import NoAnswerError, reply_in
from lionlite.service.responses import usage_of
from lionlite.service.sse import EventReader
from lionlite.service.status import (
    error_in,
    error_in_choice,
    excerpt,
    request_id_of,
    status_error,
)
from lionlite.service.transport.parse import RawReply
from lionlite.service.usage import read_usage, usage_in
from lionlite.service.wire import read_reply
from lionlite.value import changed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lionlite.records import Usage
    from lionlite.service.reply import Reply

_OK: Final = 200
_DONE: Final = b"[DONE]"

# Of a chunk's keys, those that need no keeping once a chunk has named the model.
_USUAL: Final = frozenset(
    {
        "choices",
        "created",
        "id",
        "model",
        "obfuscation",
        "object",
        "provider",
        "service_tier",
        "system_fingerprint",
        "usage",
    }
)
_OF_ONE_CHUNK: Final = frozenset({"choices", "error", "object", "obfuscation", "usage", "x_groq"})
_LAST_TYPES: Final = frozenset({"response.completed", "response.failed", "response.incomplete"})

_NO_CHUNK: Final = (NoAnswerError, AttributeError, TypeError, RecursionError, jsontext.JsonError)
"""What taking in a chunk of another shape raises: a check at every step costs more."""

_PINGS: Final = frozenset({"heartbeat", "keep-alive", "keepalive", "ping"})


class StreamReader:
    """Reads one streamed reply, wherever its bytes are cut.

    What went wrong is raised by `finish` alone, so that all text that came
    before it has been handed out:

        while not reader.is_done and (data := receive()):
            yield from reader.feed(data)
        yield from reader.feed_end()
        reply = reader.finish(...)

    A server that takes no notice of `stream` answers with a whole reply: its
    text comes out of `feed_end` as one piece.

    Args:
        headers: Of the reply, lower-case names; its status was 2xx.
        now_epoch_s: Wall-clock time in seconds, for Retry-After dates.
        scrub: Takes keys out of a text that will be shown.
        provider: Its name, for messages.
        answers: How many choices were asked for.

    Attributes:
        is_done: Whether nothing more is of interest: the end mark came, or an
            error. The connection may still hold bytes.

    Threads: belongs to one.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        *,
        now_epoch_s: float,
        scrub: Callable[[str], str],
        provider: str,
        answers: int = 1,
    ) -> None:
        self.is_done = False
        self._answers = answers
        self._headers = headers
        self._now_epoch_s = now_epoch_s
        self._scrub = scrub
        self._provider = provider
        self._events = EventReader()
        self._halves = Halves()
        self._kind = BodyKind(headers)
        self._first = Choice()
        self._choices: dict[int, Choice] = {}
        self._top: dict[str, Any] = {}
        self._is_named = False
        self._usage: dict[str, Any] | None = None
        self._has_done_mark = False
        self._whole: Reply | None = None
        self._error: ServiceError | None = None

    @property
    def usage(self) -> Usage | None:
        """The tokens counted so far, None if none were; also after an error."""
        return read_usage(self._usage)

    @property
    def partial(self) -> str:
        """The text so far."""
        return self._whole.text if self._whole else self._lead.text

    @property
    def have_all_ended(self) -> bool:
        """Whether each of the choices that were asked for has said why it ended."""
        states = self._choices.values()
        return len(states) >= self._answers and all(state.finish_reason for state in states)

    @property
    def _lead(self) -> Choice:
        """The choice whose text this is: number 0, or the lowest there is."""
        return self._first if not self._choices else self._choices[min(self._choices)]

    def feed(self, data: bytes) -> list[str]:
        """Return the pieces of text in *data*, in order; nothing once `is_done`."""
        pieces: list[str] = []
        if self.is_done:
            return pieces
        try:
            if not self._kind.is_stream:
                data = self._kind.put(data)
            events = self._events.feed(data) if data else []
        except ResponseTooLarge as error:
            # Without its traceback, whose frames hold the bytes: they may echo the key.
            self._fail(error.with_traceback(None))
            return pieces
        for text, name in events:
            self._take(text, name, pieces)
            if self.is_done:
                break
        return pieces

    def feed_end(self) -> list[str]:
        """Take note that no more bytes come; return the last pieces of text."""
        if self.is_done:
            return []
        self._kind.end()
        if not self._kind.is_stream:
            self.is_done = True
            return self._read_whole()
        pieces: list[str] = []
        data, name = self._events.feed_end() or (b"", "")
        # The last event may lack its blank line; if it is no JSON, it was cut. Of an
        # error, what there is says more than that the stream was.
        if data.startswith(_DONE) or (data and name == "error") or _decoded(data) is not None:
            self._take(data, name, pieces)
        if not self.is_done:
            self._end(pieces)
        return pieces

    def finish(self, *, attempts: int = 1, waited_s: float = 0.0, elapsed_s: float = 0.0) -> Reply:
        """Return the whole reply, once `feed_end` was called.

        It is whole when the end mark came, or every choice said why it ended:
        servers forget either. Recorded complete streams of Snowflake and
        OpenRouter have the mark and no finish reason.

        Args:
            attempts: For `Reply.attempts`.
            waited_s: For `Reply.waited_s`.
            elapsed_s: For `Reply.elapsed_s`.

        Raises:
            StatusError: The stream held an error.
            StreamTruncated: It stopped before its end.
            ResponseError: It is not what the protocol promises.
        """
        found = self._error or self._whole or self._assembled()
        if isinstance(found, ServiceError):
            # Raised here, where no local holds the body: it may echo the key.
            raise found
        return changed(found, attempts=attempts, waited_s=waited_s, elapsed_s=elapsed_s)

    # --- what an event means

    def _read_whole(self) -> list[str]:
        """Read what turned out to be no stream; return its text."""
        raw = RawReply(_OK, self._headers, self._kind.body())
        try:
            self._whole = read_reply(
                raw, now_epoch_s=self._now_epoch_s, scrub=self._scrub, provider=self._provider
            )
        except ServiceError as error:
            self._fail(error.with_traceback(None))
            return []
        return [self._whole.text] if self._whole.text else []

    def _take(self, data: bytes, name: str, pieces: list[str]) -> None:
        """Take an event in; add the text that it brings to *pieces*."""
        chunk = _decoded(self._halves.joined(data))
        if name == "error" or type(chunk) is not dict:
            self._take_odd(data, name, chunk, pieces)
            return
        if chunk.get("usage"):
            self._note_usage(chunk["usage"])
        if not (self._is_named and _USUAL.issuperset(chunk)):
            self._note(data, chunk)
            if self._error is not None:
                return
            if "type" in chunk and self._take_typed(data, chunk, pieces):
                return
        choices = chunk.get("choices")
        if choices:
            try:
                for choice in choices:
                    self._take_choice(choice, pieces)
            except _NO_CHUNK:
                self._fail(self._not_promised("a chunk of its stream is none", data))

    def _take_choice(self, choice: dict[str, Any], pieces: list[str]) -> None:
        index = choice.get("index", 0)
        state = self._choices.get(index) or self._begin(index)
        delta = choice.get("delta")
        if delta is None:
            # A server that only plays at streaming sends the whole message.
            delta = choice.get("message")
        if delta:
            content = delta.get("content")
            if content and len(delta) == 1 and type(content) is str:
                state.pieces.append(content)
            else:
                content = state.take(delta)
            if content and state is self._first:
                pieces.append(content)
        if choice.get("finish_reason") or choice.get("logprobs") or "error" in choice:
            self._take_end(state, choice)

    def _begin(self, index: Any) -> Choice:
        number = index if type(index) is int and index > 0 else 0
        if number not in self._choices:
            self._choices[number] = Choice() if number else self._first
        return self._choices[number]

    def _take_end(self, state: Choice, choice: dict[str, Any]) -> None:
        """Take in what a choice brings beside its delta."""
        error = error_in_choice(choice)
        if error:
            self._fail(self._error_of(jsontext.encode(choice), {"error": error}))
            return
        if choice.get("usage"):
            # Moonshot has it here.
            self._note_usage(choice["usage"])
        state.end(choice)

    def _take_odd(self, data: bytes, name: str, chunk: Any, pieces: list[str]) -> None:
        """Take an event in that is no chunk: the end mark, an error, or garbage."""
        if data.startswith(_DONE):
            self._has_done_mark = True
            self._end(pieces)
        elif name == "error":
            said = chunk if chunk is not None else data.decode("utf-8", "replace")
            body = said if error_in(said) else {"error": said or "an error without a word"}
            self._fail(self._error_of(data, body))
        elif data.strip() and name not in _PINGS:
            self._fail(
                self._error_of(data, chunk)
                if error_in(chunk)
                else self._not_promised("an event of its stream is no JSON object", data)
            )

    def _take_typed(self, data: bytes, chunk: dict[str, Any], pieces: list[str]) -> bool:
        """Take an event of the Responses API in; return whether it is one."""
        kind, text, body = chunk["type"], chunk.get("delta"), chunk.get("response")
        if kind == "error":
            self._fail(self._error_of(data, {"error": chunk}))
        elif not isinstance(kind, str) or not kind.startswith("response."):
            return False
        elif kind == "response.output_text.delta" and isinstance(text, str) and text:
            self._first.pieces.append(text)
            pieces.append(text)
        elif kind in _LAST_TYPES and isinstance(body, dict):
            self._note_usage(usage_of(body.get("usage")))
            self._take_response(data, body, pieces)
        return True

    def _take_response(self, data: bytes, body: dict[str, Any], pieces: list[str]) -> None:
        said = self._first.text
        if error_in(body):
            self._fail(self._error_of(data, body))
            return
        try:
            self._whole = reply_in(body, request_id_of(self._headers, self._scrub))
        except NoAnswerError as exc:
            self._fail(self._not_promised(str(exc), data))
            return
        if self._whole.text != said and self._whole.text.startswith(said):
            pieces.append(self._whole.text[len(said) :])
        self.is_done = True

    def _end(self, pieces: list[str]) -> None:
        if self._lead is not self._first:
            # Only now is it sure that no choice 0 comes.
            pieces += self._lead.pieces
        self.is_done = True

    def _note(self, data: bytes, chunk: dict[str, Any]) -> None:
        """Take in what a chunk says beside its choices and usage."""
        if error_in(chunk):
            # Looked for before the choices: OpenRouter's last chunk has both.
            self._fail(self._error_of(data, chunk))
            return
        if not chunk.get("usage"):
            self._note_usage(usage_in(chunk))
        for key, value in chunk.items():
            # Azure begins with a chunk whose id and model are empty.
            if key not in _OF_ONE_CHUNK and (value or key not in self._top):
                self._top[key] = value
        self._is_named = bool(self._top.get("model"))

    def _note_usage(self, usage: Any) -> None:
        if read_usage(usage) is not None:
            self._usage = usage

    # --- what it comes to

    def _assembled(self) -> Reply | ServiceError:
        choices = sorted(self._choices.items())
        if not (self.have_all_ended or self._has_done_mark):
            return self._truncated()
        body = {**self._top, "object": "chat.completion"}
        body["choices"] = [state.whole(index) for index, state in choices]
        if self._usage is not None:
            body["usage"] = self._usage
        try:
            return reply_in(body, request_id_of(self._headers, self._scrub))
        except NoAnswerError as exc:
            return self._not_promised(str(exc), b"")

    def _truncated(self) -> StreamTruncated:
        request_id = request_id_of(self._headers, self._scrub)
        said = self.partial
        msg = (
            f"The stream of {self._provider} stopped after {len(said):,} characters, before the "
            f"answer was complete (request {request_id})."
        )
        return StreamTruncated(msg, partial=said, request_id=request_id, status=_OK)

    def _not_promised(self, problem: str, data: bytes) -> ResponseError:
        request_id = request_id_of(self._headers, self._scrub)
        msg = f"{self._provider} answered {_OK}, but {problem} (request {request_id})."
        body = excerpt(data, self._scrub)
        return ResponseError(msg, status=_OK, request_id=request_id, body=body)

    def _error_of(self, data: bytes, body: Any) -> ServiceError:
        return status_error(
            RawReply(_OK, self._headers, data),
            body,
            now_epoch_s=self._now_epoch_s,
            scrub=self._scrub,
            provider=self._provider,
        )

    def _fail(self, error: ServiceError) -> None:
        error.partial = self.partial
        error.status = _OK
        error.request_id = error.request_id or request_id_of(self._headers, self._scrub)
        self._error = error
        self.is_done = True


def _decoded(data: bytes) -> Any:
    """Return the JSON in *data*, None if it is none."""
    try:
        return jsontext.decode_mending(data)
    except jsontext.JsonError:
        return None
