"""Reading a streamed reply: what is an answer, what is none, and what is left of it."""

from __future__ import annotations

import contextlib
import json
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_tools import DONE, KEY, SSE, STOP, USAGE, chunk, error_of, event, read, reader_of, said

from lionlite.exceptions import (
    BadRequestError,
    RateLimitError,
    ResponseError,
    ResponseTooLarge,
    ServerError,
    ServiceError,
    StreamTruncated,
)
from lionlite.records import Usage
from lionlite.service import bodykind

pytestmark = pytest.mark.quick


def test_a_stream_comes_out_as_text_and_at_its_end_as_a_reply():
    first = chunk({"role": "assistant", "content": ""}, system_fingerprint="fp", created=7)
    last = {"id": "c", "model": "acme-1", "choices": [], "usage": {**USAGE, "cost": 0.25}}

    reply, texts = read(first, said("Hel"), said("lo"), STOP, last)

    assert texts == ["Hel", "lo"]
    assert (str(reply), reply.model, reply.finish_reason) == ("Hello", "acme-1", "stop")
    assert (reply.usage, reply.cost, reply.request_id) == (Usage(10, 2), 0.25, "req_1")
    assert reply.raw == {
        "id": "c",
        "object": "chat.completion",
        "model": "acme-1",
        "created": 7,
        "system_fingerprint": "fp",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello"},
                "finish_reason": "stop",
            }
        ],
        "usage": {**USAGE, "cost": 0.25},
    }


def test_text_is_out_as_soon_as_its_event_is():
    reader = reader_of()

    assert reader.feed(event(said("a"))) == ["a"]
    assert reader.feed(event(said("b"))[:-1]) == []
    assert reader.feed(b"\n") == ["b"]
    assert (reader.partial, reader.is_done) == ("ab", False)


# --- complete or not


def test_the_end_mark_alone_completes_a_stream():
    """Snowflake and OpenRouter send complete streams without a finish reason."""
    assert read(said("4"))[0].finish_reason is None


def test_a_finish_reason_alone_completes_a_stream():
    reply, texts = read(said("4"), STOP, done=False)

    assert (reply.text, reply.finish_reason, texts) == ("4", "stop", ["4"])


@pytest.mark.parametrize(
    "cut", [b"", b"\n", b"da", b"data: ", b'data: {"id"', b"data: [DO", b": x"]
)
@pytest.mark.parametrize("start", ["", "4"])
def test_a_stream_without_either_is_cut(start, cut):
    error = error_of(*([said(start)] if start else []), cut, done=False)

    assert type(error) is StreamTruncated
    assert str(error) == (
        f"The stream of Acme stopped after {len(start)} characters, before the answer was "
        "complete (request req_1)."
    )
    assert (error.partial, error.status, error.request_id) == (start, 200, "req_1")


@pytest.mark.parametrize("last", [b"data: [DONE]", b"data: [DONE]\n", event(STOP)[:-2]])
def test_the_last_event_may_lack_its_blank_line(last):
    assert read(said("4"), last, done=False)[0].text == "4"


def test_an_error_may_lack_its_blank_line():
    error = error_of(said("4"), b"event: error\ndata: overloaded", done=False)

    assert (type(error), error.partial) == (ServerError, "4")
    assert "overloaded" in str(error)


def test_the_last_event_without_its_blank_line_has_text_too():
    reply, texts = read(said("4"), event(said("2", finish="stop"))[:-2], done=False)

    assert (reply.text, texts) == ("42", ["4", "2"])


@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        ([r"\ud83d", r"\ude00"], "\U0001f600"),
        ([r"a\ud83d", "", r"\ude00b"], "a\U0001f600b"),
        ([r"\ud83d\ude00\ud83d", r"\ude00"], "\U0001f600\U0001f600"),
        ([r"\\ud83d", r"\ude00"], "\\ud83d\ufffd"),
        ([r"a\ud83db", r"c"], "a\ufffdbc"),
    ],
)
def test_a_character_cut_between_two_events_is_whole(texts, whole):
    events = [b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % t.encode() for t in texts]

    reply, pieces = read(*events, STOP)

    assert "".join(pieces) == reply.text == whole


def test_every_choice_that_was_asked_for_must_come():
    reader = reader_of(answers=2)
    reader.feed(event(said("one", finish="stop")))
    reader.feed_end()

    with pytest.raises(StreamTruncated):
        reader.finish()


def test_every_choice_must_end():
    two = [said("a", finish="stop"), said("b", index=1)]

    assert error_of(*two, done=False).partial == "a"
    assert read(*two, chunk(index=1, finish="length"), done=False)[0].finish_reason == "stop"


def test_an_end_mark_without_an_answer_is_a_response_error():
    error = error_of()

    assert type(error) is ResponseError
    assert str(error) == "Acme answered 200, but it holds no choices (request req_1)."


