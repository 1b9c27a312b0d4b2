"""Bodies and headers as OpenAI words them, and how tokens are counted."""

from __future__ import annotations

import json
import math

import pytest

from lionlite.testing import protocol
from lionlite.testing.chatbody import BadBodyError, ChatBody, read_chat
from lionlite.testing.counting import TokenRule
from lionlite.testing.gate import Headroom, Refusal
from lionlite.testing.message import BadHeadError, Head, HttpReply, parse_head, render

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.0001, "1ms"),
        (0.12, "120ms"),
        (1.0, "1s"),
        (12.967, "12.967s"),
        (60.0, "1m0s"),
        (360.0, "6m0s"),
        (3723.5, "1h2m3.5s"),
        (7200.0, "2h0m0s"),
    ],
)
def test_waits_are_written_as_openai_writes_them(seconds, text):
    assert protocol.go_duration(seconds) == text


def test_each_limited_dimension_has_three_headers():
    headers = protocol.rate_limit_headers({"requests": Headroom(500, 499, 0.12)})

    assert headers == {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
    }


def test_a_refusal_tells_the_wait_three_times():
    reply = protocol.refusal_reply(Refusal("requests", 3, 3, 1, 1.2345), model="m")

    assert reply.status == 429
    assert reply.headers == {"retry-after": "2", "retry-after-ms": "1234.500"}
    assert json.loads(reply.body) == {
        "error": {
            "message": (
                "Rate limit reached for m in organization org-fake on requests per min (RPM): "
                "Limit 3, Used 3, Requested 1. Please try again in 1.235s."
            ),
            "type": "requests",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }


def test_a_request_above_the_limit_is_told_no_wait():
    reply = protocol.refusal_reply(Refusal("tokens", 100, 0, 200, math.inf), model="m")

    error = json.loads(reply.body)["error"]
    assert reply.headers == {}
    assert error["message"].startswith("Request too large for m")
    assert (error["type"], error["code"]) == ("tokens", "rate_limit_exceeded")


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("hi", {"role": "assistant", "content": "hi"}),
        ({"content": None}, {"role": "assistant", "content": None}),
        ({"choices": [{"message": {"content": "x"}}]}, {"content": "x"}),
        ({"choices": []}, {}),
        ({"choices": None}, {}),
        ({"choices": [{"message": None}]}, {}),
    ],
    ids=["text", "message", "body", "no choices", "null choices", "null message"],
)
def test_every_reply_stands_for_a_message(reply, message):
    assert protocol.as_message(reply) == message


def test_tool_calls_set_the_finish_reason():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}

    body = protocol.completion({"tool_calls": [call]}, number=1, model="m", usage=(5, 1))

    assert body["choices"][0]["finish_reason"] == "tool_calls"
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}


def test_a_whole_body_replaces_only_what_it_names():
    body = protocol.completion({"choices": [], "usage": None}, number=7, model="m", usage=(5, 1))

    assert (body["id"], body["choices"], body["usage"]) == ("chatcmpl-00000007", [], None)


@pytest.mark.parametrize(
    ("content", "tokens"),
    [("", 7), ("abcd", 8), ("abcde", 9), ("éé", 8), (None, 7), ([{"a": 1}], 10), ("\ud800", 8)],
    ids=["empty", "4 bytes", "5 bytes", "two bytes each", "none", "parts", "lone surrogate"],
)
def test_input_is_counted_by_its_bytes(content, tokens):
    assert TokenRule().request([{"role": "user", "content": content}]) == tokens


def test_a_reply_is_at_least_one_token():
    rule = TokenRule(bytes_per_token=2.0)

    assert [rule.reply({"content": text}) for text in (None, "", "abc")] == [1, 1, 2]


def raw_body(**more):
    return json.dumps({"model": "m", "messages": [{"role": "user"}], **more}).encode()


@pytest.mark.parametrize(
    ("caps", "expected"),
    [
        ({}, 16),
        ({"max_tokens": None}, 16),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5, "max_completion_tokens": 9}, 9),
    ],
    ids=["default", "null", "max_tokens", "max_completion_tokens wins"],
)
def test_the_output_cap_comes_from_the_request(caps, expected):
    chat = read_chat(raw_body(**caps))

    assert chat == ChatBody(json.loads(raw_body(**caps)), "m", [{"role": "user"}], expected)


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        ({}, (False, False)),
        ({"stream": None, "stream_options": None}, (False, False)),
        ({"stream": True}, (True, False)),
        ({"stream": True, "stream_options": {}}, (True, False)),
        ({"stream": True, "stream_options": {"include_usage": True}}, (True, True)),
    ],
    ids=["nothing", "null", "stream", "no options", "usage"],
)
def test_a_stream_and_its_usage_are_asked_for(asked, read):
    chat = read_chat(raw_body(**asked))

    assert (chat.is_stream, chat.wants_usage) == read


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "parse the JSON"),
        (b"[1]", "parse the JSON"),
        (b"\xff", "parse the JSON"),
        (b'{"model": NaN}', "parse the JSON"),
        (b"[" * 100_000, "parse the JSON"),
        (b'{"messages": [{}]}', "provide a model"),
        (b'{"model": "m"}', "'messages'"),
        (b'{"model": "m", "messages": []}', "'messages'"),
        (b'{"model": "m", "messages": ["hi"]}', "'messages'"),
        (raw_body(stream="yes"), "'stream' must be a boolean"),
        (raw_body(stream_options={"include_usage": True}), "only allowed when 'stream'"),
        (raw_body(stream=True, stream_options=[]), "'stream_options'"),
        (raw_body(stream=True, stream_options={"include_usage": "yes"}), "'include_usage'"),
        (raw_body(max_tokens="5"), "'max_tokens'"),
        (raw_body(max_completion_tokens=True), "'max_completion_tokens'"),
        (raw_body(max_tokens=0), "'max_tokens'"),
    ],
)
def test_a_body_that_is_no_chat_is_refused(raw, message):
    with pytest.raises(BadBodyError, match=message) as caught:
        read_chat(raw)

    assert caught.value.reply.status == 400


def test_a_head_is_read_without_its_query():
    head = parse_head(b"POST /v1/x?key=secret HTTP/1.1\r\nA-b: 1\r\na-B:  2 ")

    assert head == Head("POST", "/v1/x", "HTTP/1.1", {"a-b": "1, 2"})


@pytest.mark.parametrize(
    "raw", [b"", b"GET /", b"GET / HTTP/2", b"GET / / HTTP/1.1", b"GET / HTTP/1.1\r\nno colon"]
)
def test_what_is_no_head_is_refused(raw):
    with pytest.raises(BadHeadError):
        parse_head(raw)


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [
        ("HTTP/1.1", "", True),
        ("HTTP/1.1", "keep-alive", True),
        ("HTTP/1.1", "Close", False),
        ("HTTP/1.0", "keep-alive", False),
    ],
)
def test_keep_alive_follows_version_and_wish(version, connection, keeps):
    assert Head("GET", "/", version, {"connection": connection}).keeps_alive is keeps


def test_a_reply_goes_out_in_one_piece():
    reply = HttpReply(529, b"{}", headers={"X-Extra": "1", "Content-Length": "99"})

    assert render(reply, will_close=True) == (
        b"HTTP/1.1 529 Unknown\r\ncontent-type: application/json\r\ncontent-length: 99\r\n"
        b"connection: close\r\nx-extra: 1\r\n\r\n{}"
    )
