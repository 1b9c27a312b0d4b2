"""The two ways to take a run to its end: all values in order, or as they come.

Holds: `in_order` and `as_they_come`, and what Ctrl-C means for each. Does not
hold: a single step (engine.py). Threads: for the calling thread of the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lionlite.calls.engine import Engine

R = TypeVar("R")


def in_order(engine: Engine[Any, R]) -> list[R]:
    """Run all items; return their values, and errors where those are wanted, in order.

    Raises:
        CallError: As for `lcall`.
        CheckpointError: As for `lcall`.
        Cancelled: The scope around the call was cancelled.
        Interrupted: Ctrl-C, or the function raised KeyboardInterrupt.
    """
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


def as_they_come(engine: Engine[Any, R]) -> Iterator[tuple[int, R | BaseException]]:
    """Run all items, each when it is asked for; yield (index, value) as they finish.

    Raises:
        CallError: As for `icall`.
        CheckpointError: As for `icall`.
        Cancelled: The scope around the call was cancelled.
        Interrupted: Ctrl-C, or the function raised KeyboardInterrupt.
    """
    try:
        with engine.opened():
            while engine.advance():
                yield from engine.pairs()
            yield from engine.pairs()
        engine.finish()
    except KeyboardInterrupt as error:
        yield from engine.pairs()
        raise engine.interrupted() from error
