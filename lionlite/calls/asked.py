"""What a mapping call was asked for: its options, checked before anything runs.

Holds: `Options`, `options_from`, and `refuse_misuse`, shared by all calls of
the family. Does not hold: what the options do (engine.py, pool.py,
attempt.py), nor those of a checkpoint (journal/checkpoint.py). Pure, safe anywhere.
"""

from __future__ import annotations

import functools
import inspect
import operator
import threading
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import attrs

from lionlite.arguments import nearest
from lionlite.exceptions import ConfigError
from lionlite.scope import seconds_from

if TYPE_CHECKING:
    from collections.abc import Collection

    from lionlite.calls.progress import Show

OnError = Literal["stop", "continue", "return"]
Workers = int | Literal["auto"]

_CURES = {
    "flatten": "LionAGI joined the lists that func returned; join them yourself: "
    "[part for value in values for part in value].",
    "dropna": "LionAGI dropped None from items and results; leave it out yourself: "
    "[item for item in items if item is not None].",
}
"""For what LionAGI's lcall kept to itself: functools.partial would hand it to the function."""


@attrs.frozen
class Options:
    """How a mapping call goes about its items.

    Attributes:
        max_workers: The most items that run at the same time; None = as many
            as their chats can use (workers.py).
        on_error: What the first error means.
        progress: Whether to show a bar, or the function to call instead.
        retries: Attempts that an item has beyond the first.
        grace_s: Seconds that running items have to finish after Ctrl-C,
            before they are told to stop.
        hears_sigterm: Whether SIGTERM is to mean what Ctrl-C does.
        resume: How to go on after an interruption, as a sentence; None if all
            items would run again.
    """

    max_workers: int | None = None
    on_error: OnError = "stop"
    progress: bool | Show = False
    retries: int = 0
    grace_s: float = 0.0
    hears_sigterm: bool = False
    resume: str | None = None


def options_from(
    *,
    max_workers: object = "auto",
    on_error: object = "stop",
    progress: object = False,
    retries: object = 0,
    grace: float = 0,
    sigterm: object = False,
    resume: str | None = None,
) -> Options:
    """Return the options that a user gave, as the engine takes them.

    Raises:
        ConfigError: One of them is wrong; the message names it.
    """
    if on_error not in get_args(OnError):
        msg = f'on_error must be "stop", "continue" or "return"; got {on_error!r}.'
        raise ConfigError(msg)
    if not (isinstance(progress, bool) or callable(progress)):
        msg = f"progress must be True, False or a function of (done, total); got {progress!r}."
        raise ConfigError(msg)
    return Options(
        max_workers=_workers_from(max_workers),
        on_error=cast("OnError", on_error),
        progress=progress,
        retries=whole(retries, name="retries", least=0),
        grace_s=seconds_from(grace, name="grace"),
        hears_sigterm=_hears(sigterm),
        resume=resume,
    )


def whole(value: object, *, name: str, least: int) -> int:
    """Return *value* as an int that is at least *least*; bools are no numbers here.

    Raises:
        ConfigError: It is none; the message calls it *name*.
    """
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(cast("int", value))
    except TypeError:
        number = least - 1
    if number < least:
        msg = f"{name} must be an int >= {least}; got {value!r}."
        raise ConfigError(msg)
    return number


def _workers_from(value: object) -> int | None:
    if isinstance(value, str):
        if value == "auto":
            return None
        msg = f'max_workers must be "auto" or an int >= 1; got {value!r}.'
        raise ConfigError(msg)
    return whole(value, name="max_workers", least=1)


def _hears(value: object) -> bool:
    if not isinstance(value, bool):
        msg = f"sigterm must be True or False; got {value!r}."
        raise ConfigError(msg)
    if value and threading.current_thread() is not threading.main_thread():
        msg = "sigterm=True works in the main thread only: Python hears signals nowhere else."
        raise ConfigError(msg)
    return value


def refuse_misuse(
    name: str, func: object, *, extra: dict[str, Any], known: Collection[str]
) -> None:
    """Raise if *func* cannot be mapped, or a keyword was given that is not ours.

    Args:
        name: Of the call, for the message.
        func: The function.
        extra: The keywords that the call did not know.
        known: Those that it does.

    Raises:
        ConfigError: It is so; nothing was called yet.
    """
    if extra:
        raise ConfigError(_not_ours(name, next(iter(extra)), known))
    if not callable(func):
        msg = f"func must be callable; got {type(func).__name__}. The order is {name}(items, func)."
        raise ConfigError(msg)
    inner = innermost(func)
    if _is_async(inner) or _is_async(type(inner).__call__):
        msg = (
            f"func is async, and {name} awaits nothing. Give a plain function: make it "
            "`def` and use the blocking calls; the threads run them side by side."
        )
        raise ConfigError(msg)


def innermost(func: Any) -> Any:
    """Return the function inside of any `functools.partial` around it."""
    while isinstance(func, functools.partial):
        func = func.func
    return func


def name_of(func: object) -> str:
    """Return how to call *func* in a message: never its repr, which may show arguments."""
    inner = innermost(func)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{getattr(named, '__module__', '?')}.{named.__qualname__}"


def _is_async(func: object) -> bool:
    return inspect.iscoroutinefunction(func) or inspect.isasyncgenfunction(func)


def _not_ours(name: str, given: str, known: Collection[str]) -> str:
    cure = _CURES.get(given) or (
        f"{nearest(given, known)} Arguments for the function go through functools.partial: "
        f"{name}(items, functools.partial(func, {given}=...))."
    )
    return f"{name}() has no argument {given!r}: {cure}"
