"""What a provider's "no" means: the typed error that a reply is.

Holds: where providers put an error, at whatever status, and which class,
message and retry follow from it. Does not hold: answers (wire.py), or the
decision whether to retry (retry.py). Pure functions, safe anywhere.

Source: recorded errors of OpenAI, OpenRouter, Groq, Mistral, Gemini, vLLM and
LM Studio; OpenAI's OpenAPI description says of them only the envelope.
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
    ServerError,
    StatusError,
)
from lionlite.limits.headers import retry_after_s

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

_REQUEST_ID_NAMES = ("x-request-id", "x-generation-id", "request-id", "apim-request-id")


def error_in(body: Any) -> Any:
    """Return the error in *body*, something false if it holds none.

    It is a dict, a text or a list, wherever a provider puts it: under "error",
    in the choice (OpenRouter), around everything (vLLM, Mistral: "object" is
    "error"), or in a list (Gemini).
    """
    if not isinstance(body, dict):
        is_wrapped = isinstance(body, list) and body and isinstance(body[0], dict)
        return error_in(body[0]) if is_wrapped else None
    if body.get("error"):
        return body["error"]
    if body.get("object") == "error":
        return body
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return error_in_choice(choices[0])
    return None


def error_in_choice(choice: dict[str, Any]) -> Any:
    """Return the error in a choice, something false if it holds none."""
    error = choice.get("error")
    if not error and choice.get("finish_reason") == "error":
        return "the answer broke off with an error"
    return error


def status_error(
    raw: RawReply,
    body: Any,
    *,
    now_epoch_s: float,
    scrub: Callable[[str], str],
    provider: str,
) -> StatusError:
    """Return the error that *raw* is.

    Args:
        raw: The reply as it came.
        body: Its body, decoded; None if it is no JSON.
        now_epoch_s: Wall-clock time in seconds, for Retry-After dates.
        scrub: Takes keys out of a text that will be shown.
        provider: Its name, for messages.
    """
    error = error_in(body)
    # Mistral puts code and type beside the message, without an envelope.
    named = error if isinstance(error, dict) else body
    code, kind = _code_of(named, "code"), _code_of(named, "type")
    status = raw.status if raw.status not in _OK else _status_of(code, kind)
    wait_s = retry_after_s(raw.headers, now_epoch_s=now_epoch_s)
    error_class = _class_for(status, {code, kind}, wait_s)
    retryable = _is_retryable(error_class, status, raw.headers, wait_s)
    request_id = request_id_of(raw.headers, scrub)
    said = scrub(_message_of(body, raw))[:MAX_EXCERPT_CHARS]
    return error_class(
        f"{provider} answered {raw.status} (request {request_id}): {said}{_cure(error_class)}",
        retryable=retryable,
        fatal=error_class.fatal and not retryable,
        retry_after_s=wait_s,
        request_id=request_id,
        status=raw.status,
        code=None if code is None else scrub(code),
        body=excerpt(raw.body, scrub),
    )


def request_id_of(headers: Mapping[str, str], scrub: Callable[[str], str]) -> str | None:
    """Return the provider's name for the request, None if it gives none."""
    for name in _REQUEST_ID_NAMES:
        value = headers.get(name)
        if value:
            return scrub(value)[:200]
    return None


def excerpt(body: bytes, scrub: Callable[[str], str]) -> str:
    """Return the beginning of *body* as it may be shown."""
    return scrub(_beginning(body))[:MAX_EXCERPT_CHARS]


def _beginning(body: bytes) -> str:
    return body[:MAX_SCRUBBED_BYTES].decode("utf-8", "replace")


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


def _class_for(status: int, names: set[str | None], wait_s: float | None) -> type[StatusError]:
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
    for place in (error_in(body), body):
        if isinstance(place, str) and place.strip():
            return place
        for key in ("message", "detail"):
            said = place.get(key) if isinstance(place, dict) else None
            if said:
                return said if isinstance(said, str) else _in_words(said, raw)
    return _beginning(raw.body).strip() or "nothing"


def _in_words(said: Any, raw: RawReply) -> str:
    try:
        return jsontext.encode(said).decode()
    except jsontext.JsonError:
        # It was nested as deep as could be read; a frame deeper it cannot be written.
        return _beginning(raw.body)


_CURES: dict[type[StatusError], str] = {
    AuthenticationError: " Check the API key.",
    NotFoundError: " Check model= and base_url=.",
    QuotaExhausted: " The account has no credit; retrying cannot help.",
    RateLimitError: " Lower max_requests or max_tokens, or give the call more time.",
}


def _cure(error_class: type[StatusError]) -> str:
    return _CURES.get(error_class, "")
