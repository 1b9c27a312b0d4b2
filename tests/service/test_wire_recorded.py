"""Recorded exchanges of ten providers, read beside openai-python from the same bytes."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import httpx
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


def recorded(path, wanted):
    """Return the recorded exchanges of *path* that are *wanted*."""
    if not EXCHANGES.is_file():
        return []
    exchanges = [json.loads(line) for line in EXCHANGES.read_text().splitlines()]
    return [
        pytest.param(exchange, id=f"{exchange['host']}-{number}")
        for number, exchange in enumerate(exchanges)
        if exchange["path"].endswith(path)
        and wanted(exchange["status"], exchange["host"], is_stream(exchange))
    ]


def is_stream(exchange):
    return exchange["response"].lstrip().startswith((":", "data:", "event:"))


CHAT = "/chat/completions"
ANSWERS = recorded(CHAT, lambda status, host, s: status == 200 and not s and host != NO_PROVIDER)
ERRORS = recorded("", lambda status, host, s: status != 200)
ECHOES = recorded(CHAT, lambda status, host, s: host == NO_PROVIDER)


def read(exchange, seed=0):
    """Read the recorded body through the HTTP parser, cut at random bytes."""
    body = exchange["response"].encode()
    head = f"HTTP/1.1 {exchange['status']} x\r\nContent-Length: {len(body)}\r\n\r\n"
    wire = head.encode() + body
    rng = random.Random(seed)
    parser = ReplyParser()
    cuts = sorted(rng.sample(range(len(wire)), min(rng.choice([1, 10, 200]), len(wire))))
    for start, end in pairwise([0, *cuts, len(wire)]):
        # A socket gives at least one byte.
        if start < end:
            parser.feed(wire[start:end])
    raw = parser.reply()
    reply = RawReply(raw.status, exchange["headers"], raw.body)
    return read_reply(reply, now_epoch_s=0.0, scrub=str, provider=exchange["host"])


def theirs(exchange):
    """Return what openai-python reads from the same bytes."""
    openai = pytest.importorskip("openai")
    headers = {"content-type": "application/json"}
    transport = httpx.MockTransport(
        lambda _request: httpx.Response(200, headers=headers, content=exchange["response"].encode())
    )
    with httpx.Client(transport=transport) as http:
        client = openai.OpenAI(api_key="none", base_url="http://localhost", http_client=http)
        return client.chat.completions.create(model="m", messages=[])


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
    found = theirs(exchange)
    message = found.choices[0].message

    ours = read(exchange)

    assert ours.text == text_of(getattr(message, "content", None))
    assert ours.finish_reason == (found.choices[0].finish_reason or None)
    assert ours.usage == (details_of(found.usage) if found.usage else None)
    assert ours.refusal == (message.refusal or None)
    assert ours.model == found.model
    calls = [
        (call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in ours.tool_calls
    ]
    assert calls == [
        (c.id, c.function.name, c.function.arguments) for c in message.tool_calls or ()
    ]


@pytest.mark.parametrize("exchange", ANSWERS)
def test_a_recorded_answer_reads_alike_wherever_it_is_cut(exchange):
    assert all(read(exchange, seed) == read(exchange) for seed in range(1, 6))


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
