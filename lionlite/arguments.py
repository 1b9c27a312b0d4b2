"""Refusing names that nobody knows, with the nearest one that is known.

Holds: `nearest` and `refuse_unknown`, and a decorator for constructors. Does
not hold: what any argument means. Pure, safe anywhere.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from lionlite.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

P = ParamSpec("P")
R = TypeVar("R")


def nearest(name: str, known: Collection[str]) -> str:
    """Return a hint that names the known name nearest to *name*."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(sorted(known))}."


def refuse_unknown(names: Iterable[str], known: Collection[str], *, where: str) -> None:
    """Raise if one of *names* is not in *known*.

    Raises:
        ConfigError: It is not; the message names it and the nearest known.
    """
    for name in names:
        if name not in known:
            msg = f"{where} has no argument {name!r}: {nearest(name, known)}"
            raise ConfigError(msg)


def keywords_checked(function: Callable[P, R]) -> Callable[P, R]:
    """Return *function*, refusing unknown keywords with a `ConfigError`."""
    parameters = inspect.signature(function).parameters
    known = {
        name
        for name, parameter in parameters.items()
        if name != "self" and parameter.kind is not parameter.POSITIONAL_ONLY
    }
    where = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            if not known >= kwargs.keys():
                refuse_unknown(kwargs, known, where=f"{where}()")
            return function(*args, **kwargs)
        finally:
            # One of them may be an API key, and tracebacks may show locals.
            kwargs.clear()
            del args

    return checked
