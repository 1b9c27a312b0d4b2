"""Reading replies: answers, and everything that is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lionlite.exceptions import (
    LionError,
    ResponseError,
    StatusError,
)
from lionlite.records import Usage
from lionlite.service.secret import Secret
from lionlite.service.transport.parse import RawReply
from lionlite.service.usage import read_usage
from lionlite.service.wire import read_reply

pytestmark = pytest.mark.quick

KEY = "canary-0123456789/abcdef+"
MESSAGE = {"role": "assistant", "content": "4"}
USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


def read(body, *, status=200, headers=None):
    """Read a reply with *body*: bytes as they are, anything else as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_reply(
        RawReply(status, headers or {}, raw),
        now_epoch_s=0.0,
        scrub=Secret(KEY).scrub,
        provider="Acme",
    )


def error_of(body, **how):
    with pytest.raises(LionError) as caught:
        read(body, **how)
    return caught.value


def answer(message=None, **choice):
    return {"choices": [{"message": message or MESSAGE, "finish_reason": "stop", **choice}]}


def openai_error(**error):
    return {"error": {"message": "no", "type": None, "param": None, "code": None, **error}}


ANSWER = json.dumps(answer()).encode()
TWICE = b'{"choices": [{"message": {"content": "other"}}], %s}'


def test_a_whole_answer_is_read_as_it_is():
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = {
        "id": "x",
        "model": "acme-1",
        "choices": [
            {
                "message": {
                    "content": "4",
                    "refusal": "no",
                    "reasoning_content": "2 + 2",
                    "tool_calls": [call, "junk"],
                },
                "finish_reason": "stop",
            }
        ],
        "usage": {
            **USAGE,
            "cost": 0.25,
            "prompt_tokens_details": {"cached_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    }

    reply = read(body, headers={"x-request-id": "req_1"})

    assert str(reply) == "4"
    assert (reply.model, reply.finish_reason, reply.request_id) == ("acme-1", "stop", "req_1")
    assert (reply.usage, reply.cost) == (Usage(10, 2, 3, 1), 0.25)
    assert (reply.tool_calls, reply.refusal, reply.reasoning) == ((call,), "no", "2 + 2")
    assert reply.raw == body


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None}, ""),
        ({}, ""),
        ({"content": ""}, ""),
        ({"content": "é\n"}, "é\n"),
        ({"content": []}, ""),
        ({"content": ["a", {"type": "text", "text": "b"}, {"type": "thinking"}, 3]}, "ab"),
        ({"content": [{"type": "text", "text": None}]}, ""),
        ({"content": [{"type": "reasoning", "text": "hm"}, {"text": "4"}]}, "4"),
    ],
    ids=["null", "absent", "empty", "text", "no parts", "parts", "odd part", "thoughts"],
)
def test_content_may_be_nothing_a_text_or_parts(message, text):
    assert read({"choices": [{"message": message}]}).text == text


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"finish_reason": ""}, None),
        ({"finish_reason": None}, None),
        ({"finish_reason": 3}, None),
        ({"finish_reason": "length"}, "length"),
    ],
    ids=["empty", "null", "number", "length"],
)
def test_a_finish_reason_is_a_word_or_none(choice, expected):
    assert read(answer(**choice)).finish_reason == expected


@pytest.mark.parametrize("calls", [None, "x", {}, [], ["x"]], ids=repr)
def test_odd_tool_calls_are_none(calls):
    assert read(answer({"content": "4", "tool_calls": calls})).tool_calls == ()


def test_tool_calls_may_stand_alone():
    """Groq, Cerebras and Gemini leave the content out, or send null."""
    call = {"id": "", "function": {"name": "f", "arguments": None}, "extra_content": {"g": 1}}

    replies = [read(answer({"tool_calls": [call], **rest})) for rest in ({}, {"content": None})]

    assert [(reply.text, reply.tool_calls) for reply in replies] == [("", (call,))] * 2


