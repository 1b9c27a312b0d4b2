"""Whether a reply is an answer: OutputError's reasons, over real HTTP."""

from __future__ import annotations

import pickle

import pytest

from lionlite import OutputError, Session
from lionlite.testing import FakeProvider

TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.fixture
def provider():
    with FakeProvider("fine") as provider:
        yield provider


@pytest.fixture
def session(provider):
    with provider.service() as service:
        yield Session(service=service)


def body_with(finish_reason, **message):
    message = {"role": "assistant", "content": None, **message}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}


NO_ANSWERS = [
    pytest.param(
        body_with("stop", refusal="I will not."),
        ("refusal", ""),
        "The model refused: 'I will not.'. (finish reason stop, request req_00000001)",
        id="refusal",
    ),
    pytest.param(
        body_with("stop", content="Sure! But no.", refusal="I will not."),
        ("refusal", "Sure! But no."),
        "The model refused: 'I will not.'. (finish reason stop, request req_00000001)",
        id="refusal with text",
    ),
    pytest.param(
        body_with("length", content=""),
        ("length", ""),
        "The answer was cut before its first word: raise llmconfig max_tokens. "
        "(finish reason length, request req_00000001)",
        id="length",
    ),
    pytest.param(
        body_with("content_filter"),
        ("content_filter", ""),
        "The provider's content filter left nothing of the answer. "
        "(finish reason content_filter, request req_00000001)",
        id="content_filter",
    ),
    pytest.param(
        body_with("tool_calls", tool_calls=[TOOL_CALL]),
        ("tool_calls", ""),
        "The model asks for tools instead of answering: complete() returns the reply. "
        "(finish reason tool_calls, request req_00000001)",
        id="tool_calls",
    ),
    pytest.param(
        body_with("stop", content=" \n\t"),
        ("empty", " \n\t"),
        "The model said nothing. (finish reason stop, request req_00000001)",
        id="blank",
    ),
    pytest.param(
        body_with(None, content=[]),
        ("empty", ""),
        "The model said nothing. (finish reason None, request req_00000001)",
        id="no parts",
    ),
    pytest.param(
        body_with("stop", content=None, reasoning_content="Let me think."),
        ("empty", ""),
        "The model said nothing. (finish reason stop, request req_00000001)",
        id="only reasoning",
    ),
]


@pytest.mark.parametrize(("body", "reason_and_text", "message"), NO_ANSWERS)
def test_chat_says_why_there_is_no_answer(provider, session, body, reason_and_text, message):
    provider.script(body)

    with pytest.raises(OutputError) as caught:
        session.chat("x")

    error = caught.value
    assert ((error.reason, error.text), str(error)) == (reason_and_text, message)
    assert (error.reply.raw["choices"], error.reply.text) == (body["choices"], error.text)
    assert (error.attempts, error.request_id, error.retryable) == (1, "req_00000001", False)


@pytest.mark.parametrize(("body", "reason_and_text", "message"), NO_ANSWERS)
def test_complete_returns_it_and_does_not_remember(
    provider, session, body, reason_and_text, message
):
    provider.script(body)

    reply = session.complete("x")

    assert (reply.raw["choices"], reply.text) == (body["choices"], reason_and_text[1])
    assert (session.to_messages(), session.last_reply) == ([], None)
    assert session.usage.total_tokens == 0


@pytest.mark.parametrize(
    "body",
    [
        body_with("length", content="half a sen"),
        body_with("content_filter", content="half a sen"),
        body_with("tool_calls", content="half a sen", tool_calls=[TOOL_CALL]),
        body_with("stop", content=[{"type": "text", "text": "half "}, {"text": "a sen"}]),
        body_with(None, content="half a sen", refusal=""),
    ],
    ids=["length", "filter", "tools", "parts", "empty refusal"],
)
def test_whatever_was_said_is_an_answer(provider, session, body):
    provider.script(body)

    assert session.chat("x") == "half a sen"
    assert session.to_messages() == [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "half a sen"},
    ]


def test_an_endless_refusal_is_cut_in_the_message(provider, session):
    provider.script(body_with("stop", refusal="no " * 1000))

    with pytest.raises(OutputError) as caught:
        session.chat("x")

    assert len(str(caught.value)) < 300
    assert caught.value.reply.refusal == "no " * 1000


def test_the_error_pickles_with_its_reply(provider, session):
    provider.script(body_with("stop", refusal="I will not."))
    with pytest.raises(OutputError) as caught:
        session.chat("x")

    copy = pickle.loads(pickle.dumps(caught.value))

    assert (str(copy), vars(copy)) == (str(caught.value), vars(caught.value))
