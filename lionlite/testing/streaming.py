"""A chat completion in pieces: the events that a provider streams.

Holds: `FakeStream`, the pieces of a reply, and their server-sent events as
OpenAI sends them. Does not hold: when they go out and who still listens
(endpoint.py, server.py). Pure and frozen, so safe to share between threads.
Source: OpenAI's OpenAPI description and recorded streams.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from lionlite.exceptions import ConfigError
from lionlite.testing.protocol import as_message, completion
from lionlite.testing.settings import check_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

# A word of at most 8 characters and the white space before it: about as much
# as a token. Nothing of a text is lost between the pieces.
_PIECE = re.compile(r"\s*\S{1,8}|\s+")
_PIECED = ("reasoning_content", "reasoning", "content", "refusal")
DONE = b"data: [DONE]\n\n"


def _pieces(value: object) -> tuple[str, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        pieces = tuple(value)
        if pieces and all(isinstance(piece, str) for piece in pieces):
            return pieces
    msg = f"pieces is {value!r:.60}: give a list of at least one text, such as ['Hel', 'lo']."
    raise ConfigError(msg)


def _delay(value: float | None) -> float | None:
    return None if value is None else check_seconds("delay_s", value)


@attrs.frozen
class FakeStream:
    """A text whose pieces a test chooses, to be given wherever a reply is.

    A request that asks for no stream gets all pieces as one text.

    Args:
        pieces: Texts, at least one; "" is a piece too.
        delay_s: Seconds between two pieces; None = the provider's own.

    Raises:
        ConfigError: *pieces* are no texts, or *delay_s* is no length of time.
    """

    pieces: Sequence[str] = attrs.field(converter=_pieces)
    delay_s: float | None = attrs.field(default=None, converter=_delay)

    @property
    def text(self) -> str:
        """All pieces together."""
        return "".join(self.pieces)


@attrs.frozen
class StreamEvent:
    """One server-sent event.

    Attributes:
        data: Its bytes, the blank line included.
        piece: What it adds to the reply's content; "" for a piece of
            reasoning or of a tool call; None for an event that adds nothing.
    """

    data: bytes
    piece: str | None = None


def sse(data: object) -> bytes:
    """Return *data* as the JSON of one server-sent event."""
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def split(text: str) -> tuple[str, ...]:
    """Return *text* in pieces of a word or 8 characters; together they are *text*."""
    return tuple(_PIECE.findall(text))


def stream_events(
    reply: str | Mapping[str, Any],
    *,
    number: int,
    model: str,
    usage: tuple[int, int],
    wants_usage: bool,
    pieces: Sequence[str] | None = None,
) -> list[StreamEvent]:
    """Return the events of a reply: the role, its pieces, their end, usage, [DONE].

    Args:
        reply: The text, the message, or the parts of a body that differ.
        number: Which reply of this provider it is; makes the id.
        model: The model that was asked for.
        usage: Input and output tokens.
        wants_usage: Whether to tell them, in a chunk without choices.
        pieces: The content's own pieces; None = it is split by words.
    """
    body = completion(reply, number=number, model=model, usage=usage)
    told = {"usage": None} if wants_usage else {}
    chunk = {
        **{key: value for key, value in body.items() if key not in {"choices", "usage"}},
        "object": "chat.completion.chunk",
        **told,
    }
    events = [
        StreamEvent(sse({**chunk, "choices": choices}), piece)
        for choices, piece in _choices_of(body, as_message(reply), pieces)
    ]
    if wants_usage:
        events.append(StreamEvent(sse({**chunk, "choices": [], "usage": body["usage"]})))
    return [*events, StreamEvent(DONE)]


def _choices_of(
    body: Mapping[str, Any], message: Mapping[str, Any], pieces: Sequence[str] | None
) -> Iterator[tuple[Any, str | None]]:
    """Yield the choices of each chunk, and what it adds to the content."""
    if not message:  # a body whose choices are broken on purpose
        yield body["choices"], None
        return
    for delta, piece in _deltas(message, pieces):
        yield [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}], piece
    reason = body["choices"][0].get("finish_reason")
    yield [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason}], None


def _deltas(
    message: Mapping[str, Any], pieces: Sequence[str] | None
) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Yield what each chunk says of *message*, its role first."""
    texts = {key: message[key] for key in _PIECED if isinstance(message.get(key), str)}
    rest = {key: value for key, value in message.items() if key not in {*texts, "tool_calls"}}
    yield {"role": "assistant", "content": "" if "content" in texts else None, **rest}, None
    for key, text in texts.items():
        parts = pieces if key == "content" and pieces is not None else split(text)
        for part in parts:
            yield {key: part}, part if key == "content" else ""
    for index, call in enumerate(message.get("tool_calls") or ()):
        yield from ((delta, "") for delta in _call_deltas(index, call))


def _call_deltas(index: int, call: Any) -> Iterator[dict[str, Any]]:
    """Yield a tool call: id and name first, then its arguments in pieces."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        yield {"tool_calls": [call]}  # scripted to be odd: it goes out as it is
        return
    first = {**call, "index": index, "function": {**function, "arguments": ""}}
    yield {"tool_calls": [first]}
    for part in split(function["arguments"]):
        yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}