@pytest.mark.parametrize(
    ("function", "calls"),
    [
        ({"name": "f", "arguments": "{}"}, 1),
        ({"name": "", "arguments": ""}, 0),
        (None, 0),
        ("f", 0),
    ],
    ids=["whole", "Snowflake's", "null", "text"],
)
def test_the_form_before_tools_is_a_tool_call(function, calls):
    reply = read(answer({"content": None, "function_call": function}))

    assert reply.tool_calls == ({"id": "", "type": "function", "function": function},) * calls


@pytest.mark.parametrize(
    ("message", "reasoning"),
    [
        ({"reasoning": "a"}, "a"),
        ({"reasoning_content": "a", "reasoning": "b"}, "a"),
        ({"reasoning_content": "", "reasoning": "b"}, "b"),
        ({"reasoning_content": ["x"], "reasoning": "b"}, "b"),
        ({"reasoning": ""}, None),
        ({"reasoning": None, "refusal": ""}, None),
    ],
    ids=str,
)
def test_reasoning_has_two_names(message, reasoning):
    reply = read(answer({"content": "4", **message}))

    assert (reply.reasoning, reply.refusal) == (reasoning, None)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (USAGE, Usage(10, 2)),
        (None, None),
        ([], None),
        ({}, None),
        ({"prompt_tokens": 10}, Usage(10, 0)),
        ({"prompt_tokens": 10, "total_tokens": 12}, Usage(10, 2)),
        ({"prompt_tokens": 10, "total_tokens": 8}, Usage(10, 0)),
        ({"completion_tokens": 2, "total_tokens": 12}, Usage(10, 2)),
        ({"total_tokens": 12}, Usage(12, 0)),
        ({"prompt_tokens": -1, "completion_tokens": 2}, Usage(0, 2)),
        ({"prompt_tokens": 10**12, "completion_tokens": "2"}, None),
        ({"prompt_tokens": True, "completion_tokens": 2.0}, None),
        ({**USAGE, "prompt_tokens_details": None}, Usage(10, 2)),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": -3}}, Usage(10, 2)),
        ({**USAGE, "prompt_tokens": int("9" * 400)}, Usage(10, 2)),
    ],
    ids=[
        "whole",
        "absent",
        "list",
        "empty",
        "input only",
        "input and total",
        "small total",
        "output and total",
        "total only",
        "negative",
        "huge and str",
        "bool and float",
        "null",
        "negative detail",
        "400 digits",
    ],
)
def test_usage_holds_only_counts_that_can_be_true(usage, expected):
    assert read_usage(usage) == expected
    assert read({**answer(), "usage": usage}).usage == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"x_groq": {"usage": USAGE}}, Usage(10, 2)),
        ({"usage": None, "x_groq": {"usage": USAGE}}, Usage(10, 2)),
        ({"usage": USAGE, "x_groq": {"usage": {}}}, Usage(10, 2)),
        ({"x_groq": None}, None),
        ({"x_groq": {"id": "r"}}, None),
    ],
    ids=str,
)
def test_groqs_usage_is_found(body, expected):
    assert read({**answer(), **body}).usage == expected


def test_a_reply_carries_what_the_call_took():
    raw = RawReply(200, {}, json.dumps(answer()).encode())
    effort = {"attempts": 3, "waited_s": 0.5, "elapsed_s": 1.5}

    reply = read_reply(raw, now_epoch_s=0.0, scrub=str, provider="Acme", **effort)

    assert {name: getattr(reply, name) for name in effort} == effort


@pytest.mark.parametrize("body", [answer(), openai_error()], ids=["answer", "error"])
def test_a_mark_of_byte_order_is_passed_over(body):
    data = b"\xef\xbb\xbf" + json.dumps(body).encode()

    found = read(data) if "choices" in body else error_of(data, status=400)

    assert str(found) == ("4" if "choices" in body else "Acme answered 400 (request None): no")


