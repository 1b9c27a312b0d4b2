"""How an instruction and its context become the text of a message."""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict, UserDict, deque
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from fractions import Fraction
from pathlib import PurePosixPath
from types import MappingProxyType
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionlite import ConfigError
from lionlite.conversation.messages import Message, instruction_text, messages_from, system_message

pytestmark = pytest.mark.quick

IF_POSITIVE = {"if positive": "times 2", "else": "plus 2"}
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class Colour(Enum):
    RED = "red"


class Shade(str, Enum):  # noqa: UP042 - the kind whose str() is not its value
    DARK = "dark"


class Step(StrEnum):
    SUM = "sum the absolute values"


@attrs.frozen
class Point:
    x: float
    y: float


@dataclasses.dataclass
class Order:
    item: str
    count: int


def said_with(context):
    return json.loads(instruction_text("x", context))["context"]


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        ("2+2?", "2+2?"),
        (' "quoted"\n', ' "quoted"\n'),
        ("né 数 \U0001f600", "né 数 \U0001f600"),
        ('{"a": 1}', '{"a": 1}'),
        (Step.SUM, "sum the absolute values"),
        (Shade.DARK, "dark"),
        (Colour.RED, "red"),
    ],
    ids=repr,
)
def test_a_text_alone_goes_out_as_it_is(instruction, text):
    said = instruction_text(instruction)

    assert (said, type(said)) == (text, str)


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        (IF_POSITIVE, '{"if positive":"times 2","else":"plus 2"}'),
        (["a", {"b": None}], '["a",{"b":null}]'),
        (("a", 1), '["a",1]'),
        (0, "0"),
        (False, "false"),
        (2.5, "2.5"),
        (Decimal("1.10"), "1.10"),
        (Order("tea", 2), '{"item":"tea","count":2}'),
        ({"n": "数"}, '{"n":"数"}'),
    ],
    ids=repr,
)
def test_anything_else_alone_goes_out_as_json(instruction, text):
    assert instruction_text(instruction) == text


@pytest.mark.parametrize("context", [0, False, "", [], {}, [1, -2.5], {"x": 1}], ids=repr)
def test_with_a_context_both_go_out_as_one_object(context):
    said = json.loads(instruction_text(IF_POSITIVE, context))

    assert said == {"instruction": IF_POSITIVE, "context": context}


@given(instruction=st.text(min_size=1).filter(str.strip), context=JSON_VALUES)
def test_every_json_value_survives_the_way(instruction, context):
    text = instruction_text(instruction, context)

    said = text if context is None else json.loads(text)

    expected = {"instruction": instruction, "context": context}
    assert said == (instruction if context is None else expected)


