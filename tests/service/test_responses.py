"""The Responses API's form of an answer: what the recorded ones do not show."""

from __future__ import annotations

import json

import pytest

from lionlite.exceptions import RateLimitError, ResponseError, ServerError
from lionlite.records import Usage
from lionlite.service.chunks import StreamReader
from lionlite.service.reply import NoAnswerError, reply_in

pytestmark = pytest.mark.quick

TEXT = {"type": "message", "content": [{"type": "output_text", "text": "4"}]}
CALL = {"type": "function_call", "call_id": "a", "id": "fc", "name": "f", "arguments": "{}"}


def response(*output, status="completed", **rest):
    return {"object": "response", "model": "m", "status": status, "output": output, **rest}


def as_list(body):
    return {**body, "output": list(body["output"])}


def read(*output, **how):
    return reply_in(as_list(response(*output, **how)), None)


def test_texts_calls_and_thoughts_of_a_response_are_told_apart():
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "no"}, "x"]}
    custom = {"type": "custom_tool_call", "call_id": "b", "name": "sql", "input": "SELECT"}

    reply = read(thought, TEXT, {"type": "web_search_call"}, CALL, custom, TEXT, refusal, None)

    assert (reply.text, reply.refusal, reply.reasoning) == ("44", "no", "hm")
    assert reply.tool_calls == (
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "type": "custom", "custom": {"name": "sql", "input": "SELECT"}},
    )


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({}, "stop"),
        ({"status": "complete"}, "stop"),
        ({"status": "incomplete"}, "incomplete"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            "content_filter",
        ),
    ],
    ids=str,
)
def test_why_a_response_ended(how, reason):
    assert read(TEXT, **how).finish_reason == reason


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled", "failed", None, {}, []])
def test_a_response_that_has_not_ended_is_no_answer(status):
    with pytest.raises(NoAnswerError):
        read(TEXT, status=status)


@pytest.mark.parametrize("output", [None, {}, "x"], ids=repr)
def test_a_response_without_output_is_no_answer(output):
    with pytest.raises(NoAnswerError):
        reply_in({**response(), "output": output}, None)


@pytest.mark.parametrize("usage", [None, [], {}, {"input_tokens": -1}], ids=repr)
def test_odd_usage_of_a_response_is_none(usage):
    assert read(TEXT, usage=usage).usage is None


def stream_of(*events):
    reader = StreamReader({}, now_epoch_s=0.0, scrub=str, provider="Acme")
    data = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    return reader, reader.feed(data)


def delta(text):
    return {"type": "response.output_text.delta", "delta": text}


def test_text_that_came_without_deltas_is_handed_out_at_the_end():
    last = {"type": "response.incomplete", "response": response(TEXT, TEXT, status="incomplete")}

    reader, texts = stream_of(delta("4"), last, delta("x"))

    assert (texts, reader.is_done) == (["4", "4"], True)
    assert reader.finish(attempts=2).text == "44"


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ({"error": {"code": "rate_limit_exceeded", "message": "no"}}, RateLimitError),
        ({"error": {"code": "server_error"}}, ServerError),
        ({}, ResponseError),
    ],
    ids=str,
)
def test_a_failed_response_is_its_error_with_text_and_usage(last, kind):
    usage = {"input_tokens": 5, "output_tokens": 1}
    body = response(status="failed", usage=usage, **last)

    reader, texts = stream_of(delta("4"), {"type": "response.failed", "response": body})

    with pytest.raises(kind) as caught:
        reader.finish()
    assert (texts, caught.value.partial, reader.usage) == (["4"], "4", Usage(5, 1))


@pytest.mark.parametrize("kind", [None, 1, [], {}, "ping", "response.unheard.of"], ids=repr)
def test_other_types_of_events_are_passed_over(kind):
    last = {"type": "response.completed", "response": response(TEXT)}

    reader, texts = stream_of({"type": kind}, delta("4"), {"type": kind, "response": 1}, last)

    assert (texts, reader.finish().text) == (["4"], "4")
