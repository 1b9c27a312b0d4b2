"""JSON text from Python values, and Python values from JSON text.

The one door to msgspec. Holds: `plain` (anything a data scientist passes as
context, turned into what JSON knows, or refused with the path of the
culprit), `encode` and `decode`. Does not hold: what the JSON means. Errors
come out as `JsonError`; callers turn them into their own. Pure functions,
safe to share between threads.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set, ValuesView
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec

MAX_DEPTH = 100
"""Nesting that `plain` follows; deeper is a mistake, and Python's own limit is 1,000."""

MAX_MENDED_BYTES = 4 * 1024 * 1024
"""In longer texts half a character is an error: to mend it could take seconds."""

# Decimal as a number: 1.10 stays 1.10, while msgspec's default is a string.
_encoder = msgspec.json.Encoder(decimal_format="number")
_canonical_encoder = msgspec.json.Encoder(decimal_format="number", order="sorted")
_decoder = msgspec.json.Decoder()


# Escapes in JSON, told apart: a backslash, a whole character, half of one.
_ESCAPES = re.compile(
    rb"\\\\"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


class JsonError(ValueError):
    """A value is not JSON, or a text is not.

    Attributes:
        problem: What is wrong, without the place.
        path: Where, as an expression such as `["rows"][3].price`.
    """

    def __init__(self, problem: str = "", path: str = "") -> None:
        super().__init__(problem, path)
        self.problem = problem
        self.path = path

    def __str__(self) -> str:
        return f"{self.problem} at {self.path}" if self.path else self.problem


def encode(value: Any) -> bytes:
    """Return *value* as compact UTF-8 JSON; run it through `plain` first.

    Raises:
        JsonError: *value* holds what JSON cannot say.
    """
    return _encoded(_encoder, value)


def canonical(value: Any) -> bytes:
    """Return *value* as `encode` does, with the keys of all mappings sorted.

    Equal values give equal bytes, in whatever order their keys came.

    Raises:
        JsonError: *value* holds what JSON cannot say.
    """
    return _encoded(_canonical_encoder, value)


def _encoded(encoder: msgspec.json.Encoder, value: Any) -> bytes:
    try:
        return encoder.encode(value)
    except UnicodeEncodeError as exc:
        problem = "a lone surrogate (half of a character) is no text"
        raise JsonError(problem, _path_of_surrogate(value)) from exc
    except (TypeError, msgspec.MsgspecError, RecursionError, OverflowError) as exc:
        raise JsonError(str(exc)) from exc


def decode(text: bytes | str) -> Any:
    """Return what the JSON *text* says.

    NaN and Infinity are refused, as are broken UTF-8, numbers without end and
    nesting without end; of equal keys the last wins.

    Raises:
        JsonError: *text* is not JSON.
    """
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError, ValueError) as exc:
        raise JsonError(str(exc)) from exc
    except RecursionError:
        # The cause is a thousand frames of nothing: cut it.
        problem = "nested too deep"
        raise JsonError(problem) from None


def decode_mending(text: bytes) -> Any:
    """Return what the JSON *text* says, with U+FFFD for each half of a character.

    Servers in JavaScript send such halves where they cut a text.

    Raises:
        JsonError: As `decode`, for all else.
    """
    try:
        return decode(text)
    except JsonError:
        if len(text) > MAX_MENDED_BYTES:
            raise
        mended = _ESCAPES.sub(lambda found: b"\\ufffd" if found["half"] else found[0], text)
        if mended == text:
            raise
    return decode(mended)


def plain(value: Any, *, name: str = "") -> Any:
    """Return *value* in the types that JSON knows, as new containers.

    Knows: the JSON types, their subclasses, Enum, Decimal, datetime, date,
    time, timedelta, UUID, paths, mappings, sequences, sets (sorted), attrs and
    dataclass instances, msgspec structs, pydantic models, numpy scalars and
    arrays, pandas and polars Series and DataFrames (rows as dicts).

    Args:
        value: Anything.
        name: What to call it in errors.

    Raises:
        JsonError: NaN or infinity, a cycle, nesting deeper than `MAX_DEPTH`,
            bytes, or a type that none of the above covers; with the path.
    """
    try:
        return _plain(value, ())
    except JsonError as exc:
        raise JsonError(exc.problem, name + exc.path) from None


