"""`lcall`, `alcall` and `icall`: a function mapped over items, in threads.

Holds: the public functions and the checks of their arguments. Does not hold:
how a run goes on (engine.py) nor its threads (pool.py).
Threads: each call has its own threads, so calls nest without deadlock.
"""

from __future__ import annotations

import functools
import inspect
import operator
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, get_args, overload

from lionlite.arguments import nearest
from lionlite.calls.engine import Engine, OnError, Options
from lionlite.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Never

    from lionlite.calls.progress import Show

T = TypeVar("T")
R = TypeVar("R")

Raising = Literal["stop", "continue"]
Returning = Literal["return"]

# Enough for most providers' limits with replies of some seconds; a thread
# that waits costs about 30 KiB.
DEFAULT_WORKERS = 64


@overload
def lcall(
    items: Iterable[T],
    func: Callable[[T], R],
    *,
    max_workers: int = ...,
    on_error: Raising = ...,
    progress: bool | Show = ...,
) -> list[R]: ...
@overload
def lcall(
    items: Iterable[T],
    func: Callable[[T], R],
    *,
    max_workers: int = ...,
    on_error: Returning,
    progress: bool | Show = ...,
) -> list[R | BaseException]: ...
def lcall(
    items: Iterable[T],
    func: Callable[[T], R],
    *,
    max_workers: int = DEFAULT_WORKERS,
    on_error: OnError = "stop",
    progress: bool | Show = False,
    **extra: Never,
) -> list[R] | list[R | BaseException]:
    """Call *func* with every item, in threads, and return the values in order.

    Only the calling thread reads *items*, and never more than
    `max_workers + 128` of them before their values are in place, so cursors
    and generators work. *items* is read in a copy of the caller's context and
    each item runs in a copy of that, so a `deadline` around the call holds in
    every item; the call itself ends when its items do. Arguments for *func* go
    through `functools.partial`.

    Args:
        items: Any iterable. A str, bytes and a dict are one item; a DataFrame
            is its rows as dicts, a Series its values.
        func: A plain function of one item, called in several threads at once.
        max_workers: The most items that run at the same time, >= 1; threads
            are started as they are needed. Calls inside *func* have threads of
            their own.
        on_error: "stop": no new item is started after the first error, those
            that run are waited for, then CallError. "continue": all items run,
            then CallError. "return": errors stand in the places of their
            values. An error with a true `.fatal` stops the run in every mode.
        progress: True for a bar, or a function called in the calling thread
            with the items done and their total (None if unknown). If it
            raises, it is not called again and CallError is raised at the end.
        **extra: None is taken; a name that is not ours is refused.

    Returns:
        One value per item, in the order of *items*.

    Raises:
        ConfigError: An argument is wrong; nothing was called.
        CallError: Items failed, or reading *items* did. Everything finished is
            in `.results`, the errors are in `.failed`. SystemExit and other
            BaseExceptions raised by *func* count as its item's error.
        Interrupted: Ctrl-C, or KeyboardInterrupt raised by *func*. No new item
            is started, all that run are told and have 0.5 s to come back;
            everything finished is in `.results`. A second Ctrl-C does not wait.
            An item stuck in I/O of its own keeps Python from exiting until it
            ends, or until Ctrl-C is pressed again.
        Cancelled: The scope around the call was cancelled; its items are told
            and not waited for.

    Threads: safe anywhere. Ctrl-C reaches the main thread only.
    """
    _check("lcall", func, extra)
    options = _options(max_workers, on_error, progress)
    return _in_order(Engine(items, func, options, is_eager=False))


alcall = lcall
"""LionAGI's second name for it, from when it was awaited."""


