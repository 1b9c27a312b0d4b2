"""What counts as the items of a mapping call.

Holds: `iterate`, which makes one iterator of any input, and `count`. Does not
hold: how far ahead the input is read (engine.py). Everything here runs in the
calling thread; pandas and polars are known by their shape, never imported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar, cast

from lionlite.exceptions import ConfigError

T = TypeVar("T")

ONE_ITEM = (str, bytes, bytearray, memoryview, Mapping)


def iterate(items: Iterable[T]) -> Iterator[T]:
    """Return an iterator over the items of *items*.

    Text, bytes and a mapping are one item. A DataFrame of pandas or polars is
    its rows, each a dict. A sequence is read by index as long as it was at the
    start, so that one which shrinks meanwhile is an error, not a silent end.

    Raises:
        ConfigError: *items* cannot be iterated, or is a DataFrame with two
            columns of one name.
    """
    if isinstance(items, ONE_ITEM):
        return cast("Iterator[T]", iter((items,)))
    rows = _rows(items)
    if rows is not None:
        return cast("Iterator[T]", rows)
    # A deque is a sequence by name only: its middle is slow to reach.
    if isinstance(items, Sequence) and not isinstance(items, (range, deque)):
        return map(items.__getitem__, range(len(items)))
    try:
        return iter(items)
    except TypeError as error:
        raise ConfigError(_not_iterable(items)) from error


def count(items: object) -> int | None:
    """Return how many items *items* has, None if only reading it would tell."""
    if isinstance(items, ONE_ITEM):
        return 1
    try:
        return len(items)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError, OverflowError):
        return None


def _rows(frame: object) -> Iterator[dict[object, object]] | None:
    columns = getattr(frame, "columns", None)
    if columns is None or isinstance(frame, type):
        return None
    by_name = getattr(frame, "iter_rows", None)
    if callable(by_name):
        return cast("Iterator[dict[object, object]]", by_name(named=True))
    by_place = getattr(frame, "itertuples", None)
    if callable(by_place):
        names = _distinct(columns)
        rows = cast("Iterable[tuple[object, ...]]", by_place(index=False, name=None))
        return (dict(zip(names, row, strict=True)) for row in rows)
    return None


def _distinct(columns: Iterable[object]) -> list[object]:
    names = list(columns)
    double = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if double:
        msg = f"items has two columns named {double[0]!r}: rename one, rows become dicts."
        raise ConfigError(msg)
    return names


def _not_iterable(items: object) -> str:
    if hasattr(items, "__aiter__"):
        return "items is an async iterable; give a plain one, nothing here awaits."
    kind = type(items).__name__
    return f"items must be iterable; got {kind}. Put a single item into a list: [item]."
