"""What a chunk of a stream may say, in the ways of all servers."""

from __future__ import annotations

import pytest
from stream_tools import STOP, USAGE, chunk, read, said

from lionlite.records import Usage

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    "events",
    [
        [said("4"), STOP, {"choices": [], "usage": USAGE}],
        [said("4", usage=USAGE), STOP],
        [said("4", usage={"total_tokens": 3}), chunk(finish="stop", usage=USAGE)],
        [said("4"), chunk(finish="stop", usage=USAGE), {"choices": [], "usage": None}],
        [said("4"), chunk(finish="stop", usage=USAGE), {"choices": [], "usage": {}}],
        [said("4"), chunk(finish="stop", usage=USAGE), {"choices": [], "usage": {"x": -1}}],
        [said("4"), chunk(finish="stop", x_groq={"id": "r", "usage": USAGE})],
        [said("4", x_groq={"id": "r"}), chunk(finish="stop", usage=USAGE)],
        [said("4"), {"choices": [{"delta": {}, "finish_reason": "stop", "usage": USAGE}]}],
        [{"usage": USAGE}, said("4"), STOP],
    ],
    ids=[
        "own chunk",
        "early",
        "last wins",
        "null after",
        "empty after",
        "odd after",
        "Groq",
        "Groq twice",
        "Moonshot",
        "without choices",
    ],
)
def test_usage_may_stand_in_any_chunk(events):
    assert read(*events)[0].usage == Usage(10, 2)


def test_a_stream_without_usage_has_none():
    assert read(said("4"), STOP)[0].usage is None


@pytest.mark.parametrize(
    ("deltas", "text", "pieces"),
    [
        ([{"role": "assistant"}, {"content": "4"}], "4", ["4"]),
        ([{"content": ""}, {"content": None}, {"content": "4"}], "4", ["4"]),
        (
            [{"role": "assistant", "content": "4"}, {"role": "assistant", "content": "2"}],
            "42",
            ["4", "2"],
        ),
        ([{"content": [{"type": "text", "text": "4"}]}, {"content": "2"}], "42", ["4", "2"]),
        ([{"content": "4"}, {"content": [{"type": "thinking"}, "2"]}], "42", ["4", "2"]),
        ([{"content": []}, {"content": "4"}], "4", ["4"]),
    ],
    ids=["role only", "nothing", "role each time", "parts first", "parts later", "no parts"],
)
def test_content_comes_as_text_or_parts(deltas, text, pieces):
    reply, texts = read(*[chunk(delta) for delta in deltas], STOP)

    assert (reply.text, texts) == (text, pieces)


def test_parts_are_kept_as_parts():
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}

    reply, _ = read(said("a"), said([thinking]), said("b"), said("c"), said([thinking]))

    assert reply.raw["choices"][0]["message"]["content"] == [
        {"type": "text", "text": "a"},
        thinking,
        {"type": "text", "text": "bc"},
        thinking,
    ]


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_reasoning_comes_in_pieces_and_is_no_text(key):
    reply, texts = read(chunk({key: "2 "}), chunk({key: "+ 2", "content": ""}), said("4"), STOP)

    assert (reply.reasoning, reply.text, texts) == ("2 + 2", "4", ["4"])


def test_a_refusal_comes_in_pieces_and_is_no_text():
    reply, texts = read(chunk({"refusal": "I can"}), chunk({"refusal": "not."}), STOP)

    assert (reply.refusal, reply.text, texts) == ("I cannot.", "", [])


def test_an_empty_refusal_is_none():
    assert read(chunk({"content": "4", "refusal": "", "tool_calls": None}))[0].refusal is None


def test_of_several_choices_the_first_is_the_text():
    events = [said("b", index=1), said("a"), said("d", index=1), said("c")]

    reply, texts = read(*events, chunk(index=1, finish="length"), STOP)

    assert (reply.text, texts, reply.finish_reason) == ("ac", ["a", "c"], "stop")
    assert [c["index"] for c in reply.raw["choices"]] == [0, 1]
    assert reply.raw["choices"][1]["message"]["content"] == "bd"


def test_several_choices_may_share_a_chunk():
    both = {"choices": [{"index": i, "delta": {"content": c}} for i, c in enumerate("ab")]}

    assert read(both, both)[1] == ["a", "a"]


@pytest.mark.parametrize("finish", ["length", "content_filter", "tool_calls"])
def test_the_last_finish_reason_stands(finish):
    """OpenRouter says it twice; nothing after it takes it back."""
    reply, _ = read(STOP, chunk(finish=finish), chunk(finish=finish), said("4"), chunk(finish=""))

    assert reply.finish_reason == finish


def test_a_model_may_be_named_late():
    """Azure begins with a chunk of its filter, without model or id."""
    azure = {"id": "", "model": "", "choices": [], "prompt_filter_results": [1]}

    reply, _ = read(azure, said("4", service_tier="default"), STOP)

    assert (reply.model, reply.raw["id"]) == ("acme-1", "c")
    assert reply.raw["prompt_filter_results"] == [1]


def test_what_is_unknown_is_kept():
    details = {"reasoning_details": [{"text": "a"}], "extra": {"a": 1}}
    later = {"reasoning_details": [{"text": "b"}], "extra": {"b": 2}}
    logprobs = {"content": [{"token": "4"}]}
    first = chunk(details, citations=["u"])
    second = chunk(later)
    second["choices"][0]["logprobs"] = first["choices"][0]["logprobs"] = logprobs
    second["choices"][0] |= {"finish_reason": "stop", "native_finish_reason": "end"}

    raw = read(first, second, chunk(moderation={"ok": True}))[0].raw

    assert (raw["citations"], raw["moderation"]) == (["u"], {"ok": True})
    assert raw["choices"][0]["native_finish_reason"] == "end"
    assert raw["choices"][0]["logprobs"] == {"content": [{"token": "4"}, {"token": "4"}]}
    assert raw["choices"][0]["message"]["extra"] == {"a": 1, "b": 2}
    assert raw["choices"][0]["message"]["reasoning_details"] == [{"text": "a"}, {"text": "b"}]


def test_a_message_in_place_of_a_delta_is_taken():
    whole = {"choices": [{"index": 0, "message": {"content": "4"}, "finish_reason": "stop"}]}

    assert read(whole)[1] == ["4"]


def test_a_message_beside_a_delta_is_not_taken_twice():
    """Perplexity sends the text so far with every delta."""
    both = said("4")
    both["choices"][0]["message"] = {"content": "so far 4"}

    assert read(both, STOP)[1] == ["4"]


@pytest.mark.parametrize("done", [True, False])
def test_the_first_index_need_not_be_zero(done):
    reply, texts = read(said("4", index=1), chunk(index=1, finish="stop"), done=done)

    assert (reply.text, texts) == ("4", ["4"])
