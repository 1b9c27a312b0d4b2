"""What Python values become in JSON, and what is refused."""

from __future__ import annotations

import dataclasses
import enum
import json
import subprocess
import sys
from collections import OrderedDict, deque
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import NamedTuple
from uuid import UUID

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionlite.jsontext import (
    MAX_DEPTH,
    MAX_MENDED_BYTES,
    JsonError,
    decode,
    decode_mending,
    encode,
    plain,
)

pytestmark = pytest.mark.quick


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Name(str):
    __slots__ = ()


class Count(int):
    pass


class Ratio(float):
    pass


class Point(NamedTuple):
    x: int
    y: int


@attrs.frozen
class AttrsRow:
    name: str
    price: Decimal = Decimal("1.10")


@dataclasses.dataclass
class DataRow:
    name: str
    tags: list[str] = dataclasses.field(default_factory=list)


class StructRow(msgspec.Struct):
    name: str
    when: date = date(2024, 5, 6)


class ModelLike:
    def model_dump(self):
        return {"name": "a", "inner": AttrsRow("b")}


def looped(kind):
    """Return a container of *kind* that holds itself."""
    value = [] if kind is list else {}
    if kind is list:
        value.append(value)
    else:
        value["again"] = value
    return value


def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, 2.5, "x", True, None]}, {"a": [1, 2.5, "x", True, None]}),
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        (deque([1]), [1]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.values(), [1]),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (Name("x"), "x"),
        (Count(3), 3),
        (Ratio(0.5), 0.5),
        (2**70, 2**70),
        (Colour.RED, "red"),
        (Level.LOW, 1),
        (Decimal("1.10"), Decimal("1.10")),
        (datetime(2024, 5, 6, 7, 8, tzinfo=UTC), "2024-05-06T07:08:00+00:00"),
        (date(2024, 5, 6), "2024-05-06"),
        (time(7, 8), "07:08:00"),
        (timedelta(minutes=1.5), 90.0),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a/b"), "/a/b"),
        (AttrsRow("a"), {"name": "a", "price": Decimal("1.10")}),
        (DataRow("a", ["b"]), {"name": "a", "tags": ["b"]}),
        (StructRow("a"), {"name": "a", "when": "2024-05-06"}),
        (ModelLike(), {"name": "a", "inner": {"name": "b", "price": Decimal("1.10")}}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_user_passes_becomes_json_types(value, expected):
    result = plain(value)

    assert result == expected
    assert type(result) is type(expected)


def test_a_decimal_goes_out_as_the_number_it_is():
    assert encode(plain({"price": Decimal("1.10")})) == b'{"price":1.10}'


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a", "a"),
        (Name("a"), "a"),
        (3, "3"),
        (Colour.RED, "red"),
        (Level.LOW, "1"),
        (date(2024, 5, 6), "2024-05-06"),
        (time(7, 8), "07:08:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
    ids=str,
)
def test_a_key_becomes_text(key, expected):
    assert plain({key: 1}) == {expected: 1}


@pytest.mark.parametrize("key", [None, True, 1.5, (1, 2), b"a"], ids=repr)
def test_an_odd_key_is_refused_with_its_type(key):
    with pytest.raises(JsonError, match=f"the key {type(key).__name__} .* use str keys at rows"):
        plain({key: 1}, name="rows")


def test_keys_that_are_one_in_json_are_refused():
    with pytest.raises(JsonError, match=r"^two keys are both '1' in JSON at \['a'\]$"):
        plain({"a": {1: "x", "1": "y"}})


NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (NAN, "context"),
        ({"rows": [1, {"price": float("inf")}]}, "context['rows'][1]['price']"),
        ([Decimal("NaN")], "context[0]"),
        ([Decimal("-Infinity")], "context[0]"),
        (AttrsRow("a", Decimal("sNaN")), "context.price"),
        (DataRow("a", [Ratio("-inf")]), "context.tags[0]"),
        ({1: (0, NAN)}, "context['1'][1]"),
    ],
    ids=["alone", "deep", "decimal", "decimal inf", "attrs", "dataclass", "int key"],
)
def test_what_is_not_a_number_is_refused_with_its_path(value, path):
    with pytest.raises(JsonError, match="is not JSON: replace it with None") as caught:
        plain(value, name="context")

    assert caught.value.path == path


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"x", "bytes are not text"),
        (bytearray(b"x"), "bytes are not text"),
        (memoryview(b"x"), "bytes are not text"),
        (object(), "builtins.object cannot be said in JSON"),
        (AttrsRow, "builtins.type cannot be said in JSON"),
        (DataRow, "builtins.type cannot be said in JSON"),
        (1j, "builtins.complex cannot be said in JSON"),
        ((x for x in ()), "builtins.generator cannot be said in JSON"),
        (looped(list), "the value contains itself"),
        (looped(dict), "the value contains itself"),
        (nested(MAX_DEPTH), f"nested deeper than {MAX_DEPTH}"),
    ],
    ids=[
        "bytes",
        "bytearray",
        "memoryview",
        "object",
        "attrs class",
        "dataclass",
        "complex",
        "generator",
        "cyclic list",
        "cyclic dict",
        "deep",
    ],
)
def test_what_json_cannot_say_is_refused(value, problem):
    with pytest.raises(JsonError, match=problem):
        plain({"a": value})


