"""By what items are known, and what results become in the file."""

from __future__ import annotations

import functools
import json
import math
import re
from datetime import UTC, datetime

import attrs
import pytest
from checkpoint_tools import Provider, do, rows, run

from lionlite import CallError
from lionlite.calls.journal.checkpoint import open_checkpoint
from lionlite.calls.journal.keys import MOST_CHARS, identify, name_of
from lionlite.exceptions import CheckpointError, ConfigError


def key_of(item, key=None):
    return identify(0, item, key).key


@attrs.frozen
class Row:
    text: str
    number: int


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": [1, 2]}, {"b": (1, 2), "a": 1}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}),
        (Row("a", 1), {"number": 1, "text": "a"}),
        ({3, 1, 2}, [1, 2, 3]),
        ({"n": math.nan}, {"n": float("nan")}),
    ],
    ids=["order of keys", "order inside", "attrs", "set", "a gap in a table"],
)
def test_equal_items_have_one_name(one, other):
    assert key_of(one) == key_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("1", 1), ("a", ["a"]), ({"n": math.nan}, {"n": None}), (0, False), ("x" * 999, "x" * 998)],
    ids=["text and number", "text and list", "gap and None", "zero and False", "long texts"],
)
def test_different_items_have_different_names(one, other):
    assert key_of(one) != key_of(other)


def test_names_are_readable_and_short():
    assert key_of({"b": "ä", "a": 1}) == '{"a":1,"b":"ä"}'
    assert re.fullmatch(r'"x{59}…[0-9a-f]{40}', key_of("x" * 10_000))
    assert len(key_of("x" * 10_000)) <= MOST_CHARS


def test_gaps_of_pandas_have_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"n": [1.5, None], "when": [pandas.NaT, pandas.NaT], "what": [pandas.NA, 1]}
    )
    first, second = frame.to_dict("records")

    assert key_of(first) != key_of(second)


def test_an_item_that_is_no_json_needs_a_key_and_nothing_is_called(tmp_path):
    called = []

    with pytest.raises(CheckpointError, match=r"Item 0 .*object.*Pass key="):
        run(tmp_path / "run.db", [object()], called.append)

    assert called == []
    assert run(tmp_path / "run.db", [object()], id, key=lambda item: "one")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (lambda item: None, "TypeError"),
        (lambda item: 1.5, "TypeError"),
        (lambda item: item["id"], "KeyError: 'id'"),
        (lambda item: "\ud800", "UnicodeEncodeError"),
    ],
    ids=["None", "float", "raises", "half a character"],
)
def test_a_key_that_gives_no_name_is_an_error_that_says_so(key, said):
    with pytest.raises(CheckpointError, match=rf"key= gave no name for item 3: {said}"):
        identify(3, {}, key)


def test_keys_may_be_texts_and_whole_numbers_of_any_kind():
    numpy = pytest.importorskip("numpy")

    assert key_of({}, lambda item: "row 1") == "row 1"
    assert key_of({}, lambda item: 1) == key_of({}, lambda item: numpy.int64(1)) == "1"


class Callable:
    def __call__(self, item):
        return item

    def method(self, item):
        return item


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (key_of, f"{__name__}.key_of"),
        (Callable(), f"{__name__}.Callable"),
        (Callable().method, f"{__name__}.Callable.method"),
        (len, "builtins.len"),
        (functools.partial(key_of, key=None), f'{__name__}.key_of([["key",null]])'),
        (functools.partial(functools.partial(max, 1), 2), "builtins.max([1,2])"),
        (functools.partial(max, object), 'builtins.max(["\\u0000type"])'),
    ],
    ids=["function", "object", "method", "builtin", "partial", "partial twice", "no JSON"],
)
def test_functions_have_names(func, name):
    assert name_of(func) == name


def test_what_is_kept_is_plain_json(tmp_path):
    path = tmp_path / "run.db"
    value = {"when": datetime(2026, 1, 2, tzinfo=UTC), "row": Row("ä", 1), "some": (1, None)}
    run(path, ["a"], lambda item: value)
    run(path, ["b"], {}.__getitem__)

    [(done,)] = rows(path, "SELECT value FROM outcome WHERE state = 'done'")
    [(error,)] = rows(path, "SELECT error FROM outcome WHERE state = 'failed'")

    assert (
        done == '{"when":"2026-01-02T00:00:00+00:00","row":{"text":"ä","number":1},"some":[1,null]}'
    )
    assert json.loads(error) == {"type": "KeyError", "message": "'b'", "fatal": False}


