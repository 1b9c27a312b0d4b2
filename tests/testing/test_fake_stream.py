"""The fake provider's streams: their events, their pace, and who leaves them early."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import closing
from urllib.parse import urlsplit

import attrs
import openai
import pytest

from lionlite.exceptions import ConfigError
from lionlite.testing import FakeProvider, FakeStream, Fault
from lionlite.testing.streaming import split, stream_events

TEXT = "Streams carry words,  piece by piece.\n"
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def body(**more):
    messages = [{"role": "user", "content": "hi"}]
    return json.dumps({"model": "m", "messages": messages, "stream": True, **more}).encode()


def connect(provider):
    port = urlsplit(provider.base_url).port
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10))


def ask(provider, **more):
    """Return status, headers and raw body of a stream."""
    with connect(provider) as connection:
        connection.request("POST", "/v1/chat/completions", body(**more))
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()


def chunks_of(raw):
    """Return the chunks of a whole stream, [DONE] aside."""
    *events, end = raw.decode().split("\n\n")
    assert (events[-1], end) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events[:-1]]


def chunks(provider, **more):
    return chunks_of(ask(provider, **more)[2])


def deltas(found):
    return [chunk["choices"][0]["delta"] for chunk in found if chunk["choices"]]


def begin(provider, **more):
    """Ask for a stream on a bare socket; read until its first piece has come."""
    client = socket.create_connection(("127.0.0.1", urlsplit(provider.base_url).port), timeout=10)
    sent = body(**more)
    head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(sent)}\r\n\r\n"
    client.sendall(head.encode() + sent)
    seen = b""
    while b'"content": "S' not in seen:
        seen += client.recv(65_536)
    return client


def test_a_stream_is_said_as_openai_says_it():
    with FakeProvider("Hi there") as provider:
        status, headers, raw = ask(provider)

    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert (headers["transfer-encoding"], headers["x-request-id"]) == ("chunked", "req_00000001")

    def chunk(delta, reason=None):
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {
            "id": "chatcmpl-00000001",
            "object": "chat.completion.chunk",
            "created": 1_700_000_001,
            "model": "m",
            "choices": [choice],
        }

    assert chunks_of(raw) == [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hi"}),
        chunk({"content": " there"}),
        chunk({}, "stop"),
    ]


def test_usage_comes_last_and_only_when_asked_for():
    with FakeProvider("Hi there") as provider:
        found = chunks(provider, stream_options={"include_usage": True})

    assert [chunk["usage"] for chunk in found[:-1]] == [None] * 4
    assert (found[-1]["choices"], found[-1]["usage"]) == (
        [],
        {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10},
    )


@pytest.mark.parametrize(
    "text", ["", " ", TEXT, "\n\nx  ", "Donaudampfschifffahrt", "日本語の文章です", "\ud800"]
)
def test_nothing_of_a_text_is_lost_between_its_pieces(text):
    assert "".join(split(text)) == text


@pytest.mark.parametrize("text", ["x" * 1_000_000, " " * 1_000_000], ids=["word", "white"])
def test_a_long_text_is_split_quickly(text):
    began_s = time.monotonic()

    assert "".join(split(text)) == text
    assert time.monotonic() - began_s < 2


def test_openais_own_client_reads_it():
    message = {"content": TEXT, "reasoning_content": "Let me see", "tool_calls": [CALL, CALL]}
    with (
        FakeProvider(message) as provider,
        openai.OpenAI(api_key="k", base_url=provider.base_url) as client,
    ):
        with client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            found = list(stream)

    told = [chunk.choices[0] for chunk in found if chunk.choices]
    calls = [call for choice in told for call in choice.delta.tool_calls or ()]
    assert "".join(choice.delta.content or "" for choice in told) == TEXT
    assert [choice.finish_reason for choice in told if choice.finish_reason] == ["tool_calls"]
    assert [(call.index, call.id, call.function.name) for call in calls if call.id] == [
        (0, "call_1", "add"),
        (1, "call_1", "add"),
    ]
    assert "".join(call.function.arguments for call in calls if call.index == 1) == '{"a": 1}'
    assert found[-1].usage.total_tokens == 18


def test_reasoning_and_refusals_come_in_pieces_too():
    with FakeProvider({"reasoning": "a b", "refusal": "No way", "content": None}) as provider:
        found = deltas(chunks(provider))

    assert found == [
        {"role": "assistant", "content": None},
        {"reasoning": "a"},
        {"reasoning": " b"},
        {"refusal": "No"},
        {"refusal": " way"},
        {},
    ]


def test_a_tool_call_that_is_none_goes_out_as_it_is():
    with FakeProvider({"tool_calls": [{"id": "x"}]}) as provider:
        assert deltas(chunks(provider))[1] == {"tool_calls": [{"id": "x"}]}


@pytest.mark.parametrize("reply", [Fault.no_choices(), {"choices": None}])
def test_broken_choices_are_streamed_broken(reply):
    with FakeProvider(reply) as provider:
        assert not chunks(provider)[0]["choices"]


def test_a_whole_body_sets_the_finish_reason():
    choice = {"index": 0, "message": {"content": "x"}, "finish_reason": "length"}
    with FakeProvider({"choices": [choice], "model": "other"}) as provider:
        found = chunks(provider)

    assert found[-1]["choices"][0]["finish_reason"] == "length"
    assert {chunk["model"] for chunk in found} == {"other"}


def test_a_test_may_choose_the_pieces():
    reply = FakeStream(["H", "", "ello"], delay_s=0.05)
    with FakeProvider(reply, stream_delay_s=30.0) as provider:
        began_s = time.monotonic()
        found = deltas(chunks(provider))
        took_s = time.monotonic() - began_s
        whole = json.loads(ask(provider, stream=False)[2])

    assert [delta["content"] for delta in found[1:-1]] == ["H", "", "ello"]
    assert 0.1 <= took_s < 5
    assert whole["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize("pieces", ["text", [], [1], None, [b"x"]], ids=repr)
def test_pieces_are_texts(pieces):
    with pytest.raises(ConfigError, match="pieces is"):
        FakeStream(pieces)


@pytest.mark.parametrize("options", [{"delay_s": -1.0}, {"delay_s": "soon"}], ids=str)
def test_the_delay_of_a_stream_is_a_length_of_time(options):
    with pytest.raises(ConfigError, match="delay_s="):
        FakeStream(["x"], **options)
    with pytest.raises(ConfigError, match="stream_delay_s="):
        FakeProvider(stream_delay_s=options["delay_s"])


def test_pieces_come_as_they_are_made():
    with FakeProvider("Some words", stream_delay_s=0.2) as provider, connect(provider) as client:
        client.request("POST", "/v1/chat/completions", body())
        answer = client.getresponse()
        while b"Some" not in answer.readline():
            continue
        first_s = time.monotonic()
        answer.read()

    assert time.monotonic() - first_s > 0.1


def test_the_log_tells_of_a_stream():
    with FakeProvider(TEXT, charge="adjust") as provider:
        ask(provider, max_tokens=50)
        (logged,) = provider.requests

    assert (logged.is_stream, logged.is_aborted) == (True, False)
    assert logged.pieces_sent == len(split(TEXT))
    assert (logged.outcome, logged.status, logged.output_tokens) == ("answered", 200, 10)
    assert logged.charged_tokens == 18
    assert logged.arrival_s < logged.finished_s


def test_the_rate_limit_holds_for_streams():
    with FakeProvider("x", max_requests=1) as provider:
        answers = [ask(provider), ask(provider)]

    assert [status for status, _, _ in answers] == [200, 429]
    assert answers[0][1]["x-ratelimit-remaining-requests"] == "0"
    assert json.loads(answers[1][2])["error"]["code"] == "rate_limit_exceeded"
    assert (provider.requests[1].outcome, provider.requests[1].is_stream) == ("refused", True)


@pytest.mark.parametrize("delay_s", [0.02, 0.0], ids=["paced", "at once"])
def test_a_client_that_leaves_stops_the_stream(delay_s):
    text = "S " + "word " * 20_000
    with FakeProvider(text, charge="adjust", stream_delay_s=delay_s) as provider:
        client = begin(provider)
        client.close()
        assert provider.wait_for_ended(1)
        (logged,) = provider.requests
        status, _, _ = ask(provider, stream=False)

    assert (logged.is_aborted, logged.outcome, status) == (True, "answered", 200)
    assert 1 <= logged.pieces_sent < 20_000
    # What was said is charged, and nothing of the rest.
    assert 8 < logged.charged_tokens < 8 + 2 * logged.pieces_sent


def test_closing_the_provider_ends_streams_at_once():
    provider = FakeProvider("S " + "word " * 100, stream_delay_s=30.0).start()
    client = begin(provider)
    began_s = time.monotonic()
    provider.close()
    took_s = time.monotonic() - began_s
    client.close()

    assert took_s < 1
    assert provider.requests[0].is_aborted


def test_a_connection_goes_on_after_a_stream():
    with FakeProvider(["one", "two"]) as provider, connect(provider) as connection:
        for _ in range(2):
            connection.request("POST", "/v1/chat/completions", body())
            chunks_of(connection.getresponse().read())

    assert len({request.client_port for request in provider.requests}) == 1


@pytest.mark.parametrize(
    ("version", "extra", "has_chunks"),
    [("HTTP/1.0", "", False), ("HTTP/1.1", "connection: close\r\n", True)],
    ids=["1.0", "close"],
)
def test_an_old_or_last_request_ends_with_its_connection(version, extra, has_chunks):
    sent = body()
    head = f"POST /v1/chat/completions {version}\r\n{extra}content-length: {len(sent)}\r\n\r\n"
    with FakeProvider("word") as provider:
        address = ("127.0.0.1", urlsplit(provider.base_url).port)
        with socket.create_connection(address, timeout=10) as client:
            client.sendall(head.encode() + sent)
            raw = b"".join(iter(lambda: client.recv(65_536), b""))
    head, _, rest = raw.partition(b"\r\n\r\n")

    assert b"connection: close" in head
    assert (b"transfer-encoding: chunked" in head) is has_chunks
    assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n" if has_chunks else b"data: [DONE]\n\n")


@pytest.mark.parametrize("after_bytes", [0, 100, 700, 10**9])
def test_a_stream_can_be_cut_anywhere(after_bytes):
    whole = sum(
        len(event.data)
        for event in stream_events("x " * 9, number=1, model="m", usage=(8, 5), wants_usage=False)
    )
    fault = Fault.cut(after_bytes, then="x " * 9)
    with (
        FakeProvider(fault, charge="adjust") as provider,
        pytest.raises(http.client.IncompleteRead) as caught,
    ):
        ask(provider)
    (logged,) = provider.requests

    assert len(caught.value.partial) == min(after_bytes, whole - 1)
    assert (logged.outcome, logged.fault, logged.is_aborted) == ("fault", "cut", False)
    said_chars = max(0, 2 * logged.pieces_sent - 1)
    assert logged.charged_tokens == 8 + -(-said_chars // 4)


def test_a_cut_stream_can_be_a_reset():
    with FakeProvider(Fault.cut(300, reset=True)) as provider, pytest.raises(ConnectionError):
        ask(provider)


@pytest.mark.parametrize("fault", [Fault.status(503), Fault.html(), Fault.quota()])
def test_other_faults_answer_a_stream_as_they_answer_a_chat(fault):
    with FakeProvider(fault) as provider:
        status, headers, raw = ask(provider)

    assert (status, raw) == (fault.http.status, fault.http.body)
    assert headers["content-type"] == fault.http.content_type
    assert attrs.asdict(provider.requests[0])["fault"] == fault.kind


def test_who_waits_for_the_end_is_woken_by_it():
    with FakeProvider(["x", Fault.hang()], latency_s=0.05) as provider:
        ask(provider)

        assert provider.wait_for_ended(1)
        assert not provider.wait_for_ended(2, timeout_s=0.01)
