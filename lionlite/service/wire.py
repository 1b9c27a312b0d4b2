"""The chat-completions protocol: the body of a request, and reading a reply.

Holds: what goes into the JSON body, and a tolerant reader: the error is looked
for first, at any status; unknown keys are kept in `raw`; nothing that is not
an answer passes for one. Does not hold: HTTP, retries, conversations. Pure
functions, safe anywhere.

Source: OpenAI's OpenAPI description; 355 recorded exchanges of ten providers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lionlite import jsontext
from lionlite.exceptions import (
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExhausted,
    RateLimitError,
    ResponseError,
    ServerError,
    StatusError,
)
from lionlite.limits.headers import retry_after_s
from lionlite.records import Usage
from lionlite.service.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lionlite.service.transport.parse import RawReply

MAX_EXCERPT_CHARS = 500

MAX_SCRUBBED_BYTES = 64 * 1024
"""Scrubbed before it is cut: half a key is no longer recognised."""

_BY_STATUS: dict[int, type[StatusError]] = {
    401: AuthenticationError,
    402: QuotaExhausted,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: ServerError,
    429: RateLimitError,
}

_NO_CREDIT = frozenset(
    {
        "billing_hard_limit_reached",
        "credit_balance_exhausted",
        "insufficient_credits",
        "insufficient_quota",
        "payment_required",
        "spend_limit_exceeded",
        "usage_limit_exceeded",
    }
)

# For an error in a body whose status says 200.
_STATUS_OF_CODE = {
    "authentication_error": 401,
    "context_length_exceeded": 400,
    "invalid_api_key": 401,
    "invalid_request_error": 400,
    "model_not_found": 404,
    "overloaded_error": 503,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "slow_down": 429,
}

_RETRIED_STATUSES = frozenset({408, 409, 429})
_OK = range(200, 300)
_REDIRECT = range(300, 400)
_ERROR = range(400, 600)
_SERVER_FAULT = 500


def read_reply(
    raw: RawReply, *, now_epoch_s: float, scrub: Callable[[str], str], provider: str
) -> Reply:
    """Return the answer in *raw*, or raise what it is instead.

    Args:
        raw: The reply as it came.
        now_epoch_s: Wall-clock time in seconds, for Retry-After dates.
        scrub: Takes keys out of a text that will be shown.
        provider: Its name, for messages.

    Raises:
        StatusError: It says no, at whatever status.
        ResponseError: It is no JSON, or not what the protocol promises.
    """
    found = _read(raw, now_epoch_s=now_epoch_s, scrub=scrub, provider=provider)
    if isinstance(found, Reply):
        return found
    # Raised here, where no local holds the body: it may echo the key.
    raise found


def _read(
    raw: RawReply, *, now_epoch_s: float, scrub: Callable[[str], str], provider: str
) -> Reply | StatusError | ResponseError:
    """Return the answer in *raw*, or the error that it is."""
    body = _decoded(raw)
    request_id = _request_id(raw.headers, scrub)
    if raw.status not in _OK or _error_in(body):
        return _status_error(raw, body, now_epoch_s=now_epoch_s, scrub=scrub, provider=provider)
    try:
        return _answer(body, request_id)
    except _NoAnswerError as exc:
        msg = f"{provider} answered {raw.status}, but {exc} (request {request_id})."
        return ResponseError(
            msg, status=raw.status, request_id=request_id, body=_excerpt(raw, scrub)
        )


class _NoAnswerError(Exception):
    """What the protocol promises is missing; never leaves this module."""


def _error_in(body: Any) -> Any:
    """Return the error in *body*: OpenRouter may put it into the choice."""
    if not isinstance(body, dict):
        return None
    choices = body.get("choices")
    if not body.get("error") and isinstance(choices, list) and choices:
        return choices[0].get("error") if isinstance(choices[0], dict) else None
    return body.get("error")


def _decoded(raw: RawReply) -> Any:
    """Return the body's JSON, None if it has none."""
    try:
        return jsontext.decode(raw.body)
    except jsontext.JsonError:
        return None


def _answer(body: Any, request_id: str | None) -> Reply:
    if not isinstance(body, dict):
        msg = "the body is not a JSON object"
        raise _NoAnswerError(msg)
    choice = _first_choice(body)
    message = choice.get("message")
    if not isinstance(message, dict):
        msg = "the choice has no message"
        raise _NoAnswerError(msg)
    usage = body.get("usage")
    return Reply(
        text=_text_of(message.get("content")),
        model=_str_or(body.get("model"), ""),
        finish_reason=_str_or(choice.get("finish_reason"), None) or None,
        usage=read_usage(usage),
        cost=_cost_of(usage),
        tool_calls=_tool_calls_of(message),
        refusal=_str_or(message.get("refusal"), None) or None,
        reasoning=_str_or(message.get("reasoning_content") or message.get("reasoning"), None),
        request_id=request_id,
        raw=body,
    )


def _first_choice(body: dict[str, Any]) -> dict[str, Any]:
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    msg = "it holds no choices"
    raise _NoAnswerError(msg)