@pytest.mark.parametrize(
    ("context", "said"),
    [
        (Decimal("0.1"), 0.1),
        (datetime(2024, 3, 1, 12, 30, tzinfo=UTC), "2024-03-01T12:30:00+00:00"),
        (date(2024, 3, 1), "2024-03-01"),
        (timedelta(minutes=1), 60.0),
        (Point(1.5, -2), {"x": 1.5, "y": -2}),
        ([Order("tea", 2)], [{"item": "tea", "count": 2}]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        (deque([1, 2]), [1, 2]),
        (UserDict(a=1), {"a": 1}),
        (MappingProxyType({1: "one"}), {"1": "one"}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (Colour.RED, "red"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("a/b"), "a/b"),
        (range(3), [0, 1, 2]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_context_may_be_what_python_programs_hold(context, said):
    assert said_with(context) == said


def test_the_context_may_be_numpys():
    np = pytest.importorskip("numpy")
    context = {
        "scalar": np.float64(1.5),
        "half": np.float32(0.5),
        "count": np.int64(3),
        "flag": np.bool_(True),
        "word": np.str_("ok"),
        "array": np.array([[1, -2], [3, 4]]),
        "nothing": np.array([]),
        "keys": {np.int64(7): 1},
    }

    assert said_with(context) == {
        "scalar": 1.5,
        "half": 0.5,
        "count": 3,
        "flag": True,
        "word": "ok",
        "array": [[1, -2], [3, 4]],
        "nothing": [],
        "keys": {"7": 1},
    }


def test_the_context_may_be_pandas():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"x": [1, 2], "when": pd.to_datetime(["2024-03-01", "2024-03-02"])})

    assert said_with({"series": frame["x"], "rows": frame}) == {
        "series": [1, 2],
        "rows": [
            {"x": 1, "when": "2024-03-01T00:00:00"},
            {"x": 2, "when": "2024-03-02T00:00:00"},
        ],
    }


def test_numbers_keep_their_digits():
    assert instruction_text("x", Decimal("1.10")) == '{"instruction":"x","context":1.10}'


@pytest.mark.parametrize(
    ("context", "where"),
    [
        (float("nan"), "nan is not JSON: .* at context"),
        ({"a": [1, {"p": float("inf")}]}, r"inf is not JSON: .* at context\['a'\]\[1\]\['p'\]"),
        (Point(1, float("nan")), r"nan is not JSON: .* at context\.y"),
        ([Decimal("NaN")], r"NaN is not JSON: .* at context\[0\]"),
        ({"f": Fraction(1, 2)}, r"Fraction cannot be said in JSON: .* at context\['f'\]"),
        ([object()], r"builtins\.object cannot be said in JSON: .* at context\[0\]"),
        ({"raw": b"\x00"}, r"bytes are not text: .* at context\['raw'\]"),
        ({(1, 2): 3}, r"the key tuple \(1, 2\) is not text: .* at context"),
        ({"cut": "\ud800"}, r"lone surrogate .* at \['context'\]\['cut'\]"),
    ],
    ids=["nan", "inf", "attrs", "decimal", "fraction", "object", "bytes", "key", "surrogate"],
)
def test_what_json_cannot_say_is_refused_with_its_path(context, where):
    with pytest.raises(ConfigError, match=where):
        instruction_text("x", context)


def test_numpys_nan_is_refused_with_its_path():
    np = pytest.importorskip("numpy")

    with pytest.raises(ConfigError, match=r"nan is not JSON: .* at context\['x'\]\[1\]"):
        instruction_text("x", {"x": np.array([1.0, np.nan])})


def test_a_context_that_contains_itself_is_refused():
    context = {"inner": []}
    context["inner"].append(context)

    with pytest.raises(ConfigError, match=r"contains itself at context\['inner'\]\[0\]"):
        instruction_text("x", context)


def test_an_instruction_that_json_cannot_say_is_refused():
    with pytest.raises(ConfigError, match=r"nan is not JSON: .* at instruction\['if'\]"):
        instruction_text({"if": float("nan")})


@pytest.mark.parametrize(
    "instruction",
    [None, "", " \n\t", {}, [], (), set(), frozenset(), deque(), UserDict(), range(0)],
    ids=repr,
)
@pytest.mark.parametrize("context", [None, {"x": 1}], ids=["alone", "with context"])
def test_an_empty_instruction_is_refused(instruction, context):
    with pytest.raises(ConfigError, match=r"The instruction is empty: .* Say what"):
        instruction_text(instruction, context)


def test_emptiness_of_numpy_and_pandas_counts_too():
    np, pd = pytest.importorskip("numpy"), pytest.importorskip("pandas")

    for nothing in (np.array([]), np.str_(" "), pd.Series([], dtype=float), pd.DataFrame()):
        with pytest.raises(ConfigError, match="The instruction is empty"):
            instruction_text(nothing)


@pytest.mark.parametrize(
    "instruction",
    [
        [{"role": "user", "content": "hi"}],
        ({"role": "system", "content": "a"}, {"role": "user", "content": "hi"}),
        ["before", UserDict(role="user", content="hi")],
        [Message("user", "hi")],
    ],
    ids=["list", "tuple", "mixed", "Message"],
)
def test_messages_as_instruction_are_refused_with_the_cure(instruction):
    with pytest.raises(ConfigError, match=r"role/content messages: .* Session\(messages=\["):
        instruction_text(instruction)


def test_records_that_have_a_role_are_no_messages():
    staff = [{"name": "Ada", "role": "user"}]

    assert json.loads(instruction_text(staff)) == staff


@pytest.mark.parametrize(
    ("system", "content"),
    [
        ("You are terse.", "You are terse."),
        (Shade.DARK, "dark"),
        ({"tone": "terse"}, '{"tone":"terse"}'),
        (UserDict(limit=Decimal("1.10")), '{"limit":1.10}'),
    ],
    ids=repr,
)
def test_a_system_message_is_a_text_or_a_dict(system, content):
    message = system_message(system)

    assert (message, type(message.content)) == (Message("system", content), str)


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_may_be_a_message(role):
    message = Message(role, "You are terse.")

    assert system_message(message) is message


@pytest.mark.parametrize(
    "system", ["", "  ", {}, [], ["a"], 5, b"a", object(), Message("user", "hi")], ids=repr
)
def test_anything_else_is_no_system_message(system):
    with pytest.raises(ConfigError, match=r"system= takes a text, or a dict; got .* None = no"):
        system_message(system)


@pytest.mark.parametrize(
    ("system", "said"),
    [
        ({"x": float("nan")}, r"nan is not JSON: .* at system\['x'\]"),
        ({"x": "\udfff"}, r"The system message is not JSON: .*lone surrogate.* at \['x'\]"),
    ],
    ids=["nan", "surrogate"],
)
def test_a_system_message_that_json_cannot_say_is_refused(system, said):
    with pytest.raises(ConfigError, match=said):
        system_message(system)


def test_messages_keep_everything_that_goes_with_them():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    given = [
        {"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "Ada"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "4", "tool_call_id": "c1"},
        UserDict(role="developer", content="d"),
        Message("assistant", "done"),
    ]

    said = messages_from(given)

    assert [message.to_dict() for message in said] == [
        *given[:3],
        {"role": "developer", "content": "d"},
        {"role": "assistant", "content": "done"},
    ]


def test_messages_are_copied():
    given = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]

    said = messages_from(given)
    given[0]["content"][0]["text"] = "changed"

    assert said == [Message("user", [{"type": "text", "text": "hi"}])]


@pytest.mark.parametrize(
    "messages", ["hi", {"role": "user", "content": "hi"}, 5, iter([]), {1}], ids=repr
)
def test_messages_must_be_a_list(messages):
    with pytest.raises(ConfigError, match="messages= takes a list of role/content dicts; got "):
        messages_from(messages)


@pytest.mark.parametrize(
    "wrong",
    [
        "hi",
        None,
        {},
        {"role": "user"},
        {"content": "hi"},
        {"role": "robot", "content": "hi"},
        {"role": ["user"], "content": "hi"},
        {"role": "user", "content": 5},
        {"role": "user", "content": {"text": "hi"}},
        Message("user", 5),
        Message("robot", "hi"),
    ],
    ids=repr,
)
def test_a_message_must_have_a_role_and_a_content(wrong):
    good = {"role": "user", "content": "hi"}

    with pytest.raises(ConfigError, match=r"messages\[1\] needs a role of system, .*; got "):
        messages_from([good, wrong])


def test_a_message_that_json_cannot_say_is_refused():
    wrong = {"role": "user", "content": [{"type": "text", "text": float("nan")}]}

    with pytest.raises(ConfigError, match=r"at messages\[0\]\['content'\]\[0\]\['text'\]"):
        messages_from([wrong])
