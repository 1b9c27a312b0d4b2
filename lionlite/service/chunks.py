"""A streamed reply: its bytes in, pieces of text out, the whole reply at the end.

Holds: what each event of a stream means, and whether the stream is complete.
Does not hold: the cutting into events (sse.py), the merging of deltas
(deltas.py), reading a reply that is whole (wire.py), sockets, time. One reader
belongs to one stream of one thread.

Source: OpenAI's OpenAPI description; recorded streams of six providers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from lionlite import jsontext
from lionlite.exceptions import (
    ResponseError,
    ResponseTooLarge,
    ServiceError,
    StreamTruncated,
)
from lionlite.service.deltas import Choice
from lionlite.service.reply import NoAnswerError, reply_in
from lionlite.service.sse import EventReader
from lionlite.service.status import (
    error_in,
    error_in_choice,
    excerpt,
    request_id_of,
    status_error,
)
from lionlite.service.transport.parse import MAX_BODY_BYTES, RawReply
from lionlite.service.usage import read_usage, usage_in
from lionlite.service.wire import read_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lionlite.records import Usage
    from lionlite.service.reply import Reply

_OK: Final = 200
_DONE: Final = b"[DONE]"
_BOM: Final = b"\xef\xbb\xbf"

_FIELDS: Final = (b":", b"data:", b"event:", b"id:", b"retry:")
_LONGEST_FIELD: Final = 6

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
    ) -> None:
        self.is_done = False
        self._headers = headers
        self._now_epoch_s = now_epoch_s
        self._scrub = scrub
        self._provider = provider
        self._events = EventReader()
        self._is_sse: bool | None = None
        self._held: list[bytes] = []  # until it is known what the bytes are, or all, if no events
        self._held_bytes = 0
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
    def _lead(self) -> Choice:
        """The choice whose text this is: number 0, or the lowest there is."""
        return self._first if not self._choices else self._choices[min(self._choices)]

    def feed(self, data: bytes) -> list[str]:
        """Return the pieces of text in *data*, in order; nothing once `is_done`."""
        pieces: list[str] = []
        if self.is_done:
            return pieces
        if not self._is_sse:
            data = self._told_apart(data)
            if not data:
                return pieces
        try:
            events = self._events.feed(data)
        except ResponseTooLarge as error:
            self._fail(error)
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
        if self._is_sse is None:
            self._is_sse = _looks_like_events(b"".join(self._held), self._headers)
        if not self._is_sse:
            self.is_done = True
            return self._read_whole()
        pieces: list[str] = []
        data, name = self._events.feed_end() or (b"", "")
        # The last event may lack its blank line; if it is no JSON, it was cut.
        if data.startswith(_DONE) or _decoded(data) is not None:
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
        return attrs.evolve(found, attempts=attempts, waited_s=waited_s, elapsed_s=elapsed_s)

    # --- what the bytes are

    def _told_apart(self, data: bytes) -> bytes:
        """Find out what the bytes are; return the events not looked at yet."""
        self._hold(data)
        if self._is_sse is None:
            head = b"".join(self._held)
            if len(head.removeprefix(_BOM).lstrip()) >= _LONGEST_FIELD:
                self._is_sse = _looks_like_events(head, self._headers)
            if self._is_sse:
                self._held.clear()
                return head
        return b""

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > MAX_BODY_BYTES:
            msg = f"The reply's body is longer than {MAX_BODY_BYTES:,} bytes."
            self._fail(ResponseTooLarge(msg))

    def _read_whole(self) -> list[str]:
        """Read what turned out to be no stream; return its text."""
        raw = RawReply(_OK, self._headers, b"".join(self._held))
        try:
            self._whole = read_reply(
                raw, now_epoch_s=self._now_epoch_s, scrub=self._scrub, provider=self._provider
            )
        except ServiceError as error:
            # Without its traceback, whose frames hold the body.
            self._fail(error.with_traceback(None))
            return []
        return [self._whole.text] if self._whole.text else []

    # --- what an event means

    def _take(self, data: bytes, name: str, pieces: list[str]) -> None:
        """Take an event in; add the text that it brings to *pieces*."""
        try:
            chunk = jsontext.decode(data)
        except jsontext.JsonError:
            chunk = None
        if name == "error" or type(chunk) is not dict:
            self._take_odd(data, name, chunk, pieces)
            return
        if chunk.get("usage"):
            self._note_usage(chunk["usage"])
        if not (self._is_named and _USUAL.issuperset(chunk)):
            self._note(data, chunk)
            if self._error is not None:
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
        is_whole = bool(choices) and all(state.finish_reason for _, state in choices)
        if not (is_whole or self._has_done_mark):
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
        self._error = error
        self.is_done = True


def _decoded(data: bytes) -> Any:
    """Return the JSON in *data*, None if it is none."""
    try:
        return jsontext.decode(data)
    except jsontext.JsonError:
        return None


def _looks_like_events(head: bytes, headers: Mapping[str, str]) -> bool:
    """Whether a body that begins with *head* is a stream of events."""
    head = head.removeprefix(_BOM).lstrip()
    if head.startswith(_FIELDS):
        return True
    is_named_so = "event-stream" in headers.get("content-type", "").lower()
    return is_named_so and not head.startswith((b"{", b"[", b"<", b'"'))
