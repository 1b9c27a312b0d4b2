"""One mapping call, seen from the thread that made it.

Holds: `Engine`: reads the input, hands items to a `Pool`, puts outcomes in
their places, and decides what errors, Ctrl-C and a cancel from outside mean.
Does not hold: threads (pool.py), arguments (family.py), messages (verdict.py).

Threads: everything here runs in the calling thread, except `Rules`. So the
input, the places and the counters need no lock.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import copy_context
from itertools import repeat
from typing import TYPE_CHECKING, Generic, Literal, TypeVar, cast

import attrs

from lionlite.calls.inputs import count, iterate
from lionlite.calls.pool import Pool
from lionlite.calls.progress import progress_from
from lionlite.calls.verdict import (
    Tally,
    input_failed,
    is_fatal,
    items_failed,
    progress_failed,
    thread_failed,
)
from lionlite.exceptions import Cancelled
from lionlite.scope import CancelToken, current, entered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from lionlite.calls.progress import Progress, Show
    from lionlite.exceptions import CallError, Interrupted

T = TypeVar("T")
R = TypeVar("R")

# Items read from the input beyond one for each worker. Enough that no-op
# workers meet a full queue after each switch of threads (benchmarks/calls.py),
# small enough for a cursor or an endless generator.
READ_AHEAD = 128
# How often outcomes are put in their places while the input gives freely.
BURST = 64
# What interrupted items get to come back: a chat that is told needs about
# 1 ms, and Ctrl-C should feel immediate.
GRACE_S = 0.5

OnError = Literal["stop", "continue", "return"]

_END = object()


@attrs.frozen
class Options:
    """How a mapping call goes about its items.

    Attributes:
        max_workers: The most items that run at the same time.
        on_error: What the first error means.
        progress: Whether to show a bar, or the function to call instead.
    """

    max_workers: int
    on_error: OnError
    progress: bool | Show


@attrs.frozen
class Rules:
    """What an error means for the run.

    Attributes:
        on_error: As in `Options`.
        token: Cancelled when the run is.
    """

    on_error: OnError
    token: CancelToken

    def closes(self, error: BaseException) -> bool:
        """Return whether no new item may start after *error*.

        Threads: called by workers; never raises.
        """
        return (
            self.on_error == "stop"
            or isinstance(error, KeyboardInterrupt)
            or is_fatal(error)
            or self.is_cut(error)
        )

    def is_cut(self, error: BaseException) -> bool:
        """Return whether *error* says only that the run was cancelled."""
        return isinstance(error, Cancelled) and self.token.is_cancelled

    def is_value(self, error: BaseException) -> bool:
        """Return whether *error* is to stand where the value would."""
        return self.on_error == "return" and not self.closes(error)


class Engine(Generic[T, R]):
    """The run of one function over one input.

    Args:
        items: The input.
        func: The function.
        options: How to go about it.
        is_eager: Whether the caller wants each outcome as it comes.
    """

    def __init__(
        self, items: Iterable[T], func: Callable[[T], R], options: Options, *, is_eager: bool
    ) -> None:
        self._items = items
        self._options = options
        self._iterator = iterate(items)
        self._is_eager = is_eager or options.progress is not False
        self._window = options.max_workers + READ_AHEAD
        self._token = CancelToken(*current().tokens)
        self._scope = entered(attrs.evolve(current(), token=self._token))
        # The input is read in a copy of the caller's context, and the contexts
        # of the items are copies of that. The caller's own is never touched: a
        # Ctrl-C between entering a scope and leaving it would leave a cancelled
        # token there, and every later call of the thread would be Cancelled.
        self._context = copy_context()
        # Not a method of this class: it would make a cycle through the pool,
        # and errors and input would live until the garbage collector comes.
        self._rules = Rules(options.on_error, self._token)
        self._pool: Pool[T, R] = Pool(
            func,
            max_workers=options.max_workers,
            closes=self._rules.closes,
            is_eager=self._is_eager,
        )
        self._progress: Progress | None = None
        self._is_read = False
        self._pulled = 0
        self._settled = 0
        self._shown = 0
        self._cut = 0
        self._failed: dict[int, BaseException] = {}
        self._stopper: int | None = None
        self._key: KeyboardInterrupt | None = None
        # The end of reading by an error, and how to say what it was.
        self._trouble: tuple[Exception, Callable[[Tally, BaseException], CallError]] | None = None
        self._progress_error: Exception | None = None

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Run the code inside the `with` as the caller of this run.

        At the end no item is started any more, and those that still run have
        been told to stop. After Ctrl-C, or when an iterator is left early,
        they get `GRACE_S` to come back; a second Ctrl-C cuts that short.
        """
        wanted = self._options.progress
        # Only when asked: len() can cost much, a database query for instance.
        self._progress = progress_from(wanted, count(self._items)) if wanted else None
        self._context.run(self._scope.__enter__)
        try:
            with self._token.woken_by(self._pool.shut):
                yield
            self._pool.close(joins=True)
        except (KeyboardInterrupt, GeneratorExit):
            self._tell()
            raise
        finally:
            self._context.run(self._scope.__exit__, None, None, None)
            if not self._pool.is_over():
                self._token.cancel()
            self._pool.close(joins=False)
            self._show(is_last=True)

    def advance(self) -> bool:
        """Read some input, or wait for outcomes; False when the run is over.

        Raises:
            Cancelled: The scope around the call was cancelled.
            KeyboardInterrupt: The function raised it.
        """
        self._show()
        is_closed = self._pool.is_closed
        if is_closed:
            self._raise_if_cut()
        if is_closed or self._is_read:
            if self._pool.is_over():
                return False
            self._pool.wait(low_water=-1)
        elif self._room() > 0:
            self._read()
        else:
            self._pool.wait(low_water=READ_AHEAD // 2)
        return True

    def place(self, results: list[R | None]) -> None:
        """Put every outcome so far in its place in *results*.

        Doing it twice to one outcome, because Ctrl-C came between, is harmless.
        """
        results.extend(repeat(None, self._pulled - len(results)))
        finished = self._pool.finished
        while finished:
            index, value, error = finished[0]
            if error is None:
                results[index] = value
            else:
                self._note(index, error)
            finished.popleft()
            self._settled += 1

    def pairs(self) -> Iterator[tuple[int, R | BaseException]]:
        """Yield every outcome so far; read on for each one that is taken."""
        finished = self._pool.finished
        while finished:
            index, value, error = finished[0]
            if error is None or self._rules.is_value(error):
                given = cast("R", value) if error is None else error
                # Nothing is called between `try` and `yield`, so Python handles
                # no signal there: Ctrl-C neither loses the pair nor repeats it.
                try:
                    yield index, given
                finally:
                    finished.popleft()
            else:
                self._note(index, error)
                finished.popleft()
            self._settled += 1
            if not (self._is_read or self._pool.is_closed) and self._room() > 0:
                self._read()

    def finish(self, results: Sequence[R | None] = ()) -> dict[int, BaseException]:
        """Return the errors to put in their places, once the run is over.

        Raises:
            CallError: The input or the progress function failed, an error
                stopped the run, or errors were to be raised at the end.
            Cancelled: The scope around the call was cancelled.
            KeyboardInterrupt: The function raised it.
        """
        if self._cut:
            self._raise_if_cut()
        if self._trouble is not None:
            error, say = self._trouble
            self._trouble = None  # its frames hold this engine: a cycle
            raise say(self._tally(results), error) from error
        first = self._first_failure()
        if first is not None:
            raise items_failed(self._tally(results), first) from self._failed[first]
        if self._progress_error is not None:
            error, self._progress_error = self._progress_error, None
            raise progress_failed(self._tally(results), error) from error
        return self._failed

    def interrupted(self, results: Sequence[R | None] = ()) -> Interrupted:
        """Return what Ctrl-C raises."""
        ended = self._settled - self._cut
        return self._tally(results).interrupted(ended=ended, running=self._pool.running())

    def _tell(self) -> None:
        try:
            self._token.cancel()
            self._pool.close(joins=False)
            self._pool.wait_idle(GRACE_S)
        except KeyboardInterrupt:
            return

    def _tally(self, results: Sequence[R | None]) -> Tally:
        return Tally(self._pulled, results, self._failed)

    def _room(self) -> int:
        return self._window - (self._pulled - self._settled)

    def _read(self) -> None:
        self._context.run(self._read_some)

    def _read_some(self) -> None:
        pool = self._pool
        for _ in range(min(BURST, self._room())):
            if not self._read_one() or pool.is_closed or (self._is_eager and pool.finished):
                return

    def _read_one(self) -> bool:
        try:
            item = next(self._iterator, _END)
        except Exception as error:  # noqa: BLE001 - raised by `finish`, as the cause
            self._give_up(error, input_failed)
            return False
        if item is _END:
            self._is_read = True
            return False
        index = self._pulled
        self._pulled = index + 1
        try:
            self._pool.put((index, cast("T", item), copy_context()))
        except RuntimeError as error:
            self._give_up(error, thread_failed)
        return True

    def _give_up(self, error: Exception, say: Callable[[Tally, BaseException], CallError]) -> None:
        self._is_read = True
        self._pool.shut()
        self._trouble = (error, say)

    def _note(self, index: int, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._key = error
            self._cut += 1
        elif self._rules.is_cut(error):
            self._cut += 1
        else:
            self._failed[index] = error
            if self._stopper is None and self._rules.closes(error):
                self._stopper = index

    def _first_failure(self) -> int | None:
        if self._stopper is None and self._failed and self._rules.on_error == "continue":
            return min(self._failed)
        return self._stopper

    def _raise_if_cut(self) -> None:
        if self._key is not None:
            try:
                raise self._key
            finally:
                self._key = None  # its traceback holds this very frame
        if self._token.is_cancelled:
            msg = "The call was cancelled; its items were told to stop."
            raise Cancelled(msg)

    def _show(self, *, is_last: bool = False) -> None:
        progress = self._progress
        if progress is None or (self._shown == self._settled and not is_last):
            return
        try:
            if self._shown != self._settled:
                self._shown = self._settled
                progress.show(self._settled)
            if is_last:
                progress.close()
        except Exception as error:  # noqa: BLE001 - raised by `finish`; no item is lost for it
            self._progress = None
            self._progress_error = error
