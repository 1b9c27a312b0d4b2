"""The body of a chat completions request, read and checked.

Holds: `ChatBody` and the refusals a real provider would send. Does not hold:
counting (counting.py) or what is replied. Pure; safe anywhere.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from lionlite.testing.protocol import error_reply

if TYPE_CHECKING:
    from lionlite.testing.message import HttpReply

DEFAULT_OUTPUT_TOKENS = 16  # room for a reply that the request does not cap
_CAPS = ("max_completion_tokens", "max_tokens")  # the first one given counts


class BadBodyError(Exception):
    """The body is no chat request; `reply` is the 400 that says so."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.reply: HttpReply = error_reply(400, message, param=param)


@attrs.frozen
class ChatBody:
    """A request that can be answered.

    Attributes:
        body: The decoded JSON.
        model: The model asked for.
        messages: At least one.
        output_cap: Tokens of room it asks for the reply: its
            max_completion_tokens, else max_tokens, else 16.
        is_stream: Whether the reply shall be streamed.
        wants_usage: Whether a stream shall end with a chunk of its usage.
    """

    body: dict[str, Any]
    model: str
    messages: list[dict[str, Any]]
    output_cap: int
    is_stream: bool = False
    wants_usage: bool = False


def read_chat(raw: bytes) -> ChatBody:
    """Read the body of a request.

    Raises:
        BadBodyError: It is not strict JSON, lacks a model or messages, caps
            its output by something that is no count, or asks for a stream in
            a way that OpenAI refuses.
    """
    body = _decode(raw)
    model, messages = body.get("model"), body.get("messages")
    if not (isinstance(model, str) and model):
        msg = "you must provide a model parameter"
        raise BadBodyError(msg, param="model")
    if not (isinstance(messages, list) and messages and all(isinstance(m, dict) for m in messages)):
        msg = "'messages' must be a list of at least one message object"
        raise BadBodyError(msg, param="messages")
    is_stream, wants_usage = _stream(body)
    return ChatBody(body, model, messages, _output_cap(body), is_stream, wants_usage)


def _decode(raw: bytes) -> dict[str, Any]:
    try:
        body = _DECODER.decode(raw.decode())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        msg = "We could not parse the JSON body of your request."
        raise BadBodyError(msg)
    return body


def _output_cap(body: dict[str, Any]) -> int:
    for name in _CAPS:
        cap = body.get(name)
        if cap is None:
            continue
        if isinstance(cap, bool) or not isinstance(cap, int) or cap < 1:
            msg = f"'{name}' must be an integer of at least 1"
            raise BadBodyError(msg, param=name)
        return cap
    return DEFAULT_OUTPUT_TOKENS


def _stream(body: dict[str, Any]) -> tuple[bool, bool]:
    """Return whether a stream is asked for, and whether with its usage."""
    is_stream, options = body.get("stream"), body.get("stream_options")
    if not isinstance(is_stream, bool | None):
        msg = "'stream' must be a boolean"
        raise BadBodyError(msg, param="stream")
    if options is None:
        return bool(is_stream), False
    if not is_stream:
        msg = "the 'stream_options' parameter is only allowed when 'stream' is enabled"
        raise BadBodyError(msg, param="stream_options")
    if not isinstance(options, dict) or not isinstance(options.get("include_usage"), bool | None):
        msg = "'stream_options' must be an object, its 'include_usage' a boolean"
        raise BadBodyError(msg, param="stream_options")
    return True, bool(options.get("include_usage"))


def _refuse_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
