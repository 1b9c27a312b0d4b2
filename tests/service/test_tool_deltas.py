"""Tool calls that come in pieces, in the ways of all servers."""

from __future__ import annotations

import json

import pytest

from lionlite.service.deltas import Choice

pytestmark = pytest.mark.quick


def piece(*, name=None, arguments=None, **rest):
    """Return a piece of a call; its function holds only what is given."""
    function = {"name": name, "arguments": arguments}
    function = {key: value for key, value in function.items() if value is not None}
    return {**rest, "function": function} if function else rest


def calls_of(*pieces):
    """Return (id, name, arguments) of each call that *pieces* make."""
    choice = Choice()
    for one in pieces:
        assert choice.take({"tool_calls": one if isinstance(one, list) else [one]}) == ""
    calls = choice.whole(0)["message"].get("tool_calls", [])
    return [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls]


F = ("a", "f", '{"x":1}')
G = ("b", "g", '{"y":2}')
CASES = {
    "OpenAI": (
        [
            piece(index=0, id="a", type="function", name="f", arguments=""),
            piece(index=0, arguments='{"x"'),
            piece(index=0, arguments=":1}"),
            piece(index=1, id="b", type="function", name="g", arguments=""),
            piece(index=1, arguments='{"y":2}'),
        ],
        [F, G],
    ),
    "interleaved": (
        [
            piece(index=0, id="a", name="f", arguments='{"x"'),
            piece(index=1, id="b", name="g", arguments='{"y"'),
            piece(index=0, arguments=":1}"),
            piece(index=1, arguments=":2}"),
        ],
        [F, G],
    ),
    "several in one delta": (
        [
            [
                piece(index=0, id="a", name="f", arguments='{"x":1}'),
                piece(index=1, id="b", name="g"),
            ],
            piece(index=1, arguments='{"y":2}'),
        ],
        [F, G],
    ),
    "Ollama, old: whole calls without index": (
        [
            piece(id="a", name="f", arguments='{"x":1}'),
            piece(id="b", name="g", arguments='{"y":2}'),
        ],
        [F, G],
    ),
    "Gemini: no index, empty ids": (
        [piece(id="", name="f", arguments='{"x":1}'), piece(id="", name="f", arguments='{"x":1}')],
        [("", "f", '{"x":1}'), ("", "f", '{"x":1}')],
    ),
    "index null": (
        [piece(index=None, id="a", name="f"), piece(index=None, id="a", arguments='{"x":1}')],
        [F],
    ),
    "no index, then the last": (
        [
            piece(id="a", name="f"),
            piece(arguments='{"x"'),
            piece(arguments=":1}"),
            piece(id="b", name="g"),
            piece(arguments='{"y":2}'),
        ],
        [F, G],
    ),
    "no index, by id": (
        [
            piece(id="a", name="f"),
            piece(id="b", name="g"),
            piece(id="a", arguments='{"x":1}'),
            piece(id="b", arguments='{"y":2}'),
        ],
        [F, G],
    ),
    "no index, a new id without a name goes on": (
        [piece(id="a", name="f", arguments='{"x"'), piece(id="z", arguments=":1}")],
        [F],
    ),
    "LiteLLM: index 0 for all": (
        [
            piece(index=0, id="a", name="f", arguments='{"x":1}'),
            piece(index=0, id="b", name="g", arguments='{"y"'),
            piece(index=0, arguments=":2}"),
        ],
        [F, G],
    ),
    "index 0 for all, ids first": (
        [
            piece(index=0, id="a", name="f", arguments='{"x":1}'),
            piece(index=0, id="b"),
            piece(index=0, name="g", arguments='{"y":2}'),
        ],
        [F, G],
    ),
    "index 0 for all, no ids": (
        [
            piece(index=0, name="f", arguments='{"x":1}'),
            piece(index=0, name="g", arguments='{"y":2}'),
        ],
        [("", "f", '{"x":1}'), ("", "g", '{"y":2}')],
    ),
    "a new id in every piece": (
        [
            piece(index=0, id="a", name="f", arguments='{"x"'),
            piece(index=0, id="a1", arguments=":1"),
            piece(index=0, id="a2", arguments="}"),
        ],
        [F],
    ),
    "id and name in every piece": (
        [
            piece(index=0, id="a", name="f", arguments='{"x"'),
            piece(index=0, id="a", name="f", arguments=":1}"),
        ],
        [F],
    ),
    "id, name and arguments apart": (
        [piece(index=0, id="a"), piece(index=0, name="f"), piece(index=0, arguments='{"x":1}')],
        [F],
    ),
    "id last": (
        [piece(index=0, name="f", arguments='{"x":1}'), piece(index=0, id="a")],
        [F],
    ),
    "a name in pieces": (
        [
            piece(index=0, id="a", name="get_"),
            piece(index=0, name="x"),
            piece(index=0, arguments="{}"),
        ],
        [("a", "get_x", "{}")],
    ),
    "arguments null": (
        [piece(index=0, id="a", name="f"), {"index": 0, "function": {"arguments": None}}],
        [("a", "f", "")],
    ),
    "arguments before the name": (
        [{"index": 0, "id": "a", "function": {"arguments": '{"x":1}', "name": "f"}}],
        [F],
    ),
    "arguments as an object": (
        [{"id": "a", "function": {"name": "f", "arguments": {"x": 1}}}],
        [F],
    ),
    "a function that is none": ([{"id": "a", "function": "f"}], [("a", "", "")]),
    "a high index": ([piece(index=7, id="a", name="f", arguments='{"x":1}')], [F]),
    "nothing": ([[], None, {}, piece(index=0, id="", name="", arguments=""), [None, "x", 3]], []),
}


