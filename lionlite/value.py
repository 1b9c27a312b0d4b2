"""Frozen values of which every call makes several.

Holds: `Value`, their base, and `changed`. Does not hold: any of them; nor the
values that are made rarely, which are `attrs.frozen`. A struct is made in C, in
a fifth of the time. Safe to share between threads.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

V = TypeVar("V", bound="Value")


class Value(msgspec.Struct, frozen=True, weakref=True):
    """A frozen value, equal to another of its class with equal attributes."""

    # rich, and so many a traceback, would ask it first: it shows what __repr__ hides.
    __rich_repr__ = None  # type: ignore[assignment]


def changed(value: V, **attributes: Any) -> V:
    """Return *value* with other *attributes*."""
    return msgspec.structs.replace(value, **attributes)
