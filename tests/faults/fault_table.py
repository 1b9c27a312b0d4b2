"""What each fault of the catalogue must end in, for a chat and for a stream."""

from __future__ import annotations

from typing import Any

import attrs

from lionlite.exceptions import (
    AuthenticationError,
    BadRequestError,
    BudgetTimeout,
    ConnectionFailed,
    DeadlineExceeded,
    NotFoundError,
    OutputError,
    PermissionDeniedError,
    QuotaExhausted,
    RateLimitError,
    ResponseError,
    ResponseTooLarge,
    ServerError,
    StreamTruncated,
)
from lionlite.testing import FAULTS
from lionlite.testing.faults.status import PASSING, RETRY_AFTER

SHORT_S = 0.7  # runs out; long enough that a busy machine has sent the request by then
BELOW_A_WAIT_S = 0.9  # below the waits that are asked for, so nobody waits
LONG_S = 20.0
PIECES = "The quick brown"  # what a stream of the catalogue has said before it breaks


@attrs.frozen(kw_only=True)
class Want:
    """How a call with one retry must end.

    Attributes:
        kind: The class of the error, exactly; None = it answers.
        retryable: What the error says of itself.
        attempts: Requests that went out.
        timeout_s: What the call is given.
        facts: More attributes of the error, with their values.
        is_race: Whether the machine's speed decides how many attempts there is
            time for, and what the last one was doing.
    """

    kind: type[Exception] | None = None
    retryable: bool = False
    attempts: int = 1
    timeout_s: float = LONG_S
    facts: dict[str, Any] = attrs.field(factory=dict)
    is_race: bool = False


def want(kind: type[Exception], attempts: int = 1, **facts: Any) -> Want:
    """Return the end in *kind*; retryable exactly when it was tried again."""
    return Want(kind=kind, attempts=attempts, retryable=attempts > 1, facts=facts)


OK = Want()
CUT = want(ConnectionFailed, 2)
LATE = Want(kind=DeadlineExceeded, timeout_s=SHORT_S, facts={"phase": "read"})
BAD = want(ResponseError, 2)
LARGE = want(ResponseTooLarge)
BUSY = want(ServerError, 2)
REFUSED = want(BadRequestError)
REDIRECT = want(BadRequestError)
LIMITED = Want(kind=BudgetTimeout, retryable=True, timeout_s=SHORT_S, is_race=True)

# Of a stream the head was good: what is wrong with its body is told while it is
# read, and nobody sends the request again by himself.
ONCE = {"attempts": 1, "retryable": True}
BAD_BODY = attrs.evolve(BAD, **ONCE)
NO_TEXT = Want(kind=StreamTruncated, **ONCE, facts={"partial": ""})
BROKEN_OFF = Want(kind=StreamTruncated, facts={"partial": PIECES})


def said(reason: str) -> Want:
    return want(OutputError, reason=reason)


def told(want: Want) -> Want:
    """Return *want* with the text that had been handed out, which rules out a retry."""
    return attrs.evolve(want, attempts=1, retryable=False, facts={"partial": PIECES})


NETWORK = {
    "rst_before_head": CUT,
    "fin_before_head": CUT,
    "rst_in_request": CUT,
    "rst_mid_head": CUT,
    "fin_mid_head": CUT,
    "rst_mid_body": CUT,
    "fin_mid_body": CUT,
    "hang": LATE,
    "hang_mid_head": LATE,
    "hang_mid_body": LATE,
    "deaf": LATE,
    "head_drip": LATE,
    "body_drip": LATE,
    "blanks_drip": LATE,
    "interim_drip": LATE,
    "length_too_long": CUT,
    "length_too_long_hang": LATE,
    "length_too_short": BAD,
}
HALF = {"partial": "The quick brown fox"}
NETWORK_STREAM = {
    "rst_mid_body": attrs.evolve(BROKEN_OFF, facts=HALF),
    "fin_mid_body": attrs.evolve(BROKEN_OFF, facts=HALF),
    "hang_mid_body": attrs.evolve(LATE, facts={"phase": "read", **HALF}),
    "length_too_short": attrs.evolve(BROKEN_OFF, facts=HALF),
    # The end mark of the stream came before the lie showed.
    "length_too_long": OK,
    "length_too_long_hang": OK,
}

TOO_MUCH = ("interim_many", "headers_20000", "header_giant", "header_26mb", "body_endless")
HTTP = {
    **{name: BAD for name, fault in FAULTS.items() if fault.group == "http"},
    **dict.fromkeys(TOO_MUCH, LARGE),
    "chunks_without_end": CUT,
}
HTTP_STREAM = {
    "chunks_without_end": OK,
}

BODY = {
    **{name: BAD for name, fault in FAULTS.items() if fault.group == "body"},
    "gzip_bomb": LARGE,
    "content_null": said("empty"),
    "content_empty": said("empty"),
    "content_calls": said("tool_calls"),
    "refusal": said("refusal"),
    "finish_length": said("length"),
    "finish_filter": said("content_filter"),
}
BODY_STREAM = {
    **{name: BAD_BODY for name, end in BODY.items() if end is BAD},
    **{name: OK for name, end in BODY.items() if end.kind is OutputError},
    "brotli_lie": BAD,  # its head tells already
}

FINAL_CLASSES = {
    400: BadRequestError,
    401: AuthenticationError,
    402: QuotaExhausted,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: BadRequestError,
    413: BadRequestError,
    422: BadRequestError,
}


def limited(status: int, form: str) -> Want:
    """Return how a 429, or a 402 that asks for a wait, ends."""
    if form == "huge":
        return Want(kind=RateLimitError, retryable=True, facts={"status": status})
    if form in {"seconds", "date"}:
        # The budget pauses for everybody, and the call's time is up before the pause.
        return attrs.evolve(LIMITED, timeout_s=BELOW_A_WAIT_S, is_race=False)
    return LIMITED