@pytest.mark.parametrize("cost", [None, "1", -1, True, 10**400], ids=lambda cost: repr(cost)[:5])
def test_a_cost_that_is_no_amount_is_none(cost):
    assert read({**answer(), "usage": {**USAGE, "cost": cost}}).cost is None


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "the body is not a JSON object"),
        (b"<html>Bad gateway</html>", "the body is not a JSON object"),
        (b'{"choices": [{"mes', "the body is not a JSON object"),
        (b"\xff\xfe", "the body is not a JSON object"),
        (b'{"choices": [{"message": {"content": "\xff"}}]}', "the body is not a JSON object"),
        (b'{"choices": [{"message": {"content": NaN}}]}', "the body is not a JSON object"),
        (b'{"choices": [{"message": {"content": "4"}}], "n": -Infinity}', "the body is not a JSON"),
        (b"[" * 200_000, "the body is not a JSON object"),
        (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "the body is not a JSON object"),
        (b'{"created": ' + b"1" * 100_000 + b"}", "the body is not a JSON object"),
        (ANSWER + ANSWER, "the body is not a JSON object"),
        ([answer()], "the body is not a JSON object"),
        ("4", "the body is not a JSON object"),
        (None, "the body is not a JSON object"),
        ({}, "it holds no choices"),
        ({"choices": None}, "it holds no choices"),
        ({"choices": []}, "it holds no choices"),
        ({"choices": {"0": 1}}, "it holds no choices"),
        ({"choices": ["4"]}, "it holds no choices"),
        ({"choices": [{}]}, "the choice has no message"),
        ({"choices": [{"message": None}]}, "the choice has no message"),
        (TWICE % ANSWER[1:-1], "the body has the key 'choices' twice"),
        (
            ANSWER.replace(b'"message"', b'"message":{},"message"'),
            "the body has the key 'message' twice",
        ),
        (answer({"content": 4}), "the message's content is neither text nor parts"),
        (answer({"content": {"text": "4"}}), "the message's content is neither text nor parts"),
    ],
    ids=[
        "empty",
        "HTML",
        "cut",
        "not UTF-8",
        "not UTF-8 inside",
        "NaN",
        "Infinity",
        "deep",
        "deep objects",
        "endless number",
        "two values",
        "list",
        "text",
        "null",
        "no choices",
        "null choices",
        "empty choices",
        "dict choices",
        "text choice",
        "no message",
        "null message",
        "choices twice",
        "message twice",
        "number",
        "dict",
    ],
)
def test_a_200_that_is_no_answer_is_a_response_error(body, problem):
    error = error_of(body, headers={"x-request-id": "req_1"})

    assert str(error).startswith(f"Acme answered 200, but {problem}")
    assert str(error).endswith(" (request req_1).")
    assert (type(error), error.status, error.request_id) == (ResponseError, 200, "req_1")
    assert (error.retryable, error.__cause__) == (True, None)


@pytest.mark.parametrize(
    "body",
    [
        answer({"content": 'he said "message": "choices"', "name": "message"}),
        {"choices": [answer()["choices"][0]] * 3},
        {**answer(), "echo": {"message": "choices", "choices": []}},
    ],
    ids=["in a text", "several choices", "elsewhere"],
)
def test_a_name_that_only_recurs_is_no_twin(body):
    assert read(body).raw == body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "error", "code", "usage", "detail"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


def test_a_reply_of_any_depth_is_an_answer_or_a_typed_error():
    """The search for twins may go less deep than the reader did."""
    found = set()
    for depth in [10, *range(850, 1_010, 3)]:
        deep = b'{"message": 1, "x": ' + b"[" * depth + b"1" + b"]" * depth + b"}"
        try:
            found.add(read(b'{"choices": [{"message": {"content": "4"}}], "y": %s}' % deep).text)
        except ResponseError as error:
            found.add(str(error).partition("but ")[2])

    assert "4" in found
    assert found <= {
        "4",
        "the body is nested too deep (request None).",
        "the body is not a JSON object (request None).",
    }


@settings(deadline=None)  # other work on the machine is not a failure
@given(JSON | st.binary(max_size=50), st.integers(200, 599))
def test_any_reply_is_an_answer_or_a_typed_error(body, status):
    try:
        found = read(body, status=status).text
    except (StatusError, ResponseError) as error:
        found = error.status

    assert found == status or (status < 300 and isinstance(found, str))
