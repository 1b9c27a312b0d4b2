"""The outcomes of a run as columns of cells.

Holds: `columns_of`: which columns there are, and what stands in them. Does not
hold: files (export.py), pandas and polars (frames.py). Pure, safe anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lionlite.calls.runs.rows import fields_of, is_missing
from lionlite.calls.verdict import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

    from lionlite.calls.runs.outcome import Outcome

    Columns = dict[str, list[Any]]

# Values keyed by something other than names, such as {user: score}, would make
# a column for each of them: beyond this many they stay in one.
MOST_FIELDS = 256

COUNTS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "attempts")
"""The columns of whole numbers, None where nobody counted."""

SECONDS = ("cost", "elapsed_s", "waited_s")
"""The columns of fractions, `cost` None where nobody said."""

FACTS: dict[str, Callable[[Outcome], Any]] = {
    "status": lambda outcome: outcome.status,
    "error": lambda outcome: None if outcome.error is None else describe(outcome.error),
    "input_tokens": lambda outcome: outcome.usage and outcome.usage.input_tokens,
    "output_tokens": lambda outcome: outcome.usage and outcome.usage.output_tokens,
    "cached_tokens": lambda outcome: outcome.usage and outcome.usage.cached_tokens,
    "reasoning_tokens": lambda outcome: outcome.usage and outcome.usage.reasoning_tokens,
    "cost": lambda outcome: outcome.cost,
    "elapsed_s": lambda outcome: outcome.elapsed_s,
    "waited_s": lambda outcome: outcome.waited_s,
    "attempts": lambda outcome: outcome.attempts,
    "model": lambda outcome: outcome.model,
    "finish_reason": lambda outcome: outcome.finish_reason,
    "request_ids": lambda outcome: list(outcome.request_ids),
}
"""The columns that every table ends with, and how a cell comes about."""

RESERVED = frozenset(FACTS) | {"key", "input", "value"}


def columns_of(outcomes: Sequence[Outcome], *, has_keys: bool) -> Columns:
    """Return the cells of *outcomes* by column, all of one length.

    `key` (if asked for), `input`, `value`, then `FACTS`. An input or a value
    that has fields, such as a dict, an attrs instance or a tuple, has a column
    for each field instead, under the field's own name if that is free, else
    behind "input." or "value.". Cells are the objects themselves.
    """
    columns: Columns = {"key": [outcome.key for outcome in outcomes]} if has_keys else {}
    inputs = [outcome.input for outcome in outcomes]
    columns |= _spread("input", inputs, RESERVED)
    values = [outcome.value for outcome in outcomes]
    columns |= _spread("value", values, RESERVED | columns.keys())
    columns |= {name: [cell(outcome) for outcome in outcomes] for name, cell in FACTS.items()}
    return columns


def rows_of(columns: Columns) -> list[dict[str, Any]]:
    """Return *columns* as rows."""
    names = list(columns)
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _spread(name: str, cells: list[Any], taken: AbstractSet[str]) -> Columns:
    """Return a column for each field of *cells*, or *cells* as one column."""
    spread = [_named_fields(name, cell) for cell in cells]
    fields = dict.fromkeys(field for one in spread if one for field in one)
    if not fields or len(fields) > MOST_FIELDS:
        return {name: cells}
    columns: Columns = {}
    for field in fields:
        title = _free(field, name, taken | columns.keys())
        columns[title] = [None if one is None else one.get(field) for one in spread]
    rest = [cell if one is None else None for cell, one in zip(cells, spread, strict=True)]
    return columns if all(map(is_missing, rest)) else {name: rest, **columns}


def _named_fields(name: str, cell: object) -> dict[str, Any] | None:
    fields = fields_of(cell)
    if fields is None or not isinstance(cell, tuple) or hasattr(cell, "_fields"):
        return fields
    return {f"{name}_{place}": item for place, item in fields.items()}


def _free(field: str, name: str, taken: AbstractSet[str]) -> str:
    while field in taken:
        field = f"{name}.{field}"
    return field