def retried(status: int, form: str) -> Want:
    """Return how a status that may pass ends, asking for a wait in that form."""
    is_wait = form in {"seconds", "date", "fraction", "ms", "zero", "huge"}
    if status == 429 or (status == 402 and is_wait):
        return limited(status, form)
    if status == 402:
        return want(QuotaExhausted)
    kind = BadRequestError if status == 409 else ServerError
    if form in {"seconds", "date"}:
        return Want(kind=DeadlineExceeded, timeout_s=BELOW_A_WAIT_S, facts={"phase": "backoff"})
    if form == "huge":
        return Want(kind=kind, retryable=True, facts={"retry_after_s": 999_999_999})
    return want(kind, 2, status=status)


STATUS = {
    **{f"status_{code}": want(kind, status=code) for code, kind in FINAL_CLASSES.items()},
    **{f"status_{code}": retried(code, "none") for code in PASSING},
    **{
        f"status_{code}_retry_{form}": retried(code, form)
        for code in (*PASSING, 402)
        for form in RETRY_AFTER
    },
    "status_429_quota": want(QuotaExhausted, fatal=True),
    "status_500_no_retry": want(ServerError),
    "status_400_retry": want(BadRequestError, 2),
    "page_502": want(ServerError, 2, status=502),
    "empty_503": want(ServerError, 2, status=503),
    "plain_400": REFUSED,
    "nested_422": want(BadRequestError, status=422),
    "deep_500": BUSY,
    "error_200": BUSY,
    "error_200_429": LIMITED,
    "error_200_key": want(AuthenticationError, fatal=True),
    "error_200_text": BUSY,
    "redirect_same": REDIRECT,
    "redirect_other": REDIRECT,
    "redirect_down": REDIRECT,
    "redirect_loop": REDIRECT,
    "redirect_nowhere": REDIRECT,
    "echo_200": REFUSED,
    "echo_400": REFUSED,
    "echo_401": want(AuthenticationError, fatal=True),
    "echo_429": LIMITED,
    "echo_500": BUSY,
    "echo_in_headers": want(AuthenticationError, fatal=True),
    "echo_in_redirect": REDIRECT,
    "echo_in_body": BAD,
    "echo_then_hang": LATE,
    "echo_then_rst": CUT,
    "echo_in_gzip": BAD,
    "echo_in_chunk": BAD,
    "echo_in_long_head": LARGE,
}
STATUS_STREAM = {
    "error_200": attrs.evolve(BUSY, **ONCE),
    "error_200_text": attrs.evolve(BUSY, **ONCE),
    "error_200_429": Want(kind=RateLimitError, retryable=True),
    "echo_in_body": BAD_BODY,
    "echo_in_gzip": BAD_BODY,
}

# A stream that nobody asked for is no answer to a chat.
SSE = {
    **{name: BAD for name, fault in FAULTS.items() if fault.group == "stream"},
    "sse_cut": CUT,
    "sse_cut_event": CUT,
    "sse_rst": CUT,
    "sse_rst_first": CUT,
    "sse_done_uncut": CUT,
    "sse_pings": LATE,
    "sse_drip": LATE,
    "sse_stall": LATE,
    "sse_stall_first": LATE,
    "sse_stall_done": LATE,
    "sse_stall_finished": LATE,
    "sse_long_line": LARGE,
}
SSE_STREAM = {
    "sse_no_finish": attrs.evolve(
        BROKEN_OFF, facts={"partial": "The quick brown fox jumps over the lazy dog."}
    ),
    "sse_empty": NO_TEXT,
    "sse_cut": BROKEN_OFF,
    "sse_cut_event": BROKEN_OFF,
    "sse_cut_unframed": BROKEN_OFF,
    "sse_rst": BROKEN_OFF,
    "sse_rst_first": NO_TEXT,
    "sse_error": told(BUSY),
    "sse_error_event": told(BUSY),
    "sse_error_chunk": told(BUSY),
    "sse_error_first": attrs.evolve(BUSY, **ONCE),
    "sse_error_quota": told(want(QuotaExhausted)),
    "sse_echo": told(BUSY),
    "sse_echo_garbage": told(BAD),
    "sse_garbage": told(BAD),
    "sse_garbage_first": BAD_BODY,
    "sse_html": BAD_BODY,
    "sse_list": told(BAD),
    "sse_bad_utf8": told(BAD),
    "sse_deep": told(BAD),
    "sse_content_number": told(BAD),
    "sse_stall": attrs.evolve(LATE, facts={"phase": "read", "partial": PIECES}),
    **{name: OK for name, fault in FAULTS.items() if fault.group == "stream" and fault.is_harmless},
}

HARMLESS = {
    name: OK for name, fault in FAULTS.items() if fault.is_harmless and fault.group != "stream"
}
CHAT = {**NETWORK, **HTTP, **BODY, **STATUS, **SSE, **HARMLESS}
STREAM = {
    **CHAT,
    **NETWORK_STREAM,
    **HTTP_STREAM,
    **BODY_STREAM,
    **STATUS_STREAM,
    **SSE_STREAM,
    **HARMLESS,
}
TABLE = {"chat": CHAT, "lcall": CHAT, "stream": STREAM}

ROWS = [
    (name, verb)
    for verb, ends in TABLE.items()
    for name in ends
    # The wait that is asked for is read by the same code: a few statuses are enough there.
    if verb == "chat" or "_retry_" not in name or name.startswith(("status_429", "status_503"))
]
