"""A model that can only calculate, for workflows with a known answer.

Holds: `calculator_reply`, to be given to `FakeProvider` as its reply. Does not
hold: anything of the provider. Pure; safe anywhere.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

Number = int | float

_SORRY = (
    "I am a calculator. I know 'sum the absolute values' and 'diff the absolute values' of the "
    "numbers in the context, and {'if positive': 'times 2', 'else': 'plus 2'} of my last answer."
)
_OPERATIONS: Mapping[str, Callable[[Any, Any], Number]] = {
    "times": operator.mul,
    "plus": operator.add,
    "minus": operator.sub,
    "divided by": operator.truediv,
}
# 15 digits: more than anyone writes by hand, and far below the length at which
# int() refuses a text.
_STEP = re.compile(r"(times|plus|minus|divided by) (-?\d{1,15}(?:\.\d{1,15})?)")


class _PuzzledError(Exception):
    """The calculator does not understand."""


def calculator_reply(body: Mapping[str, Any]) -> str:
    """Return the answer to a chat request, as a calculator.

    The last user message is JSON. `{"instruction": ..., "context": ...}` with
    "sum the absolute values" or "diff the absolute values" gives |x| + |y| + ...
    or |x| - |y| - ..., from the left, of the numbers in the context: a list, a
    dict's values, or one number. `{"if positive": "times 2", "else": "plus 2"}`,
    alone or as the instruction, is done to the assistant's previous answer; its
    steps are "times", "plus", "minus" and "divided by" a number.

    Args:
        body: A chat completions request, decoded.

    Returns:
        The `repr` of an int or a float, so that it reads back exactly; a
        sentence of what it knows for everything it does not understand.

    Threads: pure; safe anywhere.
    """
    try:
        messages = body["messages"]
        request = _last(messages, "user")
        return repr(_answer(json.loads(request), messages))
    # RecursionError: a body nested too deep. ArithmeticError: divided by zero,
    # or past the largest float. ValueError: no JSON, or an int too long to print.
    except (_PuzzledError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError):
        return _SORRY


def _answer(request: object, messages: Sequence[object]) -> Number:
    instruction, context = request, None
    if isinstance(request, Mapping) and "instruction" in request:
        instruction, context = request["instruction"], request.get("context")
    if isinstance(instruction, Mapping):
        previous = _number(json.loads(_last(messages, "assistant")))
        return _step(instruction["if positive" if previous > 0 else "else"], previous)
    if instruction == "sum the absolute values":
        return reduce(operator.add, _absolutes(context))
    if instruction == "diff the absolute values":
        return reduce(operator.sub, _absolutes(context))
    raise _PuzzledError


def _step(words: object, number: Number) -> Number:
    match = _STEP.fullmatch(words.strip()) if isinstance(words, str) else None
    if match is None:
        raise _PuzzledError
    return _OPERATIONS[match[1]](number, _number(json.loads(match[2])))


def _absolutes(context: object) -> list[Number]:
    if isinstance(context, Mapping):
        context = list(context.values())
    if not isinstance(context, list):
        context = [context]
    return [abs(_number(value)) for value in context]


def _number(value: object) -> Number:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _PuzzledError
    return value


def _last(messages: Sequence[object], role: str) -> str:
    for message in reversed(messages):
        if isinstance(message, Mapping) and message.get("role") == role:
            return str(message["content"])
    raise _PuzzledError
