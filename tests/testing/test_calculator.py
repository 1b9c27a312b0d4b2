"""The calculator against plain arithmetic."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionlite.testing import calculator_reply

pytestmark = pytest.mark.quick

NUMBERS = st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
IF_POSITIVE = {"if positive": "times 2", "else": "plus 2"}


def ask(instruction, *, context=None, before=()):
    messages = [{"role": "system", "content": "You are a calculator."}]
    for number in before:
        messages += [
            {"role": "user", "content": "earlier"},
            {"role": "assistant", "content": str(number)},
        ]
    request = instruction if context is None else {"instruction": instruction, "context": context}
    content = request if isinstance(request, str) else json.dumps(request)
    return calculator_reply({"messages": [*messages, {"role": "user", "content": content}]})


@given(x=NUMBERS, y=NUMBERS)
def test_sums_read_back_exactly(x, y):
    answer = ask("sum the absolute values", context={"x": x, "y": y})

    assert float(answer) == float(abs(x) + abs(y))


@given(numbers=st.lists(NUMBERS, min_size=1, max_size=6))
def test_differences_are_taken_from_the_left(numbers):
    expected, *others = [abs(number) for number in numbers]
    for other in others:
        expected -= other

    assert ask("diff the absolute values", context=numbers) == repr(expected)


@given(number=NUMBERS)
def test_the_condition_looks_at_the_last_answer(number):
    expected = number * 2 if number > 0 else number + 2

    assert ask(IF_POSITIVE, before=(999, repr(number))) == repr(expected)


def test_an_instruction_dict_may_be_wrapped():
    assert ask(IF_POSITIVE, context={}, before=(-5,)) == "-3"


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("times 3", "30"),
        ("plus 0.5", "10.5"),
        ("minus 4", "6"),
        ("divided by 4", "2.5"),
        ("times -1", "-10"),
    ],
)
def test_it_knows_four_steps(step, answer):
    assert ask({"if positive": step, "else": "plus 0"}, before=(10,)) == answer


def test_a_single_number_is_a_context():
    assert ask("sum the absolute values", context=-7) == "7"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": None},
        {"messages": []},
        {"messages": ["hello"]},
        {"messages": [{"role": "user", "content": "hello"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": "[" * 100_000}]},
        {"messages": [{"role": "user", "content": '"solve everything"'}]},
    ],
    ids=[
        "no messages",
        "null messages",
        "empty messages",
        "no message",
        "no JSON",
        "no text",
        "nested too deep",
        "unknown instruction",
    ],
)
def test_what_it_cannot_read_gets_a_sentence(body):
    assert calculator_reply(body).startswith("I am a calculator.")


@pytest.mark.parametrize(
    ("instruction", "options"),
    [
        ("sum the absolute values", {"context": []}),
        ("sum the absolute values", {"context": ["1"]}),
        ("sum the absolute values", {"context": {"x": True}}),
        ({"instruction": "sum the absolute values"}, {}),
        (IF_POSITIVE, {}),
        (IF_POSITIVE, {"before": ("a plain sentence",)}),
        ({"if negative": "plus 2"}, {"before": (-1,)}),
        ({"if positive": "cubed"}, {"before": (1,)}),
        ({"if positive": 3}, {"before": (1,)}),
        ({"if positive": "divided by 0"}, {"before": (1,)}),
        ({"if positive": "times 1.5"}, {"before": (10**400,)}),
    ],
    ids=[
        "no numbers",
        "text in a list",
        "a truth value",
        "no context",
        "no last answer",
        "last answer no number",
        "no branch to take",
        "unknown step",
        "step no text",
        "divided by zero",
        "past the largest float",
    ],
)
def test_what_it_cannot_calculate_gets_a_sentence(instruction, options):
    assert ask(instruction, **options).startswith("I am a calculator.")
