"""One request, checked and encoded, before the budget is asked for it.

Holds: the rules for parameters, and the body. Does not hold: sending. All that
a caller can get wrong is found here. Values, safe to share between threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lionlite import jsontext
from lionlite.arguments import nearest
from lionlite.display import shown
from lionlite.exceptions import ConfigError
from lionlite.service.providers import MAX_COMPLETION_TOKENS, MAX_TOKENS, Provider
from lionlite.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

_CAPS = frozenset({MAX_TOKENS, MAX_COMPLETION_TOKENS})

_REFUSED = {
    "messages": "the messages are the session's: pass Session(messages=...)",
    "stream": "call stream() for an answer in pieces",
    "stream_options": "it goes with stream(), as extra_body={'stream_options': ...}",
}


class Request(Value, frozen=True):
    """What goes to the provider.

    Attributes:
        model: The model asked for.
        messages: As they go on the wire.
        body: The JSON, encoded; not shown.
        cap: The most tokens that one answer may have, None if nothing says so.
        answers: How many answers are asked for.
        tools: The tools as JSON text, "" if there are none.
        headers: Extra headers of this call.
        fields: What is asked, decoded; not how the answer is to be sent.
    """

    model: str
    messages: Sequence[Mapping[str, Any]]
    body: bytes
    cap: int | None = None
    answers: int = 1
    tools: str = ""
    headers: Mapping[str, str] = {}
    fields: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        # Not what is said: it is the user's.
        return f"<Request to {self.model}, {len(self.body)} bytes>"


def build_request(
    provider: Provider,
    messages: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    *,
    extra_body: Mapping[str, Any] | None,
    headers: Mapping[str, str],
    is_stream: bool = False,
) -> Request:
    """Return the request for *messages* with the parameters *params*.

    Args:
        provider: Whose parameter names and rules apply.
        messages: At least one, as they go on the wire.
        params: The merged llmconfig, with "model"; None values are left out.
        extra_body: Keys that go into the body unchecked, last.
        headers: Extra headers, checked.
        is_stream: Whether the answer is to come in pieces.

    Raises:
        ConfigError: No model, an unknown parameter, a value that is no JSON.
    """
    messages = _checked_messages(messages)
    given = {key: value for key, value in params.items() if value is not None}
    model = _checked_model(given.pop("model", None), provider)
    body: dict[str, Any] = {"model": model, "messages": messages}
    if given:
        _check_names(given, provider)
        body.update(_plain(_renamed_cap(given, provider), "llmconfig"))
    if extra_body is not None:
        body.update(_plain(_checked_extra(extra_body), "extra_body"))
    options = body.pop("stream_options", provider.stream_options if is_stream else None)
    return Request(
        model=model,
        messages=messages,
        body=_encoded(_streamed(body, options) if is_stream else body),
        cap=_cap_of(body),
        answers=_count(body.get("n"), 1),
        tools=_encoded(body["tools"]).decode() if body.get("tools") else "",
        headers=headers,
        fields=body,
    )


def _streamed(body: dict[str, Any], options: Any) -> dict[str, Any]:
    """Return *body* asking for an answer in pieces."""
    if options is None:
        return {**body, "stream": True}
    return {**body, "stream": True, "stream_options": options}


def _checked_messages(messages: Any) -> Any:
    """Return *messages* as JSON can say them."""
    is_plain = True
    if isinstance(messages, (list, tuple)) and len(messages) > 0:
        for message in messages:
            if not isinstance(message, dict):
                break
            for value in message.values():
                # Texts, as nearly all are, need no look inside.
                is_plain = is_plain and type(value) is str
        else:
            return messages if is_plain else _plain(messages, "messages")
    msg = (
        f"send() takes a list of at least one message, such as "
        f"{{'role': 'user', 'content': 'Hello'}}; got {shown(messages)}."
    )
    raise ConfigError(msg)


def _checked_model(model: Any, provider: Provider) -> str:
    if isinstance(model, str) and model.strip():
        return model
    if model is None:
        msg = f"No model for {provider.name}: pass model=..., or llmconfig={{'model': ...}}."
    else:
        msg = f"model= takes a name such as 'gpt-4o-mini'; got {shown(model)}."
    raise ConfigError(msg)


def _checked_extra(extra_body: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(extra_body, Mapping):
        msg = f"extra_body= takes a dict of keys for the request's body; got {shown(extra_body)}."
        raise ConfigError(msg)
    if "stream" in extra_body:
        msg = f"extra_body= has no place for 'stream': {_REFUSED['stream']}."
        raise ConfigError(msg)
    return extra_body


def _check_names(given: Mapping[str, Any], provider: Provider) -> None:
    for name in given:
        if name in _REFUSED:
            msg = f"llmconfig has no place for {name!r}: {_REFUSED[name]}."
            raise ConfigError(msg)
        known = provider.parameters
        if known is not None and name not in known and name not in _CAPS:
            msg = (
                f"{provider.name} has no parameter {name!r}: {nearest(name, known | {'model'})} "
                f"A new one goes through extra_body={{...}}."
            )
            raise ConfigError(msg)


def _renamed_cap(given: dict[str, Any], provider: Provider) -> dict[str, Any]:
    """Return *given* with the cap on one answer under the provider's name."""
    caps = [name for name in _CAPS if name in given]
    if len(caps) > 1:
        msg = "llmconfig has both max_tokens and max_completion_tokens, the same thing: pass one."
        raise ConfigError(msg)
    if not caps:
        return given
    cap = given.pop(caps[0])
    if not isinstance(cap, int) or isinstance(cap, bool) or cap < 1:
        msg = f"llmconfig {caps[0]} takes a number of tokens >= 1; got {shown(cap)}."
        raise ConfigError(msg)
    given[provider.max_tokens_name] = cap
    return given


def _cap_of(body: Mapping[str, Any]) -> int | None:
    """Return the cap on one answer, if the body has one that can be true."""
    if _CAPS.isdisjoint(body):
        return None
    caps = [_count(body.get(name), 0) for name in _CAPS if name in body]
    return max(caps) if caps and all(caps) else None


def _count(value: Any, default: int) -> int:
    """Return *value* if it is a count; what is none, the provider will refuse."""
    return value if isinstance(value, int) and value > 0 else default


def _plain(values: Any, name: str) -> Any:
    try:
        return jsontext.plain(values, name=name)
    except jsontext.JsonError as exc:
        msg = f"{exc}."
        raise ConfigError(msg) from exc


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return jsontext.encode(body)
    except jsontext.JsonError as exc:
        msg = f"The request is not JSON: {exc}."
        raise ConfigError(msg) from exc