def test_what_follows_the_end_mark_is_nothing():
    reader = reader_of()

    assert reader.feed(event(said("a")) + DONE + event(said("b"))) == ["a"]
    assert reader.is_done
    assert reader.feed(event(said("c"))) == reader.feed_end() == []
    assert reader.finish().text == "a"


# --- errors in mid-stream

RATE = {"message": "slow down", "code": 429}
ERRORS = {
    "openai": (event({"error": RATE}), RateLimitError),
    "text": (event({"error": "overloaded"}), ServerError),
    "list": (event({"error": ["a"]}), ServerError),
    "groq": (
        b"event: error\n" + event({"error": {"message": "no", "status_code": 400}}),
        ServerError,
    ),
    "bare": (b"event: error\n" + event(RATE), RateLimitError),
    "named, no JSON": (b"event: error\n" + event(b"broken"), ServerError),
    "named, empty": (b"event: error\n" + event({}), ServerError),
    "vLLM": (event({"object": "error", "message": "no", "code": 400}), BadRequestError),
    "Gemini": (event([{"error": RATE}]), RateLimitError),
    "OpenRouter": (
        event(said("x", finish="length", error={"code": 400}, usage=USAGE)),
        BadRequestError,
    ),
    "Responses": (
        event({"type": "error", "code": "rate_limit_exceeded", "message": "no"}),
        RateLimitError,
    ),
    "in the choice": (event({"choices": [{"delta": {}, "error": {"code": 502}}]}), ServerError),
    "finish": (event(chunk(finish="error")), ServerError),
}


@pytest.mark.parametrize("done", [True, False], ids=["then the end mark", "then nothing"])
@pytest.mark.parametrize(("data", "kind"), ERRORS.values(), ids=ERRORS)
def test_an_error_in_mid_stream_is_its_typed_error_with_the_text_before_it(data, kind, done):
    error = error_of(said("Hel"), said("lo"), data, done=done)

    assert (type(error), error.partial) == (kind, "Hello")
    assert (error.status, error.request_id) == (200, "req_1")


def test_text_before_an_error_is_handed_out_first():
    reader = reader_of()

    assert reader.feed(event(said("a")) + ERRORS["openai"][0] + event(said("b"))) == ["a"]
    assert reader.is_done
    assert reader.feed_end() == []
    with pytest.raises(RateLimitError, match="slow down"):
        reader.finish()


@pytest.mark.parametrize("usage", [USAGE, None], ids=["in the error", "before it"])
def test_the_usage_counted_before_an_error_is_known(usage):
    reader = reader_of()
    reader.feed(event(said("a", usage=USAGE)))
    reader.feed(event(said("b", error={"code": 400}, usage=usage)))

    assert reader.usage == Usage(10, 2)


def test_no_error_is_none():
    assert read(said("4", error=None), said("2", error={}))[0].text == "42"


GARBAGE = {
    "no JSON": (b"{broken", "an event of its stream is no JSON object"),
    "two values": (b"{}{}", "an event of its stream is no JSON object"),
    "NaN": (b'{"choices": NaN}', "an event of its stream is no JSON object"),
    "not UTF-8": (b'{"choices": "\xff"}', "an event of its stream is no JSON object"),
    "deep": (b"[" * 200_000, "an event of its stream is no JSON object"),
    "endless number": (b'{"created": ' + b"1" * 100_000 + b"}", "an event of its stream is no"),
    "list": (b"[1]", "an event of its stream is no JSON object"),
    "text": (b'"hello"', "an event of its stream is no JSON object"),
    "HTML": (b"<html>", "an event of its stream is no JSON object"),
    "choices": (b'{"choices": {"index": 0}}', "a chunk of its stream is none"),
    "number of choices": (b'{"choices": 1}', "a chunk of its stream is none"),
    "choice": (b'{"choices": ["a"]}', "a chunk of its stream is none"),
    "delta": (b'{"choices": [{"delta": "a"}]}', "a chunk of its stream is none"),
    "content": (b'{"choices": [{"delta": {"content": 4}}]}', "a chunk of its stream is none"),
    "index": (b'{"choices": [{"index": [0]}]}', "a chunk of its stream is none"),
}


