"""A run as rows, and as frames of pandas and polars."""

from __future__ import annotations

import math
import sqlite3
import sys
from collections import namedtuple
from dataclasses import dataclass
from decimal import Decimal

import attrs
import pandas as pd
import pytest

from lionlite.calls.runs.rows import fields_of, is_missing
from lionlite.calls.runs.run import run
from lionlite.exceptions import ConfigError

FACTS = [
    "status",
    "error",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cost",
    "elapsed_s",
    "waited_s",
    "attempts",
    "model",
    "finish_reason",
    "request_ids",
]


@attrs.frozen
class Person:
    name: str
    age: int


@dataclass
class Point:
    x: int
    y: int


Pair = namedtuple("Pair", "left right")  # noqa: PYI024


def mapped(values, **options):
    """Run over 0, 1, 2 ... with *values* as what the function returns."""
    return run(range(len(values)), values.__getitem__, **options)


def columns(result):
    return list(result.to_dicts()[0])


def cells(result, *names):
    return [tuple(row[name] for name in names) for row in result.to_dicts()]


def test_a_plain_value_has_one_column():
    result = mapped(["a", "b"])

    assert columns(result) == ["input", "value", *FACTS]
    assert cells(result, "input", "value", "status") == [(0, "a", "ok"), (1, "b", "ok")]


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"x": 1, "y": 2}, ["x", "y"]),
        (Person("Ada", 36), ["name", "age"]),
        (Point(1, 2), ["x", "y"]),
        (Pair(1, 2), ["left", "right"]),
        ((1, 2), ["value_0", "value_1"]),
        (pd.Series({"x": 1, "y": 2}), ["x", "y"]),
    ],
    ids=["dict", "attrs", "dataclass", "namedtuple", "tuple", "series"],
)
def test_a_value_with_fields_has_a_column_for_each(value, names):
    result = mapped([value])

    assert columns(result) == ["input", *names, *FACTS]
    assert cells(result, *names) == [tuple(fields_of(value).values())]


def test_fields_that_some_values_lack_are_none():
    result = mapped([{"a": 1}, {"b": 2}, "text", None])

    assert cells(result, "value", "a", "b") == [
        (None, 1, None),
        (None, None, 2),
        ("text", None, None),
        (None, None, None),
    ]


def test_a_field_whose_name_is_taken_says_whose_it_is():
    rows = [{"text": "x", "cost": 3}]

    result = run(rows, lambda row: {"text": "X", "error": "none"})

    assert columns(result)[:4] == ["text", "input.cost", "value.text", "value.error"]


def test_values_with_too_many_fields_stay_in_one_column():
    result = mapped([{f"user {n}": n for n in range(1000)}])

    assert columns(result) == ["input", "value", *FACTS]


def test_an_error_is_its_type_and_its_message():
    result = run([0, 1], lambda n: 1 / n)

    assert cells(result, "value", "status", "error") == [
        (None, "failed", "ZeroDivisionError: division by zero"),
        (1.0, "ok", None),
    ]


def test_keys_stand_first_where_there_are_any():
    assert cells(mapped(["a"], key=lambda n: f"k{n}"), "key", "value") == [("k0", "a")]


def test_the_index_of_a_series_is_that_of_the_frame():
    index = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["letter", "number"])
    series = pd.Series(["x", "y"], index=index)

    result = run(series, str.upper)

    pd.testing.assert_index_equal(result.to_pandas().index, index)
    assert (result[1].key, result.to_dicts()[0]["key"]) == (("b", 2), ("a", 1))


def test_the_rows_of_a_frame_come_back_beside_the_answers():
    frame = pd.DataFrame({"text": ["x", "y"], "n": [1, 2]}, index=["p", "q"])

    joined = run(frame, lambda row: row["text"] * row["n"]).to_pandas()

    expected = frame.assign(value=["x", "yy"])
    pd.testing.assert_frame_equal(joined[["text", "n", "value"]], expected)


