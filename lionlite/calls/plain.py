"""Which functions the family takes: plain ones, that have done their work when they return.

Holds: `require_plain` and `require_whole`. Does not hold: what is done with
the function. Pure, safe anywhere.
"""

from __future__ import annotations

import inspect

from lionlite.calls.asked import innermost
from lionlite.exceptions import ConfigError


def require_plain(func: object, *, where: str) -> None:
    """Refuse what cannot be called, and what would have to be awaited.

    Args:
        func: The function; what a `functools.partial` wraps is looked at.
        where: Who was given it, for the message.

    Raises:
        ConfigError: It is not callable, or it is `async def`.
    """
    if not callable(func):
        msg = f"{where} takes a function; got {type(func).__name__}.{_cure(func)}"
        raise ConfigError(msg)
    inner = innermost(func)
    if _is_async(inner) or _is_async(type(inner).__call__):
        msg = (
            f"{where} got an async function, and awaits nothing. Give a plain function: make it "
            "`def` and use the blocking calls; threads run them side by side."
        )
        raise ConfigError(msg)


def require_whole(func: object, *, where: str) -> None:
    """Refuse, besides, a generator function: its body runs after the call.

    Raises:
        ConfigError: As `require_plain`, or it is a generator function.
    """
    require_plain(func, where=where)
    if inspect.isgeneratorfunction(innermost(func)):
        msg = f"{where} got a generator function, whose body runs after the call: return a list."
        raise ConfigError(msg)


def _is_async(func: object) -> bool:
    return inspect.iscoroutinefunction(func) or inspect.isasyncgenfunction(func)


def _cure(func: object) -> str:
    if isinstance(func, (classmethod, property)):
        return f" Put @{type(func).__name__} above it."
    return ""