@pytest.mark.parametrize(("data", "problem"), GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_a_response_error_with_the_text_before_it(data, problem):
    error = error_of(said("4"), event(data), STOP)

    assert type(error) is ResponseError
    assert f"Acme answered 200, but {problem}" in str(error)
    assert (error.partial, error.retryable) == ("4", True)
    assert data.decode("utf-8", "replace").startswith(error.body[:10])


@pytest.mark.parametrize(
    "odd",
    [
        event(b""),
        event(b"  "),
        b"event: ping\n" + event(b"now"),
        b"event: ping\n" + event({"type": "ping"}),
        event({"type": "ping"}),
        event({}),
        event({"choices": None}),
        event({"choices": [], "prompt_filter_results": [{}]}),
        event({"choices": [{}]}),
        event({"choices": [{"index": None, "delta": None, "finish_reason": None}]}),
        event({"choices": [{"delta": {"content": None, "role": None}}]}),
        b": OPENROUTER PROCESSING\n\n",
    ],
    ids=repr,
)
def test_events_that_say_nothing_are_passed_over(odd):
    assert read(odd, said("4"), odd, STOP, odd)[1] == ["4"]


@pytest.mark.parametrize("way", ["line", "event", "stream"])
def test_a_stream_past_a_cap_is_an_error_with_the_text_before_it(way, monkeypatch):
    monkeypatch.setattr("lionlite.service.sse.MAX_STREAM_BYTES", 8 << 20)
    rest = {
        "line": b"data: " + b"x" * (2 << 20),
        "event": (b"data: " + b"x" * (1 << 19) + b"\n") * 10,
        "stream": b": ping\n" * (2 << 20),
    }[way]
    reader = reader_of()

    assert reader.feed(event(said("4"))) == ["4"]
    assert reader.feed(rest) == []
    with pytest.raises(ResponseTooLarge, match=f"{way} .*longer than") as caught:
        reader.finish()

    assert (caught.value.partial, reader.is_done) == ("4", True)
    assert (caught.value.status, caught.value.request_id) == (200, "req_1")


def test_no_key_is_shown():
    echo = f"key {KEY} is bad"
    headers = {**SSE, "x-request-id": KEY}

    errors = [
        error_of(event({"error": echo}), headers=headers),
        error_of(event(echo), headers=headers),
        error_of(b"event: error\n" + event(echo.encode()), headers=headers),
        error_of(headers=headers),
        error_of(done=False, headers=headers),
        error_of(f"<html>{echo}".encode(), headers=headers),
        error_of(b"data: " + echo.encode() * 50_000, headers=headers),
    ]

    assert not [e for e in errors if "canary" in f"{e} {vars(e)} {locals_of(e)}"]


def locals_of(error):
    """Return what a traceback with locals shows of our own frames."""
    stack = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    return [frame.locals for frame in stack if "lionlite/service" in frame.filename]


# --- no stream at all

WHOLE = {"model": "m", "choices": [{"message": {"content": "4"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", ""])
@pytest.mark.parametrize("start", [b"", b"\n\n  ", b"\xef\xbb\xbf"], ids=repr)
@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_whole_reply_in_place_of_a_stream_is_read_as_it_is(content_type, start, size):
    body = start + json.dumps({**WHOLE, "usage": USAGE}, indent=1).encode()
    reader = reader_of({"content-type": content_type})

    for at in range(0, len(body), size):
        assert reader.feed(body[at : at + size]) == []

    assert reader.feed_end() == ["4"]
    reply = reader.finish(attempts=3, waited_s=1.0, elapsed_s=2.0)
    assert (reply.text, reply.usage, reader.partial) == ("4", Usage(10, 2), "4")
    assert (reply.attempts, reply.waited_s, reply.elapsed_s) == (3, 1.0, 2.0)


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", ""])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>captive</html>", ResponseError),
        (b"Internal error", ResponseError),
        (b'{"error": {"code": 429}}', RateLimitError),
        (b'{"choices": [', ResponseError),
        (b"[]", ResponseError),
        (b"no", ResponseError),
        (b"", ResponseError),
    ],
    ids=["HTML", "text", "error", "cut", "list", "short", "nothing"],
)
def test_what_is_neither_is_a_typed_error(content_type, body, kind):
    error = error_of(body, headers={"content-type": content_type}, done=False)

    assert isinstance(error, kind)
    assert error.partial == ""


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
def test_a_stream_is_known_by_its_bytes_too(content_type):
    assert read(b": hi\n\n", said("4"), headers={"content-type": content_type})[0].text == "4"


def test_unknown_fields_do_not_hide_a_stream_that_is_named_so():
    assert read(b"version: 1\n", said("4"))[0].text == "4"


def test_a_body_without_end_is_not_kept(monkeypatch):
    monkeypatch.setattr(bodykind, "MAX_BODY_BYTES", 1_000)
    reader = reader_of({})

    while not reader.is_done:
        reader.feed(b"<html>" * 10)

    with pytest.raises(ResponseTooLarge, match="longer than 1,000 bytes"):
        reader.finish()


WORDS = {"arguments", "choices", "content", "delta", "error", "finish_reason", "function", "id"}
WORDS |= {
    "index",
    "logprobs",
    "message",
    "model",
    "name",
    "response",
    "tool_calls",
    "type",
    "usage",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "a", "id"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(sorted(WORDS)),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@settings(deadline=None)  # other work on the machine is not a failure
@given(st.lists(JSON | st.builds(chunk, JSON) | st.binary(max_size=9), max_size=6), st.booleans())
def test_any_stream_is_a_reply_that_reads_again_or_a_typed_error(events, done):
    stream = [e if isinstance(e, bytes) else event(e) for e in events]

    # read() asserts that the reply reads again as itself.
    with contextlib.suppress(ServiceError):
        read(*stream, done=done)