def test_answers_can_be_assigned_to_the_frame_they_came_from():
    frame = pd.DataFrame({"text": ["x", None, "z"]}, index=[3, 1, 2])

    frame["answer"] = run(frame["text"], str.upper, skip_missing=True).results

    assert frame["answer"].fillna("-").to_dict() == {3: "X", 1: "-", 2: "Z"}


def test_columns_of_pandas_have_fit_types():
    frame = run([1, 0], lambda n: 1 / n).to_pandas()

    types = frame.dtypes.astype(str).to_dict()
    assert (types["input_tokens"], types["attempts"], types["cost"]) == (
        "Int64",
        "Int64",
        "float64",
    )
    assert math.isclose(frame["value"][0], 1.0)


def test_cells_of_pandas_may_be_lists():
    assert mapped([[1, 2], []]).to_pandas()["value"].tolist() == [[1, 2], []]


def test_an_empty_run_has_its_columns_in_pandas():
    assert list(run([], str).to_pandas().columns) == ["input", "value", *FACTS]


def test_a_frame_of_a_run_that_stopped_has_the_rows_that_were_read():
    series = pd.Series(range(500), index=range(1000, 1500))

    result = run(series, lambda n: 1 / (n - 2), max_failures=1, max_workers=1)

    assert list(result.to_pandas().index[:3]) == [1000, 1001, 1002]


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_a_package_that_is_not_installed_is_named_with_the_extra(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(ConfigError, match=rf"needs {name}, .*pip install 'lionlite\[{name}\]'"):
        getattr(mapped([1]), f"to_{name}")()


def test_polars_has_the_same_columns():
    pl = pytest.importorskip("polars")

    frame = run([1, 0], lambda n: {"half": 0.5 / n}).to_polars()

    assert frame.columns == ["input", "half", *FACTS]
    assert frame["half"].to_list() == [0.5, None]
    assert (frame["input_tokens"].dtype, frame["request_ids"].dtype) == (
        pl.Int64,
        pl.List(pl.String),
    )


@pytest.mark.parametrize("values", [[1, "a"], [object()], [{1}], [10**30]], ids=repr)
def test_what_polars_has_no_type_for_is_text(values):
    pytest.importorskip("polars")

    column = mapped([[value] if len(values) > 1 else value for value in values]).to_polars()

    assert len(column) == len(values)


def test_polars_rows_are_items_and_keep_no_index():
    pl = pytest.importorskip("polars")

    result = run(pl.DataFrame({"text": ["a", "b"]}), lambda row: row["text"].upper())

    assert result.to_polars().select("text", "value").rows() == [("a", "A"), ("b", "B")]


MISSING = [None, math.nan, Decimal("NaN"), Decimal("sNaN"), pd.NA, pd.NaT]


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_missing_values_of_all_kinds_are_known(value):
    assert is_missing(value)


@pytest.mark.parametrize("value", [0, "", "nan", [], {}, False, pd.Series([math.nan])], ids=repr)
def test_other_values_are_not_missing(value):
    assert not is_missing(value)


def test_numpys_missing_values_are_known():
    np = pytest.importorskip("numpy")

    missing = [np.float32("nan"), np.datetime64("NaT"), np.array(math.nan)]

    assert [is_missing(value) for value in [*missing, np.int64(0), np.array([math.nan])]] == [
        *[True] * 3,
        *[False] * 2,
    ]


def test_rows_of_sqlite_are_rows():
    link = sqlite3.connect(":memory:")
    link.row_factory = sqlite3.Row

    result = run(link.execute("SELECT 1 AS a, 'x' AS b"), lambda row: row["b"])

    assert cells(result, "a", "b", "value") == [(1, "x", "x")]
    link.close()


@pytest.mark.parametrize("value", ["text", 5, [1], dict, Person, None, b"x"], ids=repr)
def test_other_things_have_no_fields(value):
    assert fields_of(value) is None
