"""What a value looks like in a message, whatever its class makes of `repr`.

Holds: `shown`, and `once_made` for a `__repr__`. Does not hold: the messages.
Pure, safe anywhere.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

S = TypeVar("S")


def shown(value: object, width: int = 60) -> str:
    """Return the beginning of the repr of *value*, or its class if it has none.

    A value from outside may have a repr that raises, or that never ends; the
    error that is about the value must not give way to that one.
    """
    try:
        return repr(value)[:width]
    except Exception:  # noqa: BLE001 - whatever it raises
        return f"<{type(value).__name__}>"


def once_made(function: Callable[[S], str]) -> Callable[[S], str]:
    """Return the `__repr__` *function*, for an object whose constructor may have failed too.

    A traceback that shows locals shows that object, without its attributes.
    """

    @functools.wraps(function)
    def safe(self: S) -> str:
        try:
            return function(self)
        except AttributeError:
            return f"<{type(self).__name__}, not made>"

    return safe
