"""OpenAI's chat completions as a server says them: bodies and headers.

Holds: completions, errors, 429s, the list of models, rate-limit headers. Does
not hold: the decision which of them is sent (endpoint.py). Pure.
Source: OpenAI's OpenAPI description and recorded exchanges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lionlite.testing.message import HttpReply, json_reply

if TYPE_CHECKING:
    from lionlite.testing.gate import Dimension, Headroom, Refusal

_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}
_UNITS = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}
_CREATED = 1_700_000_000  # a fixed date: equal runs give equal replies
_MS = 1000
_FIRST_SERVER_ERROR = 500


def as_message(reply: str | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the assistant message that *reply* stands for.

    A text is its content. A mapping with `choices` is a whole body; its first
    choice's message counts, an empty one when there is none.
    """
    if isinstance(reply, str):
        return {"role": "assistant", "content": reply}
    if "choices" not in reply:
        return {"role": "assistant", **reply}
    try:
        message = reply["choices"][0]["message"]
    except (LookupError, TypeError):
        return {}
    return message if isinstance(message, Mapping) else {}


def completion(
    reply: str | Mapping[str, Any], *, number: int, model: str, usage: tuple[int, int]
) -> dict[str, Any]:
    """Return the body of a chat completion.

    Args:
        reply: The text, the message, or the parts of a body that differ.
        number: Which reply of this provider it is; makes the id.
        model: The model that was asked for.
        usage: Input and output tokens.
    """
    message = as_message(reply)
    body: dict[str, Any] = {
        "id": f"chatcmpl-{number:08d}",
        "object": "chat.completion",
        "created": _CREATED + number,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": dict(message),
                "logprobs": None,
                "finish_reason": "tool_calls" if message.get("tool_calls") else "stop",
            }
        ],
        "usage": {
            "prompt_tokens": usage[0],
            "completion_tokens": usage[1],
            "total_tokens": sum(usage),
        },
    }
    if not isinstance(reply, str) and "choices" in reply:
        body.update(reply)
    return body


def error_body(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """Return an error as OpenAI words it: message, type, param and code."""
    kind = "server_error" if status >= _FIRST_SERVER_ERROR else "invalid_request_error"
    return {
        "error": {
            "message": message,
            "type": kind,
            "param": param,
            "code": code or _CODES.get(status),
        }
    }


def error_reply(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> HttpReply:
    """Return `error_body` as a reply."""
    return json_reply(error_body(status, message, param=param, code=code), status=status)


def refusal_reply(refusal: Refusal, *, model: str) -> HttpReply:
    """Return the 429 for *refusal*, with the wait in its headers.

    A request above the limit itself gets no Retry-After: no wait cures it.
    """
    where = f"for {model} in organization org-fake on {_UNITS[refusal.dimension]}"
    facts = f"Limit {refusal.limit}, Used {refusal.used}, Requested {refusal.requested}."
    headers: dict[str, str] = {}
    if math.isinf(refusal.wait_s):
        message = f"Request too large {where}: {facts} It must be reduced to fit."
    else:
        message = (
            f"Rate limit reached {where}: {facts} "
            f"Please try again in {go_duration(refusal.wait_s)}."
        )
        headers = {
            "retry-after": str(math.ceil(refusal.wait_s)),
            # Rounded up to the microsecond: a client that waits exactly this
            # long must not come too early.
            "retry-after-ms": f"{math.ceil(refusal.wait_s * 1e6) / 1e3:.3f}",
        }
    body = error_body(429, message)
    body["error"]["type"] = refusal.dimension
    return json_reply(body, status=429, headers=headers)


def unauthorized_reply(*, key_given: bool) -> HttpReply:
    """Return the 401. It never repeats the key, unlike some real ones."""
    if key_given:
        return error_reply(401, "Incorrect API key provided.")
    return error_reply(401, "You didn't provide an API key: send 'Authorization: Bearer ...'.")


def models_reply(model: str) -> HttpReply:
    """Return the list of the one model there is."""
    entry = {"id": model, "object": "model", "created": _CREATED, "owned_by": "lionlite"}
    return json_reply({"object": "list", "data": [entry]})


def rate_limit_headers(headroom: Mapping[Dimension, Headroom]) -> dict[str, str]:
    """Return the x-ratelimit-* headers of every limited dimension."""
    headers: dict[str, str] = {}
    for name, room in headroom.items():
        headers[f"x-ratelimit-limit-{name}"] = str(room.limit)
        headers[f"x-ratelimit-remaining-{name}"] = str(room.remaining)
        headers[f"x-ratelimit-reset-{name}"] = go_duration(room.reset_s)
    return headers


def go_duration(seconds: float) -> str:
    """Return *seconds* as OpenAI writes a wait: "120ms", "12.967s", "6m0s".

    Rounded up to the millisecond.
    """
    ms = math.ceil(seconds * _MS)
    if 0 < ms < _MS:
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60 * _MS)
    hours, minutes = divmod(minutes, 60)
    text = f"{ms / _MS:g}s" if ms % _MS else f"{ms // _MS}s"
    if minutes or hours:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text