def _text_of(content: Any) -> str:
    """Return the text of *content*: None, a text, or a list of parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text_of_part(part) for part in content)
    msg = "the message's content is neither text nor parts"
    raise _NoAnswerError(msg)


def _text_of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""


def _tool_calls_of(message: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return ()
    return tuple(call for call in calls if isinstance(call, dict))


def read_usage(usage: Any) -> Usage | None:
    """Return the counts in *usage*, None if it holds none that can be true."""
    if not isinstance(usage, dict):
        return None
    sent, received = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    total = _count(usage, "total_tokens")
    if sent is None and received is None and total is None:
        return None
    if sent is None:
        sent = max((total or 0) - (received or 0), 0)
    if received is None:
        received = max((total or 0) - sent, 0)
    return Usage(
        input_tokens=sent,
        output_tokens=received,
        cached_tokens=_detail(usage, "prompt_tokens_details", "cached_tokens"),
        reasoning_tokens=_detail(usage, "completion_tokens_details", "reasoning_tokens"),
    )


MAX_TOKENS_BELIEVED = 1_000_000_000
"""A count above it is a server's mistake: it would block a budget for good."""


def _count(usage: dict[str, Any], key: str) -> int | None:
    value = usage.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS_BELIEVED:
        return value
    return None


def _detail(usage: dict[str, Any], group: str, key: str) -> int:
    details = usage.get(group)
    return (_count(details, key) or 0) if isinstance(details, dict) else 0


def _cost_of(usage: Any) -> float | None:
    cost = usage.get("cost") if isinstance(usage, dict) else None
    if isinstance(cost, (int, float)) and not isinstance(cost, bool) and cost >= 0:
        return float(cost)
    return None


def _str_or(value: Any, default: Any) -> Any:
    return value if isinstance(value, str) else default


def _request_id(headers: Mapping[str, str], scrub: Callable[[str], str]) -> str | None:
    for name in ("x-request-id", "x-generation-id", "request-id", "apim-request-id"):
        if headers.get(name):
            return scrub(headers[name])[:200]
    return None


def _excerpt(raw: RawReply, scrub: Callable[[str], str]) -> str:
    return scrub(_beginning(raw))[:MAX_EXCERPT_CHARS]


def _beginning(raw: RawReply) -> str:
    return raw.body[:MAX_SCRUBBED_BYTES].decode("utf-8", "replace")


def _status_error(
    raw: RawReply,
    body: Any,
    *,
    now_epoch_s: float,
    scrub: Callable[[str], str],
    provider: str,
) -> StatusError:
    """Return the error that *raw* is."""
    error = _error_in(body)
    # Mistral puts code and type beside the message, without an envelope.
    named = error if isinstance(error, dict) else body
    code, kind = _code_of(named, "code"), _code_of(named, "type")
    status = raw.status if raw.status not in _OK else _status_of(code, kind)
    wait_s = retry_after_s(raw.headers, now_epoch_s=now_epoch_s)
    error_class = _class_for(status, {code, kind}, wait_s)
    retryable = _is_retryable(error_class, status, raw.headers, wait_s)
    request_id = _request_id(raw.headers, scrub)
    said = scrub(_message_of(body, raw))[:MAX_EXCERPT_CHARS]
    return error_class(
        f"{provider} answered {raw.status} (request {request_id}): {said}{_cure(error_class)}",
        retryable=retryable,
        fatal=error_class.fatal and not retryable,
        retry_after_s=wait_s,
        request_id=request_id,
        status=raw.status,
        code=None if code is None else scrub(code),
        body=_excerpt(raw, scrub),
    )


def _code_of(error: Any, key: str) -> str | None:
    value = error.get(key) if isinstance(error, dict) else None
    return str(value)[:100] if isinstance(value, (str, int)) else None


def _status_of(code: str | None, kind: str | None) -> int:
    """Return the status that an error in a 2xx body should have had."""
    for name in (code, kind):
        if name is None:
            continue
        if name.isdecimal() and int(name) in _ERROR:
            return int(name)
        if name in _STATUS_OF_CODE:
            return _STATUS_OF_CODE[name]
        if name in _NO_CREDIT:
            return 402
    return _SERVER_FAULT


def _class_for(
    status: int, names: set[str | None], wait_s: float | None
) -> type[StatusError]:
    if status == 402 and wait_s is not None:  # noqa: PLR2004
        # OpenRouter: credit is held by calls in flight, and comes back.
        return RateLimitError
    if status == 429 and names & _NO_CREDIT:  # noqa: PLR2004
        return QuotaExhausted
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return ServerError if status >= _SERVER_FAULT else BadRequestError


def _is_retryable(
    error_class: type[StatusError],
    status: int,
    headers: Mapping[str, str],
    wait_s: float | None,
) -> bool:
    if error_class is QuotaExhausted:
        return False
    wish = headers.get("x-should-retry")
    if wish in {"true", "false"}:
        return wish == "true"
    if status == 402:  # noqa: PLR2004
        return wait_s is not None
    return status in _RETRIED_STATUSES or status >= _SERVER_FAULT


def _message_of(body: Any, raw: RawReply) -> str:
    """Return what the provider said, from wherever it put it."""
    if raw.status in _REDIRECT:
        return "a redirect, which is not followed"
    error = _error_in(body)
    for place in (error, body):
        if isinstance(place, str) and place.strip():
            return place
        for key in ("message", "detail"):
            said = place.get(key) if isinstance(place, dict) else None
            if said:
                return said if isinstance(said, str) else jsontext.encode(said).decode()
    return _beginning(raw).strip() or "nothing"


_CURES: dict[type[StatusError], str] = {
    AuthenticationError: " Check the API key.",
    NotFoundError: " Check model= and base_url=.",
    QuotaExhausted: " The account has no credit; retrying cannot help.",
    RateLimitError: " Lower max_requests or max_tokens, or give the call more time.",
}


def _cure(error_class: type[StatusError]) -> str:
    return _CURES.get(error_class, "")
