"""`lcall`, `alcall` and `icall`: a function mapped over items, in threads.

Holds: the public functions and the checks of their arguments. Does not hold:
how a run goes on (engine.py) nor its threads (pool.py).
Threads: each call has its own threads, so calls nest without deadlock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, Unpack, overload

from lionlite.calls.asked import OnError, Workers, options_from, refuse_misuse
from lionlite.calls.course import as_they_come, in_order
from lionlite.calls.engine import Engine
from lionlite.calls.keeping import KEEPING, keeping_from

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from typing import Never

    from lionlite.calls.asked import Options
    from lionlite.calls.journal.checkpoint import Durability
    from lionlite.calls.keeping import Keeping
    from lionlite.calls.progress import Show

T = TypeVar("T")
R = TypeVar("R")

Raising = Literal["stop", "continue"]
Returning = Literal["return"]

KNOWN = ("max_workers", "on_error", "progress", "retries", "grace", "sigterm", *KEEPING)


class KeepingArguments(TypedDict, total=False):
    """The arguments beside *checkpoint* (see `lcall`)."""

    replay: bool
    version: str | int | None
    key: Callable[[Any], str | int] | None
    encode: Callable[[Any], Any] | None
    decode: Callable[[Any], Any] | None
    durability: Durability


@overload
def lcall(
    items: Iterable[T],
    func: Callable[[T], R],
    *,
    max_workers: Workers = ...,
    on_error: Raising = ...,
    progress: bool | Show = ...,
    retries: int = ...,
    grace: float = ...,
    sigterm: bool = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
    **keeping: Unpack[KeepingArguments],
) -> list[R]: ...
@overload
def lcall(
    items: Iterable[T],
    func: Callable[[T], R],
    *,
    max_workers: Workers = ...,
    on_error: Returning,
    progress: bool | Show = ...,
    retries: int = ...,
    grace: float = ...,
    sigterm: bool = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
    **keeping: Unpack[KeepingArguments],
) -> list[R | BaseException]: ...
def lcall(
    items: Iterable[T],
    func: Callable[[T], R],
    *,
    max_workers: Workers = "auto",
    on_error: OnError = "stop",
    progress: bool | Show = False,
    retries: int = 0,
    grace: float = 0,
    sigterm: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    replay: bool = True,
    version: str | int | None = None,
    key: Callable[[T], str | int] | None = None,
    encode: Callable[[R], Any] | None = None,
    decode: Callable[[Any], R] | None = None,
    durability: Durability = "process",
    **extra: Never,
) -> list[R] | list[R | BaseException]:
    """Call *func* with every item, in threads, and return the values in order.

    Only the calling thread reads *items*, and never more than 128 of them
    beyond those that run, so cursors and generators work. *items* is read in a
    copy of the caller's context and each item runs in a copy of that, so a
    `deadline` around the call holds in every item; the call itself ends when
    its items do. Arguments for *func* go through `functools.partial`.

    Args:
        items: Any iterable. A str, bytes and a dict are one item; a DataFrame
            is its rows as dicts, a Series its values.
        func: A plain function of one item, called in several threads at once.
        max_workers: The most items that run at the same time, >= 1; threads
            are started as they are needed. "auto": as many as are of use. While
            items wait for replies threads are added, to 1,024 in the process
            (fewer where it may not open so many files), and none while one
            waits for its budget; items that do not chat get min(32, CPUs + 4).
            Calls inside *func* have threads of their own.
        on_error: "stop": no new item is started after the first error, those
            that run are waited for, then CallError. "continue": all items run,
            then CallError. "return": errors stand in the places of their
            values. An error with a true `.fatal` stops the run in every mode.
        progress: True for a bar, or a function called in the calling thread
            with the items done and their total (None if unknown). If it
            raises, it is not called again and CallError is raised at the end.
        retries: Attempts that an item has beyond the first. It is tried again
            on any Exception but a fatal one, `ConfigError` and `Cancelled`: at
            once, or after the seconds that the error's `.retry_after_s` says,
            120 at most: who asks for more is not waited for.
        grace: Seconds, >= 0, that items have to finish after Ctrl-C before
            they are told to stop; 0 = they are told at once.
        sigterm: Whether SIGTERM means what Ctrl-C does; main thread only. The
            handler of before is put back at the end.
        checkpoint: The path of a file in which every chat and every item is
            kept as soon as it is finished, so that the same call, after a kill
            or a change, pays only for what is missing (see `open_checkpoint`).
        replay: With a checkpoint: whether an item that made chats runs again,
            its chats answered from the file, rather than being taken whole.
        version: With a checkpoint: change it when *func* changed.
        key: With a checkpoint: from an item to the text or int that names it
            in all runs; None = its own JSON.
        encode: With a checkpoint: from a value to what JSON knows.
        decode: With a checkpoint: the way back.
        durability: With a checkpoint: what is finished survives a kill of the
            "process", or of the machine's "power".
        **extra: None is taken; a name that is not ours is refused.

    Returns:
        One value per item, in the order of *items*.

    Raises:
        ConfigError: An argument is wrong; nothing was called.
        CallError: Items failed, or reading *items* did. Everything finished is
            in `.results`, the errors are in `.failed`. SystemExit and other
            BaseExceptions raised by *func* count as its item's error.
        CheckpointError: The checkpoint cannot be used, or could keep no more:
            then no new item was started, and everything finished is in
            `.results`.
        Interrupted: Ctrl-C, or KeyboardInterrupt raised by *func*. No new item
            is started, all that run are told (after *grace*) and have 0.5 s to
            come back; everything finished is in `.results`. A second Ctrl-C
            does not wait. An item stuck in I/O of its own keeps Python from
            exiting until it ends, or until Ctrl-C is pressed again; it is
            named on stderr.
        Cancelled: The scope around the call was cancelled, or Python exits;
            its items are told and not waited for.

    Threads: safe anywhere. Ctrl-C reaches the main thread only.
    """
    refuse_misuse("lcall", func, extra=extra, known=KNOWN)
    kept = keeping_from(
        checkpoint,
        replay=replay,
        version=version,
        key=key,
        encode=encode,
        decode=decode,
        durability=durability,
    )
    options = options_from(
        max_workers=max_workers,
        on_error=on_error,
        progress=progress,
        retries=retries,
        grace=grace,
        sigterm=sigterm,
        resume=kept.resume,
    )
    with kept.opened(func) as recorder:
        return in_order(Engine(items, func, options, is_eager=False, recorder=recorder))


alcall = lcall
"""LionAGI's second name for it, from when it was awaited."""


