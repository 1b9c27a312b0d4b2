"""Counts against what OpenAI said, in recorded chats of plain text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lionlite.tokens import TokenCounter, encoding_for_model

SHARED = Path(__file__).resolve().parents[3] / "shared"
EXCHANGES = SHARED / "recorded" / "exchanges.jsonl"

pytestmark = pytest.mark.skipif(
    not (EXCHANGES.is_file() and (SHARED / "tiktoken").is_dir()),
    reason="the recorded exchanges and the tokenizer ranks do not lie beside the project",
)


def is_plain_text(request):
    more = {"tools", "response_format", "web_search_options"} & set(request)
    return not (more or request.get("stream")) and all(
        isinstance(message.get("content"), str) and set(message) <= {"role", "content", "name"}
        for message in request["messages"]
    )


def differences():
    """Return ours minus theirs, one per recorded chat."""
    counters, found = {}, []
    for line in EXCHANGES.read_text().splitlines():
        exchange = json.loads(line)
        is_chat = exchange["path"].endswith("/chat/completions") and exchange["status"] == 200
        if not is_chat or exchange["host"] != "api.openai.com":
            continue
        request = json.loads(exchange["request"])
        if not is_plain_text(request):
            continue
        theirs = json.loads(exchange["response"])["usage"]["prompt_tokens"]
        name = encoding_for_model(request["model"])
        counter = counters.setdefault(name, TokenCounter(name, may_download=False))
        assert counter.wait_until_loaded(30)
        found.append(counter.count_messages(request["messages"]) - theirs)
    return found


def test_most_recorded_chats_are_counted_exactly_and_nearly_all_within_two():
    found = differences()

    assert len(found) > 10
    assert sum(difference == 0 for difference in found) > len(found) / 2
    assert sum(abs(difference) <= 2 for difference in found) >= 0.9 * len(found)
