"""Recorded replies of the Responses API, read beside openai-python from the same bytes.

It has no finish reason: its status, and whether there are calls, say the same.
"""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from lionlite.exceptions import ResponseError, StreamTruncated
from lionlite.records import Usage
from lionlite.service.chunks import StreamReader
from lionlite.service.reply import reply_from_json, reply_in, reply_to_json
from lionlite.service.transport.parse import RawReply
from lionlite.service.wire import read_reply

EXCHANGES = Path(__file__).resolve().parents[3] / "shared" / "recorded" / "exchanges.jsonl"

pytestmark = [
    pytest.mark.quick,
    pytest.mark.skipif(
        not EXCHANGES.is_file(), reason="the recorded exchanges do not lie beside the project"
    ),
]


def recorded(wanted):
    """Return the recorded 2xx responses whose text is *wanted*."""
    if not EXCHANGES.is_file():
        return []
    exchanges = [json.loads(line) for line in EXCHANGES.read_text().splitlines()]
    return [
        pytest.param(exchange, id=f"{exchange['host']}-{number}")
        for number, exchange in enumerate(exchanges)
        if exchange["path"].endswith("/responses")
        and exchange["status"] == 200
        and wanted(exchange["response"].lstrip())
    ]


def is_queued(text):
    return text.startswith("{") and json.loads(text)["status"] == "queued"


WHOLE = recorded(lambda text: text.startswith("{") and not is_queued(text))
QUEUED = recorded(is_queued)
STREAMS = recorded(lambda text: not text.startswith("{"))


def read(exchange):
    raw = RawReply(200, exchange["headers"], exchange["response"].encode())
    return read_reply(raw, now_epoch_s=0.0, scrub=str, provider="Acme")


HEADERS = {"content-type": "text/event-stream"}


def read_stream(pieces):
    reader = StreamReader(HEADERS, now_epoch_s=0.0, scrub=str, provider="Acme")
    texts = [text for piece in pieces for text in reader.feed(piece)]
    texts += reader.feed_end()
    return reader.finish(), texts


def theirs(exchange, *, stream=False):
    """Return what openai-python reads: the response, or the events of a stream."""
    openai = pytest.importorskip("openai")
    content_type = "text/event-stream" if stream else "application/json"
    transport = httpx.MockTransport(
        lambda _request: httpx.Response(
            200, headers={"content-type": content_type}, content=exchange["response"].encode()
        )
    )
    with httpx.Client(transport=transport) as http:
        client = openai.OpenAI(api_key="none", base_url="http://localhost", http_client=http)
        found = client.responses.create(model="m", input="", stream=stream)
        return list(found) if stream else found


def assert_equal(ours, response):
    """Compare a reply with openai-python's response."""
    calls = [item for item in response.output if item.type == "function_call"]
    assert ours.text == response.output_text
    assert ours.model == response.model
    found = [(call["id"], call["function"]["name"]) for call in ours.tool_calls]
    assert found == [(call.call_id, call.name) for call in calls]
    assert [c["function"]["arguments"] for c in ours.tool_calls] == [c.arguments for c in calls]
    assert response.status in {"completed", "complete"}
    assert ours.finish_reason == ("tool_calls" if calls else "stop")
    usage = response.usage
    assert ours.usage == Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.input_tokens_details.cached_tokens,
        usage.output_tokens_details.reasoning_tokens,
    )


@pytest.mark.parametrize("exchange", WHOLE)
def test_a_recorded_response_reads_as_openai_python_reads_it(exchange):
    reply = read(exchange)

    assert_equal(reply, theirs(exchange))
    assert reply.raw == json.loads(exchange["response"])
    assert reply_from_json(reply_to_json(reply, scrub=str)) == reply


@pytest.mark.parametrize("exchange", QUEUED)
def test_a_response_that_only_waits_is_no_answer_though_openai_python_gives_an_empty_one(exchange):
    """Why we differ: '' would pass for what the model said."""
    assert theirs(exchange).output_text == ""
    with pytest.raises(ResponseError, match="it holds no choices"):
        read(exchange)


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_recorded_stream_of_a_response_reads_as_openai_python_reads_it(exchange):
    events = theirs(exchange, stream=True)
    stream = exchange["response"].encode()

    reply, texts = read_stream([stream])

    (last,) = [event.response for event in events if event.type == "response.completed"]
    assert_equal(reply, last)
    assert texts == [e.delta for e in events if e.type == "response.output_text.delta" and e.delta]
    assert "".join(texts) == reply.text
    assert reply_in(reply.raw, reply.request_id) == reply


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_recorded_stream_of_a_response_reads_alike_wherever_it_is_cut(exchange):
    stream = exchange["response"].encode()
    whole = read_stream([stream])
    rng = random.Random(0)

    for count in (1, 10, 300):
        edges = [0, *sorted(rng.sample(range(len(stream)), count)), len(stream)]
        assert read_stream([stream[a:b] for a, b in pairwise(edges)]) == whole


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_cut_stream_of_a_response_is_no_answer(exchange):
    stream = exchange["response"].encode()
    text = read_stream([stream])[0].text
    bound = stream.rfind(b'data: {"type":"response.completed"')
    bound = bound if bound > 0 else stream.rfind(b"response.completed")

    for cut in (0, 100, bound // 2, bound):
        with pytest.raises(StreamTruncated) as caught:
            read_stream([stream[:cut]])
        assert text.startswith(caught.value.partial)
