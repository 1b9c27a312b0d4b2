"""The Responses API's form of an answer, read as a chat completion.

Holds: where a response has text, tool calls, usage and reasoning, and why it
ended. Does not hold: requests to that API, or chat completions themselves
(reply.py). Pure functions, safe anywhere.

Source: OpenAI's OpenAPI description; 163 recorded responses of six providers.
"""

from __future__ import annotations

from typing import Any, Final

_ENDED: Final = frozenset({"completed", "complete", "incomplete"})
_REASONS: Final = {"max_output_tokens": "length"}


def completion_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return what a response says, as the body of a chat completion.

    One that has not ended (queued, in progress, cancelled) has no choices.
    """
    status, output = body.get("status"), body.get("output")
    has_ended = isinstance(status, str) and status in _ENDED
    if not has_ended or not isinstance(output, list):
        return {"choices": []}
    items = [item for item in output if isinstance(item, dict)]
    parts = [part for item in items if item.get("type") == "message" for part in _list(item)]
    calls = [call for item in items if (call := _call_of(item)) is not None]
    message = {
        "role": "assistant",
        "content": _joined(parts, "output_text", "text"),
        "refusal": _joined(parts, "refusal", "refusal"),
        "reasoning": "".join(_reasoning_of(i) for i in items if i.get("type") == "reasoning"),
        "tool_calls": calls,
    }
    choice = {"index": 0, "message": message, "finish_reason": _reason(body, calls)}
    return {"model": body.get("model"), "choices": [choice], "usage": usage_of(body.get("usage"))}


def usage_of(usage: Any) -> Any:
    """Return a response's usage in the names of a chat completion's."""
    if not isinstance(usage, dict):
        return None
    return {
        **usage,
        "prompt_tokens": usage.get("input_tokens"),
        "completion_tokens": usage.get("output_tokens"),
        "prompt_tokens_details": usage.get("input_tokens_details"),
        "completion_tokens_details": usage.get("output_tokens_details"),
    }


def _list(item: dict[str, Any], key: str = "content") -> list[dict[str, Any]]:
    parts = item.get(key)
    return [p for p in parts if isinstance(p, dict)] if isinstance(parts, list) else []


def _joined(parts: list[dict[str, Any]], kind: str, key: str) -> str:
    texts = [part.get(key) for part in parts if part.get("type") == kind]
    return "".join(text for text in texts if isinstance(text, str))


def _reasoning_of(item: dict[str, Any]) -> str:
    said = _joined(_list(item), "reasoning_text", "text")
    return said or _joined(_list(item, "summary"), "summary_text", "text")


def _call_of(item: dict[str, Any]) -> dict[str, Any] | None:
    id_, name = item.get("call_id") or item.get("id"), item.get("name")
    if item.get("type") == "function_call":
        function = {"name": name, "arguments": item.get("arguments")}
        return {"id": id_, "type": "function", "function": function}
    if item.get("type") == "custom_tool_call":
        custom = {"name": name, "input": item.get("input")}
        return {"id": id_, "type": "custom", "custom": custom}
    # Tools that the provider ran itself ask nothing of us.
    return None


def _reason(body: dict[str, Any], calls: list[Any]) -> str:
    if body.get("status") == "incomplete":
        details = body.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        return _REASONS.get(reason, reason) if isinstance(reason, str) else "incomplete"
    return "tool_calls" if calls else "stop"