def test_a_value_may_appear_twice_side_by_side():
    row = [1]

    assert plain({"a": row, "b": [row, row]}) == {"a": [1], "b": [[1], [1]]}


def test_the_deepest_nesting_allowed_passes():
    assert plain(nested(MAX_DEPTH)) == nested(MAX_DEPTH)


def test_the_result_shares_no_container_with_the_value():
    value = {"a": [1, {"b": 2}]}

    result = plain(value)
    value["a"][1]["b"] = 3

    assert result == {"a": [1, {"b": 2}]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({"a": 1, "b": 2}.keys(), ["a", "b"]),
        ({None, 1, "a"}, ["a", 1, None]),
        ({AttrsRow("b"), AttrsRow("a")}, [plain(AttrsRow("a")), plain(AttrsRow("b"))]),
    ],
    ids=["numbers", "texts", "keys", "mixed", "rows"],
)
def test_a_set_comes_out_sorted(value, expected):
    assert plain(value) == expected


def test_a_set_has_one_order_whatever_the_hash_seed():
    program = (
        "from lionlite.jsontext import encode, plain;"
        "print(encode(plain({'x', 'yy', 'zzz', 1, 2.5, None, ('a', 'b')})).decode())"
    )

    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert outputs == {'["x","yy","zzz",1,2.5,["a","b"],null]\n'}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("\ud800", ""),
        (["ok", {"deep": ["\ud800"]}], "[1]['deep'][0]"),
        ({"a": "ok", "b\udc00": 1}, "(a key)"),
        ({"a": {"n": None}, "b": "\ud800"}, "['b']"),
        ({"rows": {"b\udc00": 1}}, "['rows'](a key)"),
    ],
    ids=["alone", "deep", "key", "second", "inner key"],
)
def test_half_a_character_is_refused_with_its_path(value, path):
    with pytest.raises(JsonError, match="a lone surrogate") as caught:
        encode(plain(value))

    assert caught.value.path == path


def test_half_a_character_in_an_unknown_object_has_no_path():
    with pytest.raises(JsonError, match="a lone surrogate"):
        encode(DataRow("\ud800"))


def test_what_was_not_made_plain_is_refused_typed():
    deep = []
    for _ in range(100_000):
        deep = [deep]

    for value in (object(), deep):
        with pytest.raises(JsonError):
            encode(value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"NaN", "malformed"),
        (b"[Infinity]", "malformed"),
        (b"[-Infinity]", "malformed"),
        (b"\xef\xbb\xbf{}", "malformed"),
        (b'"\xff"', "can't decode"),
        ('"\ud800"', "surrogates not allowed"),
        (b'"\\ud800"', "truncated"),
        (b"[" * 200_000, "nested too deep"),
        (b'{"a":' * 200_000, "nested too deep"),
        (b"1" * 100_000, "out of range"),
        (b"1e999", "out of range"),
        (b"", "truncated"),
        (b'{"a": [1', "truncated"),
        (b"<html>", "malformed"),
        (b"{} {}", "malformed"),
    ],
    ids=[
        "NaN",
        "inf",
        "-inf",
        "BOM",
        "utf-8",
        "surrogate",
        "escaped surrogate",
        "deep list",
        "deep dict",
        "digits",
        "1e999",
        "empty",
        "cut",
        "HTML",
        "two",
    ],
)
def test_a_text_that_is_not_json_is_one_typed_error(text, problem):
    with pytest.raises(JsonError, match=problem):
        decode(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (rb'"\ud83d"', "\ufffd"),
        (rb'"a\uDE00b"', "a\ufffdb"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        (rb'"\ud83d\ude00\ud83d"', "\U0001f600\ufffd"),
        (rb'["\\ud83d", "\ude00"]', ["\\ud83d", "\ufffd"]),
        (rb'"\\\ud83d"', "\\\ufffd"),
        (rb'"\\ud83d"', "\\ud83d"),
    ],
)
def test_half_a_character_can_be_mended(text, value):
    assert decode_mending(text) == value


@pytest.mark.parametrize(
    "text", [rb'["\ud83d", NaN]', rb'"\ud83d', b'"\\ud83d' + b" " * MAX_MENDED_BYTES + b'"']
)
def test_only_half_a_character_is_mended(text):
    with pytest.raises(JsonError):
        decode_mending(text)


@given(st.text(st.characters()), st.data())
def test_what_was_cut_between_halves_is_mended_as_utf_16_does(text, data):
    units = text.encode("utf-16-le", "surrogatepass")
    cut = units[: 2 * data.draw(st.integers(0, len(units) // 2))]
    sent = json.dumps(cut.decode("utf-16-le", "surrogatepass")).encode()

    assert decode_mending(sent) == cut.decode("utf-16-le", "replace")


def test_of_equal_keys_the_last_wins():
    assert decode('{"a": 1, "a": 2}') == {"a": 2}


def test_whole_numbers_keep_every_digit():
    assert decode(encode([2**64, -(2**70), 10**30])) == [2**64, -(2**70), 10**30]


def test_an_error_says_problem_and_place():
    assert (str(JsonError("bad", "a[1]")), str(JsonError("bad"))) == ("bad at a[1]", "bad")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(JSON)
def test_every_json_value_survives_the_round_trip(value):
    assert decode(encode(plain(value))) == value


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_text_is_decoded_or_refused_typed(text):
    try:
        value = decode(text)
    except JsonError:
        return

    assert decode(encode(value)) == value