@pytest.mark.parametrize(("pieces", "calls"), CASES.values(), ids=CASES)
def test_tool_calls_come_together(pieces, calls):
    assert calls_of(*pieces) == calls


@pytest.mark.parametrize("size", [1, 2, 7])
def test_arguments_may_be_cut_anywhere(size):
    arguments = json.dumps({"text": 'é😀 "quoted" {braces}', "rows": [{"a": {}}, {"b": [[]]}]})
    pieces = [arguments[at : at + size] for at in range(0, len(arguments), size)]

    found = calls_of(
        piece(index=0, id="a", name="f", arguments=""),
        *[piece(index=0, id="a", name="f", arguments=text) for text in pieces],
    )

    assert found == [("a", "f", arguments)]


def test_a_message_with_calls_says_nothing_else():
    choice = Choice()

    choice.take({"role": "assistant", "content": None, "tool_calls": [piece(id="a", name="f")]})

    assert choice.whole(0)["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}],
    }


def test_what_a_call_brings_beside_is_kept_to_be_sent_back():
    """Without its thought signature Gemini refuses the next turn."""
    signature = {"google": {"thought_signature": "s"}}
    choice = Choice()

    choice.take({"tool_calls": [piece(id="", name="f", arguments="{}", extra_content=signature)]})
    choice.take({"extra_content": signature})

    message = choice.whole(0)["message"]
    assert message["extra_content"] == message["tool_calls"][0]["extra_content"] == signature


def test_what_a_function_brings_beside_is_kept():
    choice = Choice()

    choice.take({"tool_calls": [{"id": "a", "function": {"name": "f", "x": 1}, "y": None}]})
    choice.take({"tool_calls": [{"id": "a", "function": {"arguments": "{}", "x": None}, "y": [2]}]})

    assert choice.whole(0)["message"]["tool_calls"] == [
        {
            "id": "a",
            "type": "function",
            "y": [2],
            "function": {"name": "f", "arguments": "{}", "x": 1},
        }
    ]


def test_a_custom_tools_input_comes_in_pieces():
    choice = Choice()

    for text in ("SELECT", " 1"):
        custom = {"name": "sql", "input": text}
        choice.take({"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": custom}]})

    assert choice.whole(0)["message"]["tool_calls"] == [
        {"id": "a", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
    ]


def test_the_form_before_tools_comes_in_pieces_too():
    choice = Choice()

    choice.take({"function_call": {"name": "f", "arguments": '{"x"'}})
    choice.take({"function_call": {"arguments": ":1}"}})

    assert choice.whole(0)["message"]["function_call"] == {"name": "f", "arguments": '{"x":1}'}