def _plain(value: Any, above: tuple[int, ...]) -> Any:
    direct = _DIRECT.get(type(value))
    if direct is not None:
        return direct(value, above)
    for kind, convert in _BY_BASE:
        if isinstance(value, kind):
            return convert(value, above)
    return _from_shape(value, above)


def _same(value: Any, _above: tuple[int, ...]) -> Any:
    return value


def _finite(value: Any, _above: tuple[int, ...]) -> float:
    number = float(value)
    if not math.isfinite(number):
        problem = f"{number} is not JSON: replace it with None or leave it out"
        raise JsonError(problem)
    return number


def _decimal(value: Decimal, _above: tuple[int, ...]) -> Decimal:
    if not value.is_finite():
        problem = f"{value} is not JSON: replace it with None or leave it out"
        raise JsonError(problem)
    return value


def _moment(value: date | time, _above: tuple[int, ...]) -> str:
    _refuse_nat(value)
    return value.isoformat()


def _refuse_nat(value: Any) -> None:
    # NaT, of pandas and of numpy, is not equal to itself.
    if value != value:  # noqa: PLR0124
        problem = "NaT is not JSON: replace it with None or leave it out"
        raise JsonError(problem)


def _below(value: Any, above: tuple[int, ...]) -> tuple[int, ...]:
    """Return the identities of *value* and all around it, or refuse."""
    if id(value) in above:
        problem = "the value contains itself"
        raise JsonError(problem)
    if len(above) >= MAX_DEPTH:
        problem = f"nested deeper than {MAX_DEPTH}"
        raise JsonError(problem)
    return (*above, id(value))


def _place(step: str, value: Any, above: tuple[int, ...]) -> Any:
    try:
        return _plain(value, above)
    except JsonError as exc:
        raise JsonError(exc.problem, step + exc.path) from None


def _sequence(value: Iterable[Any], above: tuple[int, ...]) -> list[Any]:
    inside = _below(value, above)
    return [_place(f"[{index}]", item, inside) for index, item in enumerate(value)]


def _set(value: Set[Any], above: tuple[int, ...]) -> list[Any]:
    items = _sequence(value, above)
    # A set has no order; the same set must give the same request every time.
    try:
        return sorted(items)
    except TypeError:
        return sorted(items, key=encode)


def _mapping(value: Mapping[Any, Any], above: tuple[int, ...]) -> dict[str, Any]:
    inside = _below(value, above)
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = _key(key)
        if name in result:
            problem = f"two keys are both {name!r} in JSON"
            raise JsonError(problem)
        result[name] = _place(f"[{name!r}]", item, inside)
    return result


def _key(key: Any) -> str:
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, str):
        return str(key)
    if isinstance(key, (date, time)):
        return key.isoformat()
    if isinstance(key, (int, UUID)) and not isinstance(key, bool):
        return str(key)
    if type(key).__module__.startswith("numpy") and hasattr(key, "item"):
        return _key(key.item())
    problem = f"the key {type(key).__name__} {_shown(key)} is not text: use str keys"
    raise JsonError(problem)


def _shown(key: Any) -> str:
    """Return the repr of *key*, nothing if it has none."""
    try:
        return repr(key)[:40]
    except Exception:  # noqa: BLE001 - the error about the key must not give way to it
        return ""


def _fields(value: Any, names: Iterable[str], above: tuple[int, ...]) -> dict[str, Any]:
    inside = _below(value, above)
    return {name: _place(f".{name}", getattr(value, name), inside) for name in names}


def _from_shape(value: Any, above: tuple[int, ...]) -> Any:
    """Convert what is known by its shape rather than by its class."""
    if not isinstance(value, type):
        for shape, convert in _BY_SHAPE:
            if hasattr(value, shape):
                return convert(value, above)
    kind = type(value)
    problem = (
        f"{kind.__module__}.{kind.__qualname__} cannot be said in JSON: "
        f"pass text, numbers, lists, dicts, attrs or dataclass instances"
    )
    raise JsonError(problem)


