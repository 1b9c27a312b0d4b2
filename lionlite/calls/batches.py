"""`bcall`: batch after batch, the items of a batch at the same time.

Holds: the public function, and how its run differs from that of `lcall`. Does
not hold: everything that is the same (engine.py, asked.py).
Threads: each call has its own threads, so calls nest without deadlock.

Where a meaning differs from LionAGI's (0.0.300):

| what | LionAGI | lionlite |
|---|---|---|
| `bcall`: the function gets | the batch, says its guide; an item, does its code | an item |
| `bcall`: the input is read | as a whole | a batch at a time |
| `bcall`: an item fails | everything finished is lost | CallError has all finished batches |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, overload

from lionlite.calls.asked import options_from, refuse_misuse, whole
from lionlite.calls.course import in_order
from lionlite.calls.engine import Engine
from lionlite.calls.workers import most_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Never

    from lionlite.calls.asked import OnError, Options, Workers
    from lionlite.calls.family import Raising, Returning
    from lionlite.calls.progress import Show

T = TypeVar("T")
R = TypeVar("R")

KNOWN = ("batch_size", "max_workers", "on_error", "progress", "retries", "grace", "sigterm")


@overload
def bcall(
    items: Iterable[T],
    func: Callable[[T], R],
    *,
    batch_size: int,
    max_workers: Workers | None = ...,
    on_error: Raising = ...,
    progress: bool | Show = ...,
    retries: int = ...,
    grace: float = ...,
    sigterm: bool = ...,
) -> list[R]: ...
@overload
def bcall(
    items: Iterable[T],
    func: Callable[[T], R],
    *,
    batch_size: int,
    max_workers: Workers | None = ...,
    on_error: Returning,
    progress: bool | Show = ...,
    retries: int = ...,
    grace: float = ...,
    sigterm: bool = ...,
) -> list[R | BaseException]: ...
def bcall(
    items: Iterable[T],
    func: Callable[[T], R],
    *,
    batch_size: int,
    max_workers: Workers | None = None,
    on_error: OnError = "stop",
    progress: bool | Show = False,
    retries: int = 0,
    grace: float = 0,
    sigterm: bool = False,
    **extra: Never,
) -> list[R] | list[R | BaseException]:
    """Call *func* with every item, a batch at a time, and return the values in order.

    The next batch is read, and begun, when the last item of the batch before
    it has ended; so `lcall`, which never waits for the slowest, is faster.

    Args:
        items: As for `lcall`.
        func: A plain function of one item, called in several threads at once.
        batch_size: Items in a batch, >= 1; the last one may have fewer.
        max_workers: The most items that run at the same time; None = the
            whole batch, as far as the process can have threads (1,024, or
            three quarters of the files it may open).
        on_error: As for `lcall`; "stop" starts no further item of the batch
            either, "continue" goes on with the next batches too.
        progress: As for `lcall`, over all batches.
        retries: As for `lcall`.
        grace: As for `lcall`.
        sigterm: As for `lcall`.
        **extra: None is taken; a name that is not ours is refused.

    Returns:
        One value per item, in the order of *items*; not a list per batch.

    Raises:
        ConfigError: An argument is wrong; nothing was called.
        CallError: As for `lcall`, with everything finished over all batches.
        Interrupted: As for `lcall`, with everything finished over all batches.
        Cancelled: The scope around the call was cancelled.

    Threads: safe anywhere. Ctrl-C reaches the main thread only.
    """
    refuse_misuse("bcall", func, extra=extra, known=KNOWN)
    size = whole(batch_size, name="batch_size", least=1)
    options = options_from(
        max_workers=min(size, most_threads()) if max_workers is None else max_workers,
        on_error=on_error,
        progress=progress,
        retries=retries,
        grace=grace,
        sigterm=sigterm,
    )
    return in_order(BatchEngine(items, func, options, size=size))


class BatchEngine(Engine[T, R]):
    """A run that reads the next batch when the one before it has ended.

    Args:
        items: The input.
        func: The function.
        options: How to go about it.
        size: Items in a batch, >= 1.
    """

    def __init__(
        self, items: Iterable[T], func: Callable[[T], R], options: Options, *, size: int
    ) -> None:
        super().__init__(items, func, options, is_eager=False)
        self._size = size
        self._batch_ends = size

    def advance(self) -> bool:
        """Read some of the batch, or wait for its end; False when the run is over.

        Raises:
            Cancelled: The scope around the call was cancelled.
            KeyboardInterrupt: The function raised it.
        """
        is_batch_read = self._pulled == self._batch_ends
        if not is_batch_read or self._settled == self._pulled or self._pool.is_closed:
            return super().advance()
        self._show()
        # Until the whole batch has ended; with progress=, until an item has.
        self._pool.wait(low_water=-1)
        return True

    def _room(self) -> int:
        if self._settled == self._pulled == self._batch_ends:
            self._batch_ends += self._size
        return min(super()._room(), self._batch_ends - self._pulled)
