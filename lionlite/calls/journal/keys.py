"""By what a later run knows an item and a function again.

Holds: `identify`, `name_of` and `digest`. Does not hold: what is kept under
these names. Pure but for calling the user's key=; safe anywhere.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import attrs

from lionlite import jsontext
from lionlite.calls.verdict import describe
from lionlite.exceptions import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

Key = "Callable[[Any], str | int]"

MOST_CHARS: Final = 120
"""Longer names are kept as their beginning, for people, and a hash."""

_SHOWN_CHARS: Final = 60


@attrs.frozen
class Identity:
    """What an item is known by.

    Attributes:
        key: Its name, at most `MOST_CHARS` characters.
        input: A hash of the input where the name does not say it all; None
            where it does, or where the input is no JSON.
    """

    key: str
    input: str | None


def identify(index: int, item: object, key: Callable[[Any], str | int] | None) -> Identity:
    """Return what the item at *index* is known by, in every run and at every place.

    Without *key* it is the canonical JSON of the item, so equal items of two
    runs are the same one, whatever the order of their keys.

    Raises:
        CheckpointError: The item is no JSON and there is no *key*, or *key*
            failed or returned something else than text or an int.
    """
    if key is None:
        try:
            return Identity(shortened(_canonical(item)), None)
        except jsontext.JsonError as exc:
            msg = (
                f"Item {index} has no name for checkpoint=: {exc}. Pass key=, a function "
                "from an item to a text or number that tells it from the others."
            )
            raise CheckpointError(msg) from exc
    try:
        text = _canonical(item)
    except jsontext.JsonError:
        text = None
    return Identity(_named(index, item, key), None if text is None else digest(text))


def name_of(func: object) -> str:
    """Return what *func* is called, with the arguments of a `functools.partial`."""
    inner, given = func, []
    while isinstance(inner, functools.partial):
        given.append([*inner.args, *sorted(inner.keywords.items())])
        inner = inner.func
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    name = f"{getattr(named, '__module__', None)}.{getattr(named, '__qualname__', None)}"
    if given:
        arguments = jsontext.canonical([[_told(one) for one in some] for some in given])
        name += f"({arguments.decode()[1:-1]})"
    return shortened(name)


def digest(*parts: str) -> str:
    """Return a hash of *parts*: 40 hexadecimal digits."""
    # Each part with its length, so that no two lists of parts look alike.
    text = "".join([f"{len(part)}:{part}" for part in parts])
    return sha256(text.encode()).hexdigest()[:40]


def shortened(text: str) -> str:
    """Return *text*, or its beginning and its hash if it is long."""
    if len(text) <= MOST_CHARS:
        return text
    return f"{text[:_SHOWN_CHARS]}…{digest(text)}"


def _named(index: int, item: object, key: Callable[[Any], str | int]) -> str:
    try:
        given = key(item)
        text = str(given) if isinstance(given, str) else str(operator.index(given))
        text.encode()
    except Exception as exc:
        msg = (
            f"key= gave no name for item {index}: {describe(exc)}. It must return a text or an "
            "int that tells the item from all others."
        )
        raise CheckpointError(msg) from exc
    return shortened(text)


def _canonical(item: object) -> str:
    try:
        plain = jsontext.plain(item)
    except jsontext.JsonError:
        # Tables have gaps; as part of a name, a gap is as good as a number.
        plain = jsontext.plain(_without_gaps(item))
    return jsontext.canonical(plain).decode()


def _without_gaps(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_gaps(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_gaps(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return f"\0{value}"
    return f"\0{value}" if type(value).__name__ in {"NAType", "NaTType"} else value


def _told(value: Any) -> Any:
    """Return *value* as JSON, or the name of its class."""
    try:
        return jsontext.plain(value)
    except jsontext.JsonError:
        return f"\0{type(value).__qualname__}"