def test_errors_of_any_text_are_kept(tmp_path):
    def broken(item):
        raise CallError(f"\ud800 {'x' * 10_000}", fatal=True)

    run(tmp_path / "run.db", ["a"], broken)

    [(error,)] = rows(tmp_path / "run.db", "SELECT error FROM outcome")
    assert json.loads(error)["fatal"] is True
    assert len(error) < 1000


def test_a_value_is_the_same_in_the_run_that_made_it_and_in_the_next(tmp_path):
    pair = lambda item: (item, Row("a", 1))

    first, again = (run(tmp_path / "run.db", ["a"], pair) for _ in range(2))

    assert first == again == [["a", {"text": "a", "number": 1}]]


def test_encode_and_decode_keep_any_value(tmp_path):
    options = dict(encode=lambda z: [z.real, z.imag], decode=lambda pair: complex(*pair))
    calls = []
    turn = lambda item: calls.append(item) or item * 1j

    first, again = (run(tmp_path / "run.db", [1], turn, **options) for _ in range(2))

    assert first == again == [1j]
    assert calls == [1]


@pytest.mark.parametrize(
    ("value", "options", "said"),
    [
        (object(), {}, "object cannot be said in JSON"),
        (math.nan, {}, "nan is not JSON"),
        ({"deep": [b"bytes"]}, {}, r"bytes are not text.* at \['deep'\]\[0\]"),
        ("half \ud800", {}, "surrogate"),
        (1, {"encode": {}.__getitem__}, "encode= raised KeyError"),
        (1, {"encode": lambda value: {1.5: 2}}, "use str keys"),
    ],
    ids=["object", "nan", "bytes", "half a character", "encode raises", "encode gives no JSON"],
)
def test_a_result_that_is_no_json_is_named_with_the_cure(tmp_path, value, options, said):
    with open_checkpoint(tmp_path / "run.db", id, **options) as checkpoint:
        given = do(checkpoint.begin(0, "a"), lambda item: value, "a")

    assert given is value
    assert isinstance(checkpoint.trouble, CheckpointError)
    assert re.search(said, str(checkpoint.trouble))
    assert re.search(r"result of item 0 .*encode=.*decode=", str(checkpoint.trouble))


def test_the_first_result_that_is_no_json_is_the_one_named(tmp_path):
    with open_checkpoint(tmp_path / "run.db", id) as checkpoint:
        for index in range(3):
            do(checkpoint.begin(index, index), lambda item: object(), index)

    assert "item 0" in str(checkpoint.trouble)


def test_a_result_that_is_no_json_is_no_trouble_where_chats_are_replayed(tmp_path):
    provider = Provider()
    work = lambda item: (provider.chat(item), math.nan)

    first, again = (run(tmp_path / "run.db", ["a"], work) for _ in range(2))
    whole = run(tmp_path / "run.db", ["a"], provider.chat, replay=False)

    assert first[0][0] == again[0][0] == whole[0] == "a #1"
    assert len(provider.asked) == 1


def test_with_replay_false_such_a_result_is_trouble(tmp_path):
    provider = Provider()

    with pytest.raises(CheckpointError, match="encode="):
        run(tmp_path / "run.db", ["a"], lambda item: (provider.chat(item), math.nan), replay=False)


def test_a_decode_that_fails_is_named_with_its_item(tmp_path):
    run(tmp_path / "run.db", ["a"], len)

    with pytest.raises(CheckpointError, match=r'of item "a" .*ZeroDivisionError.*decode='):
        run(tmp_path / "run.db", ["a"], len, decode=lambda value: 1 / 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"path": ""}, "path of a file"),
        ({"path": ":memory:"}, "path of a file"),
        ({"path": 5}, "path of a file"),
        ({"path": b"run.db"}, "path of a file"),
        ({"path": "a\0b"}, "path of a file"),
        ({"replay": 1}, "replay must be True or False"),
        ({"durability": "full"}, '"process" or "power"'),
        ({"key": "id"}, "key must be a function"),
        ({"encode": 1}, "encode must be a function"),
        ({"decode": {}}, "decode must be a function"),
        ({"version": 1.5}, "version must be a text or an int"),
        ({"version": True}, "version must be a text or an int"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_before_anything_is_made(tmp_path, arguments, said):
    arguments = {"path": tmp_path / "run.db", "func": id, **arguments}

    with pytest.raises(ConfigError, match=said):
        open_checkpoint(**arguments)

    assert list(tmp_path.iterdir()) == []