@overload
def icall(
    items: Iterable[T],
    func: Callable[[T], R],
    *,
    max_workers: Workers = ...,
    on_error: Raising = ...,
    progress: bool | Show = ...,
    retries: int = ...,
    grace: float = ...,
    sigterm: bool = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
    **keeping: Unpack[KeepingArguments],
) -> Iterator[tuple[int, R]]: ...
@overload
def icall(
    items: Iterable[T],
    func: Callable[[T], R],
    *,
    max_workers: Workers = ...,
    on_error: Returning,
    progress: bool | Show = ...,
    retries: int = ...,
    grace: float = ...,
    sigterm: bool = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
    **keeping: Unpack[KeepingArguments],
) -> Iterator[tuple[int, R | BaseException]]: ...
def icall(
    items: Iterable[T],
    func: Callable[[T], R],
    *,
    max_workers: Workers = "auto",
    on_error: OnError = "stop",
    progress: bool | Show = False,
    retries: int = 0,
    grace: float = 0,
    sigterm: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    replay: bool = True,
    version: str | int | None = None,
    key: Callable[[T], str | int] | None = None,
    encode: Callable[[R], Any] | None = None,
    decode: Callable[[Any], R] | None = None,
    durability: Durability = "process",
    **extra: Never,
) -> Iterator[tuple[int, R]] | Iterator[tuple[int, R | BaseException]]:
    """Call *func* with every item, in threads; yield (index, value) as they come.

    Nothing starts before the first value is asked for. Never more than 128
    items beyond those that run are read and not yet handed over, so *items* may
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
        retries: As for `lcall`.
        grace: As for `lcall`; leaving the loop early gives none.
        sigterm: As for `lcall`.
        checkpoint: As for `lcall`; opened when the first value is asked for.
        replay: As for `lcall`.
        version: As for `lcall`.
        key: As for `lcall`.
        encode: As for `lcall`.
        decode: As for `lcall`.
        durability: As for `lcall`.
        **extra: None is taken, as for `lcall`.

    Returns:
        An iterator of (index in *items*, value), in the order in which they
        finish; a generator, so one thread at a time may use it.

    Raises:
        ConfigError: An argument is wrong; raised at once.
        CallError: While iterating, as for `lcall`, but `.results` is empty:
            the values were yielded. `.failed` has the errors that were not.
        CheckpointError: While iterating, as for `lcall`.
        Interrupted: Ctrl-C while the iterator waited, after everything
            finished was yielded.
        Cancelled: The scope around the call of `icall` was cancelled, or
            Python exits.

    Threads: safe anywhere. Ctrl-C reaches the main thread only.
    """
    refuse_misuse("icall", func, extra=extra, known=KNOWN)
    kept = keeping_from(
        checkpoint,
        replay=replay,
        version=version,
        key=key,
        encode=encode,
        decode=decode,
        durability=durability,
    )
    options = options_from(
        max_workers=max_workers,
        on_error=on_error,
        progress=progress,
        retries=retries,
        grace=grace,
        sigterm=sigterm,
        resume=kept.resume,
    )
    return _as_they_come(items, func, options, kept)


def _as_they_come(
    items: Iterable[T], func: Callable[[T], R], options: Options, kept: Keeping
) -> Iterator[tuple[int, R | BaseException]]:
    with kept.opened(func) as recorder:
        yield from as_they_come(Engine(items, func, options, is_eager=True, recorder=recorder))
