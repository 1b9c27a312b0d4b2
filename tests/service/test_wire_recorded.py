"""Recorded exchanges of ten providers, read beside openai-python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lionlite.exceptions import BadRequestError, LionError, NotFoundError, ResponseError
from lionlite.records import Usage
from lionlite.service.transport.parse import RawReply, ReplyParser
from lionlite.service.wire import read_reply

EXCHANGES = Path(__file__).resolve().parents[3] / "shared" / "recorded" / "exchanges.jsonl"

pytestmark = [
    pytest.mark.quick,
    pytest.mark.skipif(
        not EXCHANGES.is_file(), reason="the recorded exchanges do not lie beside the project"
    ),
]


NO_PROVIDER = "demo-endpoints.pydantic.workers.dev"  # echoes what it was sent


def recorded(wanted):
    """Return the recorded chat completions without stream that are *wanted*."""
    if not EXCHANGES.is_file():
        return []
    exchanges = [json.loads(line) for line in EXCHANGES.read_text().splitlines()]
    return [
        pytest.param(exchange, id=f"{exchange['host']}-{number}")
        for number, exchange in enumerate(exchanges)
        if exchange["path"].endswith("/chat/completions")
        and not json.loads(exchange["request"] or "{}").get("stream")
        and wanted(exchange["status"], exchange["host"])
    ]


ANSWERS = recorded(lambda status, host: status == 200 and host != NO_PROVIDER)
ERRORS = recorded(lambda status, host: status != 200)
ECHOES = recorded(lambda status, host: host == NO_PROVIDER)


def read(exchange):
    """Read the recorded body through the HTTP parser, cut into pieces."""
    body = exchange["response"].encode()
    head = f"HTTP/1.1 {exchange['status']} x\r\nContent-Length: {len(body)}\r\n\r\n"
    wire = head.encode() + body
    parser = ReplyParser()
    for start in range(0, len(wire), 997):
        parser.feed(wire[start : start + 997])
    raw = parser.reply()
    reply = RawReply(raw.status, exchange["headers"], raw.body)
    return read_reply(reply, now_epoch_s=0.0, scrub=str, provider=exchange["host"])


def details_of(usage):
    """Return the counts that openai-python found, absent ones as 0."""
    sent = getattr(usage.prompt_tokens_details, "cached_tokens", None)
    received = getattr(usage.completion_tokens_details, "reasoning_tokens", None)
    return Usage(usage.prompt_tokens, usage.completion_tokens, sent or 0, received or 0)


def text_of(content):
    """Return the text of what openai-python keeps as the provider sent it."""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


@pytest.mark.parametrize("exchange", ANSWERS)
def test_a_recorded_answer_reads_as_openai_python_reads_it(exchange):
    chat = pytest.importorskip("openai.types.chat")
    # As its client does: model_validate() refuses 37 of these real replies.
    theirs = chat.ChatCompletion.construct(**json.loads(exchange["response"]))
    message = theirs.choices[0].message

    ours = read(exchange)

    assert ours.text == text_of(getattr(message, "content", None))
    assert ours.finish_reason == (theirs.choices[0].finish_reason or None)
    assert ours.usage == (details_of(theirs.usage) if theirs.usage else None)
    assert ours.refusal == (message.refusal or None)
    assert [call["id"] for call in ours.tool_calls] == [c.id for c in message.tool_calls or ()]
    assert ours.model == theirs.model


@pytest.mark.parametrize("exchange", ANSWERS)
def test_every_recorded_answer_says_something(exchange):
    reply = read(exchange)

    assert reply.raw == json.loads(exchange["response"])
    assert reply.text or reply.tool_calls


@pytest.mark.parametrize("exchange", ERRORS)
def test_a_recorded_error_raises_what_its_status_says(exchange):
    kinds = {400: BadRequestError, 404: NotFoundError}

    with pytest.raises(LionError) as caught:
        read(exchange)

    assert (type(caught.value), caught.value.retryable) == (kinds[exchange["status"]], False)


@pytest.mark.parametrize("exchange", ECHOES)
def test_a_server_that_is_no_provider_gives_no_answer(exchange):
    with pytest.raises(ResponseError, match="answered 200, but"):
        read(exchange)
