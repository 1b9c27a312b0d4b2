"""A reply that is kept as bytes, to outlive its process."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lionlite.exceptions import ResponseError
from lionlite.service.reply import Reply, reply_from_json, reply_in, reply_to_json
from lionlite.service.secret import Secret

pytestmark = pytest.mark.quick

CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": "é\\n"}'}}
BODY = {
    "id": "c",
    "model": "acme-1",
    "created": 10**30,
    "choices": [
        {
            "message": {"content": 'a "b"\n\\', "tool_calls": [CALL], "reasoning": "hm"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "cost": 0.1},
}
REPLY = reply_in(BODY, "req_1", 3, 0.1, 2)
NO_KEY = Secret("").scrub


def body_of(**message):
    return {"choices": [{"message": message}]}


def test_a_kept_reply_comes_back_equal():
    assert reply_from_json(reply_to_json(REPLY, scrub=NO_KEY)) == REPLY


def test_a_kept_reply_is_one_plain_json_object():
    assert json.loads(reply_to_json(REPLY, scrub=NO_KEY)) == {
        "body": BODY,
        "request_id": "req_1",
        "attempts": 3,
        "waited_s": 0.1,
        "elapsed_s": 2,
    }


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Half a character is no text: no reader lets it in.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


@settings(deadline=None, max_examples=50)  # other work on the machine is not a failure
@given(st.text(st.characters(exclude_categories=["Cs"])), JSON, st.floats(0, 1e9))
def test_any_reply_comes_back_equal(text, extra, waited_s):
    reply = reply_in({**body_of(content=text), "extra": extra}, None, 1, waited_s, 0.0)

    assert reply_from_json(reply_to_json(reply, scrub=NO_KEY)) == reply


KEYS = [
    "canary-0123456789/abcdef+",
    'canary"01234\\56789',
    "canary:{}[],null",
    "canary\\n\\\\t0123",
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("shape", ["{}", "\n{}", "key: '{}'", "{}{}"], ids=repr)
def test_a_key_that_was_echoed_is_not_kept(key, shape):
    """The file is for years; all else in it comes back."""
    echo = shape.replace("{}", key)
    message = {"content": echo, "tool_calls": [{"id": "a", "function": {"arguments": echo}}]}
    reply = reply_in({**body_of(**message), echo: [echo, 1.5]}, echo)

    data = reply_to_json(reply, scrub=Secret(key).scrub)

    shown = [data.decode(), repr(json.loads(data)), str(json.loads(data)["body"])]
    assert not [text for text in shown if "canary" in text]
    kept = reply_from_json(data)
    assert kept.text == shape.replace("{}", "***")
    assert kept.raw[kept.text] == [kept.text, 1.5]


def test_a_reply_that_json_cannot_say_is_refused():
    """None of ours: this one was made by hand."""
    with pytest.raises(ResponseError, match="A reply cannot be kept: JsonError"):
        reply_to_json(Reply("4", raw={"x": object()}), scrub=NO_KEY)


GOOD = json.loads(reply_to_json(REPLY, scrub=NO_KEY))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"body": {}}',
        b"[" * 200_000,
        *(json.dumps({k: v for k, v in GOOD.items() if k != key}).encode() for key in GOOD),
        *(json.dumps({**GOOD, key: [1]}).encode() for key in GOOD),
        json.dumps({**GOOD, "attempts": 1.5}).encode(),
        json.dumps({**GOOD, "waited_s": True}).encode(),
        json.dumps({**GOOD, "body": {"choices": []}}).encode(),
        json.dumps(GOOD).encode()[:-1],
    ],
)
def test_what_is_no_kept_reply_is_refused(data):
    with pytest.raises(ResponseError, match="A reply that was kept is not readable") as caught:
        reply_from_json(data)

    assert (caught.value.retryable, caught.value.__cause__) == (False, None)
