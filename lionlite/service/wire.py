"""The chat-completions protocol: reading a reply that is whole.

Holds: the way from bytes to an answer or an error: the error is looked for
first, at any status, and nothing that is not an answer passes for one. Does
not hold: what an answer is (reply.py), what an error means (status.py),
streams (chunks.py), HTTP, retries, conversations. Pure, safe anywhere.

Source: OpenAI's OpenAPI description; 355 recorded exchanges of ten providers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lionlite import jsontext
from lionlite.exceptions import ResponseError
from lionlite.service.reply import NoAnswerError, Reply, reply_in
from lionlite.service.status import error_in, excerpt, request_id_of, status_error
from lionlite.service.transport.parse import is_good

if TYPE_CHECKING:
    from collections.abc import Callable

    from lionlite.exceptions import StatusError
    from lionlite.service.transport.parse import RawReply

_BOM = b"\xef\xbb\xbf"


def read_reply(
    raw: RawReply,
    *,
    now_epoch_s: float,
    scrub: Callable[[str], str],
    provider: str,
    attempts: int = 1,
    waited_s: float = 0.0,
    elapsed_s: float = 0.0,
) -> Reply:
    """Return the answer in *raw*, or raise what it is instead.

    Args:
        raw: The reply as it came.
        now_epoch_s: Wall-clock time in seconds, for Retry-After dates.
        scrub: Takes keys out of a text that will be shown.
        provider: Its name, for messages.
        attempts: For `Reply.attempts`.
        waited_s: For `Reply.waited_s`.
        elapsed_s: For `Reply.elapsed_s`.

    Raises:
        StatusError: It says no, at whatever status.
        ResponseError: It is no JSON, or not what the protocol promises.
    """
    found = _read(raw, now_epoch_s, scrub, provider, (attempts, waited_s, elapsed_s))
    if isinstance(found, Reply):
        return found
    # Raised here, where no local holds the body: it may echo the key.
    raise found


def _read(
    raw: RawReply,
    now_epoch_s: float,
    scrub: Callable[[str], str],
    provider: str,
    effort: tuple[int, float, float],
) -> Reply | StatusError | ResponseError:
    """Return the answer in *raw*, or the error that it is."""
    try:
        # RFC 8259 lets a reader pass over the byte order mark.
        body = jsontext.decode_mending(raw.body.removeprefix(_BOM))
    except jsontext.JsonError:
        body = None
    if not is_good(raw.status) or error_in(body):
        return status_error(raw, body, now_epoch_s=now_epoch_s, scrub=scrub, provider=provider)
    request_id = request_id_of(raw.headers, scrub)
    try:
        _refuse_twins(raw.body, body)
        return reply_in(body, request_id, *effort)
    except NoAnswerError as exc:
        msg = f"{provider} answered {raw.status}, but {exc} (request {request_id})."
        return ResponseError(
            msg, status=raw.status, request_id=request_id, body=excerpt(raw.body, scrub)
        )


def _refuse_twins(data: bytes, body: Any) -> None:
    """Refuse a body that says its choices, or a message, twice.

    Of equal keys the last wins silently: one of two answers would pass for the
    only one.

    Raises:
        NoAnswerError: It does.
    """
    choices = body.get("choices") if isinstance(body, dict) else None
    # Inside a text its quotes would be escaped: these are keys, or whole texts.
    if not isinstance(choices, list) or data.count(b'"message"') <= len(choices):
        return
    try:
        json.loads(data.removeprefix(_BOM), object_pairs_hook=_without_twins)
    except RecursionError:
        msg = "the body is nested too deep"
        raise NoAnswerError(msg) from None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for key in ("choices", "message"):
        if sum(name == key for name, _ in pairs) > 1:
            msg = f"the body has the key {key!r} twice"
            raise NoAnswerError(msg)
    return dict(pairs)