def _no_bytes(_value: Any, _above: tuple[int, ...]) -> Any:
    problem = "bytes are not text: decode() them, or pass base64 text"
    raise JsonError(problem)


def _frame(value: Any, above: tuple[int, ...]) -> Any:
    if len(set(value.columns)) < len(value.columns):
        # pandas would leave one of them out.
        problem = "two columns have one name: rename one"
        raise JsonError(problem)
    # pandas says to_dict("records"), polars says to_dicts().
    rows = value.to_dicts() if hasattr(value, "to_dicts") else value.to_dict("records")
    return _sequence(rows, above)


def _array(value: Any, above: tuple[int, ...]) -> Any:
    """Convert what has `tolist`: numpy's scalars and arrays, array.array, tensors."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if getattr(value, "ndim", 1):
        # tolist() would say datetime64[ns] as whole numbers, and NaT as None.
        return _sequence(value if kind in {"M", "m"} else value.tolist(), above)
    if kind == "f":
        # A long double's tolist() is itself.
        return _finite(value, above)
    if kind in {"M", "m"}:
        return _numpy_moment(value, above)
    return _plain(value.tolist(), _below(value, above))


def _numpy_moment(value: Any, above: tuple[int, ...]) -> Any:
    _refuse_nat(value)
    is_date = value.dtype.str.endswith("[D]") and value.dtype.kind == "M"
    moment = (value if is_date else value.astype(f"{value.dtype.kind}8[us]")).tolist()
    if isinstance(moment, int):
        problem = f"{value} is beyond the years 1 to 9999: pass it as text"
        raise JsonError(problem)
    return _plain(moment, above)


_DIRECT: dict[type, Callable[[Any, tuple[int, ...]], Any]] = {
    str: _same,
    int: _same,
    bool: _same,
    type(None): _same,
    float: _finite,
    dict: _mapping,
    list: _sequence,
    tuple: _sequence,
}

# The order matters: bool is an int, datetime a date, an Enum often a str.
_BY_BASE: tuple[tuple[Any, Callable[[Any, tuple[int, ...]], Any]], ...] = (
    (Enum, lambda value, above: _plain(value.value, above)),
    (str, lambda value, _above: str(value)),
    (int, lambda value, _above: int(value)),
    (float, _finite),
    (Decimal, _decimal),
    ((date, datetime, time), _moment),
    (timedelta, lambda value, _above: value.total_seconds()),
    ((UUID, PurePath), lambda value, _above: str(value)),
    ((bytes, bytearray, memoryview), _no_bytes),
    (Mapping, _mapping),
    (Set, _set),
    ((Sequence, ValuesView, deque), _sequence),
)

_BY_SHAPE: tuple[tuple[str, Callable[[Any, tuple[int, ...]], Any]], ...] = (
    (
        "__attrs_attrs__",
        lambda value, above: _fields(value, (a.name for a in value.__attrs_attrs__), above),
    ),
    (
        "__dataclass_fields__",
        lambda value, above: _fields(value, (f.name for f in dataclasses.fields(value)), above),
    ),
    (
        "__struct_fields__",
        lambda value, above: _fields(value, value.__struct_fields__, above),
    ),
    ("model_dump", lambda value, above: _plain(value.model_dump(), _below(value, above))),
    # pandas and polars: DataFrame before Series; then numpy, which has no to_list.
    ("iterrows", _frame),
    ("iter_rows", _frame),
    ("to_list", lambda value, above: _sequence(value.to_list(), above)),
    ("tolist", _array),
)


def _path_of_surrogate(value: Any) -> str:
    """Return the path of the first text that UTF-8 cannot carry."""
    if not isinstance(value, (Mapping, list, tuple)):
        return ""
    steps = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, item in steps:
        if isinstance(key, str) and not _is_text(key):
            return "(a key)"
        if isinstance(item, str) and not _is_text(item):
            return f"[{key!r}]"
        inner = _path_of_surrogate(item)
        if inner:
            return f"[{key!r}]{inner}"
    return ""


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
