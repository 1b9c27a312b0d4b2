"""`mcall`: several functions, each on its own item, or each on all items.

Holds: the public function, and how items meet functions. Does not hold: the
run (engine.py) and its options (asked.py).
Threads: each call has its own threads, so calls nest without deadlock.

Where a meaning differs from LionAGI's (0.0.300); the last three for `lcall`,
`alcall`, `icall` and `bcall` too:

| what | LionAGI | lionlite |
|---|---|---|
| `mcall`, other lengths | ValueError | ConfigError (a ValueError), before any call |
| None among the items | dropped by `mcall` | an item like any other |
| lists among the items | flattened | items like any other |
| `flatten=`, `dropna=` | taken | refused; flatten and filter the input or the list yourself |
| keywords for the function | passed on | refused; use `functools.partial` |
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from lionlite.calls.asked import name_of, options_from, refuse_misuse
from lionlite.calls.course import in_order
from lionlite.calls.engine import Engine
from lionlite.calls.inputs import count, iterate
from lionlite.calls.verdict import Tally, input_failed
from lionlite.exceptions import CallError, ConfigError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Never

    from lionlite.calls.asked import OnError, Options, Workers
    from lionlite.calls.family import Raising, Returning
    from lionlite.calls.progress import Show

T = TypeVar("T")
R = TypeVar("R")

Cell = tuple["Callable[[Any], Any]", Any]

KNOWN = ("explode", "max_workers", "on_error", "progress", "retries", "grace", "sigterm")


@overload
def mcall(
    items: Iterable[T],
    funcs: Callable[[T], R] | Iterable[Callable[[T], R]],
    *,
    explode: Literal[False] = ...,
    max_workers: Workers = ...,
    on_error: Raising = ...,
    progress: bool | Show = ...,
    retries: int = ...,
    grace: float = ...,
    sigterm: bool = ...,
) -> list[R]: ...
@overload
def mcall(
    items: Iterable[T],
    funcs: Callable[[T], R] | Iterable[Callable[[T], R]],
    *,
    explode: Literal[False] = ...,
    max_workers: Workers = ...,
    on_error: Returning,
    progress: bool | Show = ...,
    retries: int = ...,
    grace: float = ...,
    sigterm: bool = ...,
) -> list[R | BaseException]: ...
@overload
def mcall(
    items: Iterable[T],
    funcs: Callable[[T], R] | Iterable[Callable[[T], R]],
    *,
    explode: Literal[True],
    max_workers: Workers = ...,
    on_error: Raising = ...,
    progress: bool | Show = ...,
    retries: int = ...,
    grace: float = ...,
    sigterm: bool = ...,
) -> list[list[R]]: ...
@overload
def mcall(
    items: Iterable[T],
    funcs: Callable[[T], R] | Iterable[Callable[[T], R]],
    *,
    explode: Literal[True],
    max_workers: Workers = ...,
    on_error: Returning,
    progress: bool | Show = ...,
    retries: int = ...,
    grace: float = ...,
    sigterm: bool = ...,
) -> list[list[R | BaseException]]: ...
def mcall(
    items: Iterable[Any],
    funcs: Callable[[Any], Any] | Iterable[Callable[[Any], Any]],
    *,
    explode: bool = False,
    max_workers: Workers = "auto",
    on_error: OnError = "stop",
    progress: bool | Show = False,
    retries: int = 0,
    grace: float = 0,
    sigterm: bool = False,
    **extra: Never,
) -> list[Any]:
    """Call the first function with the first item, the second with the second, ...

    With *explode*, call every function with every item. Both lists are read
    before anything is called; all calls share one set of threads.

    Args:
        items: As for `lcall`; with *explode* a finite input.
        funcs: Plain functions of one item, as many as there are items unless
            *explode*; a single one stands for a list of one.
        explode: Call every function with every item.
        max_workers: As for `lcall`.
        on_error: As for `lcall`.
        progress: As for `lcall`; the total is that of all calls.
        retries: As for `lcall`.
        grace: As for `lcall`.
        sigterm: As for `lcall`.
        **extra: None is taken; a name that is not ours is refused.

    Returns:
        One value per item, in order. With *explode* a list for each function,
        with a value for each item.

    Raises:
        ConfigError: An argument is wrong, or there are not as many functions
            as items; nothing was called.
        CallError: Calls failed, or reading *items* did, as for `lcall`. With
            *explode*, `.results` has a list for each function too, and the
            indices of `.failed` count row by row: `divmod(index, len(items))`
            is the place of the function and that of the item.
        Interrupted: As for `lcall`, `.results` and `.failed` as in CallError.
        Cancelled: The scope around the call was cancelled.

    Threads: safe anywhere. Ctrl-C reaches the main thread only.
    """
    functions = _functions_from(funcs, extra)
    options = options_from(
        max_workers=max_workers,
        on_error=on_error,
        progress=progress,
        retries=retries,
        grace=grace,
        sigterm=sigterm,
    )
    if not isinstance(explode, bool):
        msg = f"explode must be True or False; got {explode!r}."
        raise ConfigError(msg)
    if explode:
        return _exploded(_read(items, None), functions, options)
    return _run(_paired(items, functions), options)


def _functions_from(
    funcs: Callable[[Any], Any] | Iterable[Callable[[Any], Any]], extra: dict[str, Any]
) -> list[Callable[[Any], Any]]:
    if not (callable(funcs) or isinstance(funcs, Iterable)):
        msg = f"funcs must be a function or an iterable of them; got {type(funcs).__name__}."
        raise ConfigError(msg)
    functions = [funcs] if callable(funcs) else list(funcs)
    for function in functions or [_call]:
        refuse_misuse("mcall", function, extra=extra, known=KNOWN)
    return functions


def _paired(items: Iterable[Any], functions: Sequence[Callable[[Any], Any]]) -> list[Cell]:
    # One more than fits, so that an endless input is found to be too long too.
    read = _read(items, len(functions) + 1)
    if len(read) != len(functions):
        had = count(items) or (len(read) if len(read) < len(functions) else "more")
        msg = (
            f"mcall() needs one function per item; got {len(functions)} functions and {had} "
            "items. For one function on all items use lcall(), for every function on all items "
            "explode=True."
        )
        raise ConfigError(msg)
    return list(zip(functions, read, strict=True))


def _read(items: Iterable[Any], most: int | None) -> list[Any]:
    read: list[Any] = []
    iterator = islice(iterate(items), most)
    try:
        read.extend(iterator)
    except Exception as error:
        raise input_failed(Tally(len(read), [None] * len(read), {}), error) from error
    return read


def _run(cells: list[Cell], options: Options) -> list[Any]:
    return in_order(Engine(cells, _call, options, is_eager=False))


def _call(cell: Cell) -> Any:
    function, item = cell
    return function(item)


def _exploded(
    items: list[Any], functions: Sequence[Callable[[Any], Any]], options: Options
) -> list[list[Any]]:
    cells = [(function, item) for function in functions for item in items]
    try:
        return _rows(_run(cells, options), len(functions), len(items))
    except (CallError, Interrupted) as error:
        error.results = _rows(error.results, len(functions), len(items))
        first = next(iter(error.failed), None)
        if first is not None:
            row, column = divmod(first, len(items))
            error.add_note(f"Index {first}: {name_of(functions[row])}, item {column}.")
        raise


def _rows(values: list[Any], height: int, width: int) -> list[list[Any]]:
    # What was never begun has its place all the same.
    padded = [*values, *([None] * (height * width - len(values)))]
    return [padded[row * width : (row + 1) * width] for row in range(height)]
