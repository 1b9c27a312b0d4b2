"""What a provider answered, as a value; out of a decoded body, and kept as bytes.

Holds: `Reply`, how the body of a chat completion is one, and the form in which
a reply outlives its process. Does not hold: bytes from the wire and what is
wrong with them (wire.py), streams (chunks.py), or whether an answer is good
enough (conversation/). Frozen values and pure functions, safe anywhere.

Source: OpenAI's OpenAPI description; recorded replies of ten providers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from lionlite import jsontext
from lionlite.exceptions import ResponseError
from lionlite.service.responses import completion_of
from lionlite.service.usage import read_cost, read_usage, usage_in
from lionlite.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from lionlite.records import Usage

_NO_SPEECH = frozenset({"thinking", "reasoning"})
"""Parts of a content that the model did not say aloud."""


class Reply(Value, frozen=True):
    """One answer of a model, with what it cost.

    `str(reply)` is the text.

    Attributes:
        text: What the model said; "" if it said nothing.
        model: The model that answered, as the provider names it.
        finish_reason: Why it stopped ("stop", "length", "tool_calls",
            "content_filter", ...), None if the provider does not say.
        usage: The tokens that the provider counted, None if it said nothing.
        cost: In US dollars, None if the provider does not say.
        tool_calls: The tools it asks for, as the provider sent them.
        refusal: Why it refuses, None if it does not.
        reasoning: Its reasoning, None if it shows none.
        request_id: The provider's name for the request.
        attempts: Requests that went out for this answer, >= 1.
        waited_s: Seconds spent waiting for the budget, over all attempts.
        elapsed_s: Seconds from the call to the answer, all waiting included.
        raw: The whole reply, decoded; of a stream, the reply that it would
            have been without streaming.
    """

    text: str
    model: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    cost: float | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    refusal: str | None = None
    reasoning: str | None = None
    request_id: str | None = None
    attempts: int = 1
    waited_s: float = 0.0
    elapsed_s: float = 0.0
    raw: dict[str, Any] = {}  # noqa: RUF012 - each value gets a copy

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__[:-1]]
        return f"Reply({', '.join(shown)})"


class NoAnswerError(Exception):
    """What the protocol promises is missing; never leaves this room."""


def reply_in(
    body: Any,
    request_id: str | None,
    attempts: int = 1,
    waited_s: float = 0.0,
    elapsed_s: float = 0.0,
) -> Reply:
    """Return the answer in a decoded *body* that holds no error.

    Args:
        body: The body of a chat completion, or of a response in the form of
            the Responses API; it is kept as `Reply.raw`.
        request_id: For `Reply.request_id`.
        attempts: For `Reply.attempts`.
        waited_s: For `Reply.waited_s`.
        elapsed_s: For `Reply.elapsed_s`.

    Raises:
        NoAnswerError: It holds no answer.
    """
    if not isinstance(body, dict):
        msg = "the body is not a JSON object"
        raise NoAnswerError(msg)
    said = completion_of(body) if body.get("object") == "response" else body
    choice = _first_choice(said)
    message = choice.get("message")
    if not isinstance(message, dict):
        msg = "the choice has no message"
        raise NoAnswerError(msg)
    # Each call asks no more than it must: this is in the way of every reply.
    get = message.get
    content, refusal = get("content"), get("refusal")
    usage = said.get("usage") or usage_in(said)
    model, reason = body.get("model"), choice.get("finish_reason")
    # By position, in the order of the attributes: keywords cost more.
    return Reply(
        content if type(content) is str else text_of(content),
        model if type(model) is str else "",
        reason if type(reason) is str and reason else None,
        read_usage(usage),
        read_cost(usage) if type(usage) is dict and "cost" in usage else None,
        () if _CALLS.isdisjoint(message) else _tool_calls_of(message),
        refusal if refusal is None else _word(refusal),
        None if _THOUGHTS.isdisjoint(message) else _reasoning_of(message),
        request_id,
        attempts,
        waited_s,
        elapsed_s,
        body,
    )


_CALLS: Final = frozenset({"tool_calls", "function_call"})
_THOUGHTS: Final = frozenset({"reasoning_content", "reasoning"})


def _reasoning_of(message: dict[str, Any]) -> str | None:
    return _word(message.get("reasoning_content")) or _word(message.get("reasoning"))


def _first_choice(body: dict[str, Any]) -> dict[str, Any]:
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    msg = "it holds no choices"
    raise NoAnswerError(msg)


def text_of(content: Any) -> str:
    """Return the text of a message's *content*: None, a text, or a list of parts.

    Raises:
        NoAnswerError: It is none of them.
    """
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join([_text_of_part(part) for part in content])
    msg = "the message's content is neither text nor parts"
    raise NoAnswerError(msg)


def _text_of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type") in _NO_SPEECH:
        return ""
    text = part.get("text")
    return text if isinstance(text, str) else ""


def _tool_calls_of(message: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        return tuple(call for call in calls if isinstance(call, dict))
    # The form before tools, which some servers still answer with; it has no id.
    # Snowflake sends it with every answer, without a name.
    function = message.get("function_call")
    if isinstance(function, dict) and function.get("name"):
        return ({"id": "", "type": "function", "function": function},)
    return ()


def _word(value: Any) -> str | None:
    """Return *value* if it is a text that says something."""
    return value if isinstance(value, str) and value else None


# --- kept as bytes


def reply_to_json(reply: Reply, *, scrub: Callable[[str], str]) -> bytes:
    """Return *reply* as one JSON object, from which `reply_from_json` makes it again.

    Args:
        reply: What `read_reply` or a stream's reader gave.
        scrub: Takes keys out of a text: a provider may have echoed one.

    Raises:
        ResponseError: It holds what JSON cannot say; no reply that was read does.
    """
    kept = {
        "body": reply.raw,
        "request_id": reply.request_id,
        "attempts": reply.attempts,
        "waited_s": reply.waited_s,
        "elapsed_s": reply.elapsed_s,
    }
    try:
        data = jsontext.encode(kept)
        shown = _unescaped(data.decode())
        if scrub(shown) == shown:
            return data
        # A key in it: text by text, because a cut across JSON's own signs would break it.
        return jsontext.encode(_scrubbed(kept, scrub))
    except (jsontext.JsonError, RecursionError) as exc:
        _refuse("cannot be kept", exc)


def reply_from_json(data: bytes) -> Reply:
    """Return the reply that `reply_to_json` made *data* of.

    Raises:
        ResponseError: *data* is nothing that it made.
    """
    try:
        kept = jsontext.decode(data)
        effort = (kept["attempts"], kept["waited_s"], kept["elapsed_s"])
        request_id = kept["request_id"]
        if not (_are_numbers(effort) and isinstance(request_id, (str, type(None)))):
            _refuse("that was kept is not readable", None)
        return reply_in(kept["body"], request_id, *effort)
    except (jsontext.JsonError, NoAnswerError, KeyError, TypeError) as exc:
        _refuse("that was kept is not readable", exc)


def _refuse(problem: str, cause: Exception | None) -> NoReturn:
    msg = f"A reply {problem}: {type(cause).__name__ if cause else 'a wrong type'}."
    raise ResponseError(msg, retryable=False) from None


def _are_numbers(effort: tuple[Any, Any, Any]) -> bool:
    return type(effort[0]) is int and all(type(value) in {int, float} for value in effort)


def _unescaped(text: str) -> str:
    """Return JSON *text* as it reads: a key in it has no escapes then."""
    if "\\" not in text:
        return text
    # Split first: the "n" after an escaped backslash is a letter.
    parts = text.split("\\\\")
    for escaped, plain in (("\\n", "\n"), ("\\t", "\t"), ('\\"', '"')):
        parts = [part.replace(escaped, plain) for part in parts]
    return "\\".join(parts)


def _scrubbed(value: Any, scrub: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return {scrub(key): _scrubbed(inner, scrub) for key, inner in value.items()}
    if isinstance(value, list):
        return [_scrubbed(inner, scrub) for inner in value]
    return value
