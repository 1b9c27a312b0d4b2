"""Whether a reply is an answer, and the error when it is not.

Holds: the rule that `chat` never returns nothing. Does not hold: reading
replies (service/wire.py). Pure functions, safe anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lionlite.exceptions import OutputError

if TYPE_CHECKING:
    from lionlite.service.reply import Reply

_SAID = {
    "refusal": "The model refused: {refusal!r:.200}.",
    "length": "The answer was cut before its first word: raise llmconfig max_tokens.",
    "content_filter": "The provider's content filter left nothing of the answer.",
    "tool_calls": "The model asks for tools instead of answering: complete() returns the reply.",
    "empty": "The model said nothing.",
}


def is_answer(reply: Reply) -> bool:
    """Whether *reply* says something that is no refusal."""
    return bool(reply.text.strip()) and reply.refusal is None


def answer_of(reply: Reply) -> str:
    """Return the text of *reply*.

    Raises:
        OutputError: It is no answer; `.reason` says why.
    """
    if is_answer(reply):
        return reply.text
    reason = _reason(reply)
    said = _SAID[reason].format(refusal=reply.refusal)
    msg = f"{said} (finish reason {reply.finish_reason}, request {reply.request_id})"
    raise OutputError(
        msg,
        reason=reason,
        text=reply.text,
        reply=reply,
        attempts=reply.attempts,
        waited_s=reply.waited_s,
        request_id=reply.request_id,
    )


def _reason(reply: Reply) -> str:
    if reply.refusal is not None:
        return "refusal"
    if reply.finish_reason in {"length", "content_filter"}:
        return str(reply.finish_reason)
    return "tool_calls" if reply.tool_calls else "empty"
