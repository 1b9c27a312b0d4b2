"""Recorded streams of six providers, read beside openai-python from the same bytes.

Its own parser reads them: an httpx transport gives it the recorded bytes, in
the same pieces. It has no reader for a stream's whole, so its helper for that
(`ChatCompletionStreamState`) puts the chunks together.
"""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from lionlite.exceptions import StreamTruncated
from lionlite.records import Usage
from lionlite.service.chunks import StreamReader
from lionlite.service.reply import reply_in
from lionlite.service.sse import EventReader

EXCHANGES = Path(__file__).resolve().parents[3] / "shared" / "recorded" / "exchanges.jsonl"
CUTS = 6
"""Ways of cutting each stream; the numbers that choose them are fixed."""

pytestmark = [
    pytest.mark.quick,
    pytest.mark.skipif(
        not EXCHANGES.is_file(), reason="the recorded exchanges do not lie beside the project"
    ),
]


def recorded(path):
    """Return the recorded streams of *path*."""
    if not EXCHANGES.is_file():
        return []
    exchanges = [json.loads(line) for line in EXCHANGES.read_text().splitlines()]
    return [
        pytest.param(exchange, id=f"{exchange['host']}-{number}")
        for number, exchange in enumerate(exchanges)
        if exchange["path"].endswith(path)
        and exchange["response"].lstrip().startswith((":", "data:", "event:"))
    ]


CHATS = recorded("/chat/completions")
ALL = CHATS + recorded("/responses")

NO_FINISH_REASON = {"myorg-myaccount.snowflakecomputing.com-191", "api.openai.com-325"}
"""Complete streams that never say why they ended: the end mark is all they have."""

# A finish reason, or the end mark: from here on an answer is complete.
COMPLETE = re.compile(rb'"finish_reason": ?"\w|data: \[DONE\]')


def in_pieces(stream, seed):
    """Return *stream* cut at random bytes: into few pieces, or many."""
    rng = random.Random(seed)
    count = min(rng.choice([1, 5, 50, 500]), len(stream))
    edges = [0, *sorted(rng.sample(range(len(stream)), count)), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


def read(exchange, pieces):
    """Return our reply, and the text as it came out piece by piece."""
    reader = StreamReader(
        exchange["headers"], now_epoch_s=0.0, scrub=str, provider=exchange["host"]
    )
    texts = [text for piece in pieces for text in reader.feed(piece)]
    texts += reader.feed_end()
    return reader.finish(), texts


def theirs(pieces):
    """Return the chunks that openai-python reads from *pieces*."""
    openai = pytest.importorskip("openai")

    def answer(_request):
        return httpx.Response(
            200, headers={"content-type": "text/event-stream"}, stream=Pieces(pieces)
        )

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        client = openai.OpenAI(api_key="none", base_url="http://localhost", http_client=http)
        return list(client.chat.completions.create(model="m", messages=[], stream=True))


class Pieces(httpx.SyncByteStream):
    def __init__(self, pieces):
        self._pieces = pieces

    def __iter__(self):
        return iter(self._pieces)


def put_together(chunks):
    """Return the whole completion that openai-python's helper makes of *chunks*."""
    from openai.lib.streaming.chat import ChatCompletionStreamState

    state = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(chunk)
    return state.current_completion_snapshot


def usage_of(usage):
    """Return the counts that openai-python found, absent ones as 0."""
    if usage is None:
        return None
    cached = getattr(usage.prompt_tokens_details, "cached_tokens", None)
    reasoning = getattr(usage.completion_tokens_details, "reasoning_tokens", None)
    return Usage(usage.prompt_tokens, usage.completion_tokens, cached or 0, reasoning or 0)


def calls_of(message):
    return [
        (call.id, call.function.name, call.function.arguments or "")
        for call in message.tool_calls or ()
    ]


@pytest.mark.parametrize("exchange", CHATS)
def test_a_recorded_stream_reads_as_openai_python_reads_it(exchange):
    stream = exchange["response"].encode()
    chunks = theirs([stream])
    whole = put_together(chunks)
    choice = whole.choices[0]

    reply, texts = read(exchange, [stream])

    said = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert texts == said
    assert (reply.text, reply.refusal) == ("".join(said), choice.message.refusal or None)
    assert reply.finish_reason == (choice.finish_reason or None)
    # Of the chunks, and not of their whole: the helper takes the last chunk's usage even where
    # that has none (OpenAI's moderation chunk comes after the usage).
    assert reply.usage == usage_of(next((c.usage for c in reversed(chunks) if c.usage), None))
    assert reply.model == whole.model
    ours = [
        (call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in reply.tool_calls
    ]
    assert ours == calls_of(choice.message)


@pytest.mark.parametrize("exchange", CHATS)
def test_a_recorded_stream_reads_alike_wherever_it_is_cut(exchange):
    stream = exchange["response"].encode()
    whole = read(exchange, [stream])

    for seed in range(CUTS):
        assert read(exchange, in_pieces(stream, seed)) == whole, seed
    assert theirs(in_pieces(stream, 1)) == theirs([stream])


@pytest.mark.parametrize("exchange", CHATS)
def test_what_was_assembled_reads_as_the_same_reply(exchange):
    reply, texts = read(exchange, [exchange["response"].encode()])

    assert reply_in(reply.raw, reply.request_id) == reply
    assert "".join(texts) == reply.text
    assert reply.text or reply.tool_calls


@pytest.mark.parametrize("exchange", CHATS)
def test_a_cut_recorded_stream_is_no_answer_though_openai_python_ends_without_an_error(exchange):
    """Why we differ: the end of the bytes is the end of the answer only if the answer says so."""
    stream = exchange["response"].encode()
    whole, _ = read(exchange, [stream])
    chunks = theirs([stream])
    bound = COMPLETE.search(stream).end() - 1

    for cut in sorted({0, bound, *random.Random(0).sample(range(bound), 20)}):
        with pytest.raises(StreamTruncated, match="before the answer was complete") as caught:
            read(exchange, [stream[:cut]])
        assert whole.text.startswith(caught.value.partial)
    ended = theirs([stream[:bound]])
    assert ended == chunks[: len(ended)]


def test_recorded_complete_streams_without_a_finish_reason_are_the_two_known_ones():
    """Why the end mark alone completes an answer."""
    found = {
        p.id
        for p in CHATS
        if read(p.values[0], [p.values[0]["response"].encode()])[0].finish_reason is None
    }

    assert found == NO_FINISH_REASON


@pytest.mark.parametrize("exchange", ALL)
def test_recorded_events_are_those_that_openai_python_finds(exchange):
    """The streams of the Responses API too: their events have names."""
    streaming = pytest.importorskip("openai._streaming")
    stream = exchange["response"].encode()
    found = [
        (event.data.encode(), event.event or "")
        for event in streaming.SSEDecoder().iter_bytes(iter([stream]))
    ]

    for seed in range(CUTS):
        reader = EventReader()
        events = [event for piece in in_pieces(stream, seed) for event in reader.feed(piece)]

        assert events == found
        assert reader.feed_end() is None
