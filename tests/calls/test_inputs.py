"""What counts as the items of a mapping call."""

from __future__ import annotations

import sqlite3
import threading
from collections import UserList, deque
from types import MappingProxyType

import numpy as np
import pytest

from lionlite.calls.family import alcall, icall, lcall
from lionlite.exceptions import CallError, ConfigError

pytestmark = pytest.mark.quick


def same(item):
    return item


class Rows:
    """A polars DataFrame by its shape: polars is no package of this project."""

    columns = ("a", "b")

    def iter_rows(self, *, named):
        return iter([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]) if named else iter([])


class Facade(list):
    """Has columns, but is no DataFrame."""

    columns = 2


class ByIndex:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index >= 3:
            raise IndexError
        return index * 10


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([3, 1, 2], [3, 1, 2], id="list"),
        pytest.param((3, 1), [3, 1], id="tuple"),
        pytest.param(range(3), [0, 1, 2], id="range"),
        pytest.param((c for c in "ab"), ["a", "b"], id="generator"),
        pytest.param(deque([1, 2]), [1, 2], id="deque"),
        pytest.param(UserList([1, 2]), [1, 2], id="sequence of one's own"),
        pytest.param(ByIndex(), [0, 10, 20], id="only __getitem__"),
        pytest.param({7}, [7], id="set"),
        pytest.param({"a": 1}.items(), [("a", 1)], id="dict items"),
        pytest.param([[1, 2], [3]], [[1, 2], [3]], id="lists are not flattened"),
        pytest.param([None, 0, ""], [None, 0, ""], id="falsy items"),
        pytest.param("abc", ["abc"], id="str is one item"),
        pytest.param(b"abc", [b"abc"], id="bytes is one item"),
        pytest.param({"a": 1}, [{"a": 1}], id="dict is one item"),
        pytest.param(MappingProxyType({"a": 1}), [{"a": 1}], id="mapping is one item"),
        pytest.param(np.arange(3), [0, 1, 2], id="numpy array"),
        pytest.param(Facade("ab"), ["a", "b"], id="columns alone make no DataFrame"),
        pytest.param(Rows(), [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], id="polars rows"),
    ],
)
def test_every_iterable_is_taken(items, expected):
    assert lcall(items, same) == expected


def test_alcall_is_lcall_by_another_name():
    assert alcall([1, 2, 3], str, max_workers=2) == ["1", "2", "3"]


def test_icall_tells_the_index_of_each_value():
    assert sorted(icall(["a", "b", "c"], str.upper)) == [(0, "A"), (1, "B"), (2, "C")]


def test_a_dataframe_is_rows_as_dicts():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}, index=[9, 8])

    rows = lcall(frame, same)

    assert rows == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_a_series_is_its_values():
    pandas = pytest.importorskip("pandas")

    assert lcall(pandas.Series([3, 1], index=["a", "b"]), same) == [3, 1]


def test_a_dataframe_with_a_double_column_is_refused():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([[1, 2]], columns=["a", "a"])

    with pytest.raises(ConfigError, match="two columns named 'a': rename one"):
        lcall(frame, same)


class OnlyAsync:
    def __aiter__(self):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("items", "words"),
    [
        pytest.param(5, r"items must be iterable; got int\. Put .* into a list", id="number"),
        pytest.param(None, "got NoneType", id="None"),
        pytest.param(OnlyAsync(), "async iterable; give a plain one", id="async iterable"),
    ],
)
def test_what_cannot_be_iterated_is_refused(items, words):
    with pytest.raises(ConfigError, match=words):
        lcall(items, same)


def test_a_cursor_is_read_by_the_calling_thread_only():
    """sqlite3 raises ProgrammingError if any other thread reads the cursor."""
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "create table numbers as with recursive n(i) as "
        "(values(0) union all select i + 1 from n where i < 999) select i from n"
    )

    values = lcall(connection.execute("select i from numbers"), lambda row: row[0], max_workers=8)

    connection.close()
    assert values == list(range(1000))


def test_a_generator_is_advanced_by_the_calling_thread_only():
    seen = set()

    def numbers():
        for number in range(500):
            seen.add(threading.get_ident())
            yield number

    lcall(numbers(), same, max_workers=8)

    assert seen == {threading.get_ident()}


def test_a_list_that_shrinks_meanwhile_is_an_error_not_a_silent_end():
    numbers = list(range(1000))

    def shrink(number):
        del numbers[500:]
        return number

    with pytest.raises(CallError, match="input failed at index 500: IndexError") as caught:
        lcall(numbers, shrink, max_workers=1)

    kept = [value for value in caught.value.results if value is not None]
    assert kept == list(range(len(kept)))


def test_a_list_that_grows_meanwhile_is_read_as_long_as_it_was():
    numbers = [0, 1, 2]

    def grow(number):
        numbers.append(number)
        return number

    assert lcall(numbers, grow, max_workers=1) == [0, 1, 2]
