"""What a row of data is: its fields by name, and whether it is missing.

Holds: `fields_of` and `is_missing`. Does not hold: what a field means, or how
a row becomes JSON (jsontext.py). pandas, numpy and the like are known by their
shape, never imported. Pure, so safe anywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any


def fields_of(value: Any) -> dict[str, Any] | None:
    """Return the fields of *value* by name, None if it has none.

    A mapping has its keys, as text; an instance of an attrs class, a
    dataclass, a msgspec struct or a pydantic model its attributes; a
    namedtuple its names; what has `keys()`, such as a row of sqlite3 or of
    pandas' `iterrows()`, its labels. Any other tuple has "0", "1" and so on.
    """
    if isinstance(value, Mapping):
        return {key if type(key) is str else str(key): item for key, item in value.items()}
    if isinstance(value, tuple):
        names = getattr(value, "_fields", None) or map(str, range(len(value)))
        return dict(zip(names, value, strict=True))
    names = _attributes(value)
    if names is not None:
        return {name: getattr(value, name) for name in names}
    keys = _labels(value)
    if keys is not None:
        return {str(key): value[key] for key in keys}
    return None


def is_missing(value: object) -> bool:
    """Whether *value* stands for "no value": None, NaN, NaT or pandas' NA."""
    if value is None:
        return True
    if isinstance(value, (float, Decimal)) or getattr(value, "ndim", None) == 0:
        # numpy's scalars have no dimension, and its NaT is not equal to itself.
        return _differs_from_itself(value)
    kind = type(value)
    return kind.__name__ in {"NAType", "NaTType"} and kind.__module__.startswith("pandas")


def _attributes(value: object) -> Iterable[str] | None:
    if isinstance(value, type):
        return None
    of_attrs = getattr(value, "__attrs_attrs__", None)
    if of_attrs is not None:
        return [attribute.name for attribute in of_attrs]
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    kind = type(value)
    names: Iterable[str] | None = getattr(kind, "__struct_fields__", None)
    return getattr(kind, "model_fields", None) if names is None else names


def _labels(value: object) -> Iterable[Any] | None:
    """Return the labels of what is read by them, though it is no mapping."""
    keys = getattr(value, "keys", None)
    if isinstance(value, type) or not callable(keys) or hasattr(value, "columns"):
        return None
    return keys() if hasattr(value, "__getitem__") else None


def _differs_from_itself(value: object) -> bool:
    try:
        return bool(value != value)  # noqa: PLR0124 - what NaN and NaT are known by
    except ArithmeticError:
        # Decimal's signalling NaN refuses even to be compared.
        return True