@overload
def icall(
    items: Iterable[T],
    func: Callable[[T], R],
    *,
    max_workers: int = ...,
    on_error: Raising = ...,
    progress: bool | Show = ...,
) -> Iterator[tuple[int, R]]: ...
@overload
def icall(
    items: Iterable[T],
    func: Callable[[T], R],
    *,
    max_workers: int = ...,
    on_error: Returning,
    progress: bool | Show = ...,
) -> Iterator[tuple[int, R | BaseException]]: ...
def icall(
    items: Iterable[T],
    func: Callable[[T], R],
    *,
    max_workers: int = DEFAULT_WORKERS,
    on_error: OnError = "stop",
    progress: bool | Show = False,
    **extra: Never,
) -> Iterator[tuple[int, R]] | Iterator[tuple[int, R | BaseException]]:
    """Call *func* with every item, in threads; yield (index, value) as they come.

    Nothing starts before the first value is asked for. Never more than
    `max_workers + 128` items are read and not yet handed over, so *items* may
    be endless and the code that takes the values may be slow. Leaving the loop
    (or `close()`) starts no new item, tells those that run to stop and gives
    them 0.5 s to come back.

    Args:
        items: As for `lcall`.
        func: As for `lcall`.
        max_workers: As for `lcall`.
        on_error: "stop" and "continue" as for `lcall`, with every value that
            finished yielded before CallError. "return": an error is yielded as
            its item's value, except a fatal one.
        progress: As for `lcall`.
        **extra: None is taken, as for `lcall`.

    Returns:
        An iterator of (index in *items*, value), in the order in which they
        finish; a generator, so one thread at a time may use it.

    Raises:
        ConfigError: An argument is wrong; raised at once.
        CallError: While iterating, as for `lcall`, but `.results` is empty:
            the values were yielded. `.failed` has the errors that were not.
        Interrupted: Ctrl-C while the iterator waited, after everything
            finished was yielded.
        Cancelled: The scope around the call of `icall` was cancelled.

    Threads: safe anywhere. Ctrl-C reaches the main thread only.
    """
    _check("icall", func, extra)
    options = _options(max_workers, on_error, progress)
    return _as_they_come(Engine(items, func, options, is_eager=True))


def _in_order(engine: Engine[Any, R]) -> list[R]:
    results: list[R | None] = []
    try:
        with engine.opened():
            while engine.advance():
                engine.place(results)
            engine.place(results)
        for index, error in engine.finish(results).items():
            results[index] = cast("R", error)
        return cast("list[R]", results)
    except KeyboardInterrupt as error:
        engine.place(results)
        raise engine.interrupted(results) from error


def _as_they_come(engine: Engine[Any, R]) -> Iterator[tuple[int, R | BaseException]]:
    try:
        with engine.opened():
            while engine.advance():
                yield from engine.pairs()
            yield from engine.pairs()
        engine.finish()
    except KeyboardInterrupt as error:
        yield from engine.pairs()
        raise engine.interrupted() from error


def _options(max_workers: object, on_error: object, progress: object) -> Options:
    if on_error not in get_args(OnError):
        msg = f'on_error must be "stop", "continue" or "return"; got {on_error!r}.'
        raise ConfigError(msg)
    if not (isinstance(progress, bool) or callable(progress)):
        msg = f"progress must be True, False or a function of (done, total); got {progress!r}."
        raise ConfigError(msg)
    return Options(_workers_from(max_workers), cast("OnError", on_error), progress)


def _workers_from(value: object) -> int:
    try:
        workers = 0 if isinstance(value, bool) else operator.index(cast("int", value))
    except TypeError:
        workers = 0
    if workers < 1:
        msg = f"max_workers must be an int >= 1; got {value!r}."
        raise ConfigError(msg)
    return workers


def _check(name: str, func: object, extra: dict[str, Any]) -> None:
    if extra:
        raise ConfigError(_not_ours(name, next(iter(extra))))
    if not callable(func):
        msg = f"func must be callable; got {type(func).__name__}. The order is {name}(items, func)."
        raise ConfigError(msg)
    inner: Any = func
    while isinstance(inner, functools.partial):
        inner = inner.func
    if _is_async(inner) or _is_async(type(inner).__call__):
        msg = (
            f"func is async, and {name} awaits nothing. Give a plain function: make it "
            "`def` and use the blocking calls; the threads run them side by side."
        )
        raise ConfigError(msg)


def _is_async(func: object) -> bool:
    return inspect.iscoroutinefunction(func) or inspect.isasyncgenfunction(func)


def _not_ours(name: str, given: str) -> str:
    hint = nearest(given, ("max_workers", "on_error", "progress"))
    return (
        f"{name}() has no argument {given!r}: {hint} Arguments for the function go through "
        f"functools.partial: {name}(items, functools.partial(func, {given}=...))."
    )
