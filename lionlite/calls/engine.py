"""One mapping call, seen from the thread that made it.

Holds: `Engine`: reads the input, hands items to a `Pool`, puts outcomes in
their places, and decides what errors, Ctrl-C and a cancel from outside mean.
Does not hold: threads (pool.py), a single item (attempt.py), arguments
(asked.py), messages (verdict.py), the loop around it all (course.py).

Threads: everything here runs in the calling thread, except `Rules`. So the
input, the places and the counters need no lock.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from contextvars import copy_context
from itertools import repeat
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from lionlite.calls import exit as exiting
from lionlite.calls.asked import name_of
from lionlite.calls.attempt import Careful, attempt
from lionlite.calls.inputs import count, iterate
from lionlite.calls.pool import Pool
from lionlite.calls.progress import Traffic, progress_from
from lionlite.calls.rules import Rules
from lionlite.calls.signals import terminable
from lionlite.calls.verdict import (
    Tally,
    begin_failed,
    input_failed,
    items_failed,
    kept_no_more,
    progress_failed,
    thread_failed,
)
from lionlite.calls.workers import QUIET, Crowd, most_threads
from lionlite.exceptions import Cancelled, CheckpointError
from lionlite.scope import CancelToken, current, entered
from lionlite.value import changed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextvars import Context

    from lionlite.calls.asked import Options
    from lionlite.calls.attempt import Job, Outcome
    from lionlite.calls.item import ItemRecord, Recorder
    from lionlite.calls.progress import Progress
    from lionlite.exceptions import Interrupted, LionError

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

_END = object()


class Engine(Generic[T, R]):
    """The run of one function over one input.

    Args:
        items: The input.
        func: The function.
        options: How to go about it.
        is_eager: Whether the caller wants each outcome as it comes.
        recorder: Keeps what becomes of each item; opened and closed by the caller.
    """

    def __init__(
        self,
        items: Iterable[T],
        func: Callable[[T], R],
        options: Options,
        *,
        is_eager: bool,
        recorder: Recorder | None = None,
    ) -> None:
        self._items = items
        self._name = name_of(func)
        self._options = options
        self._recorder = recorder
        self._iterator = iterate(items)
        self._is_eager = is_eager or options.progress is not False
        outer = current()
        self._token = CancelToken(*outer.tokens)
        # Counts what the chats take, for those who watch.
        self._traffic = Traffic(outer.work) if options.progress is True else None
        around = outer.work if self._traffic is None else self._traffic
        # A run that is told its number of threads has nothing to count.
        self._crowd = Crowd(around) if options.max_workers is None else None
        work = around if self._crowd is None else self._crowd
        self._scope = entered(changed(outer, token=self._token, work=work))
        # The input is read in a copy of the caller's context, and the contexts
        # of the items are copies of that. The caller's own is never touched: a
        # Ctrl-C between entering a scope and leaving it would leave a cancelled
        # token there, and every later call of the thread would be Cancelled.
        self._context = copy_context()
        # Not a method of this class: it would make a cycle through the pool,
        # and errors and input would live until the garbage collector comes.
        self._rules = Rules(options.on_error, self._token, recorder)
        self._pool: Pool[T, R] = Pool(
            self._way_of(func),
            max_workers=options.max_workers or most_threads(),
            closes=self._rules.closes,
            is_eager=self._is_eager,
            is_watched=recorder is not None,
            crowd=self._crowd,
        )
        self._progress: Progress | None = None
        self._is_read = False
        self._pulled = 0
        self._settled = 0
        self._cut = 0
        self._failed: dict[int, BaseException] = {}
        self._stopper: int | None = None
        self._key: KeyboardInterrupt | None = None
        # The end of reading by an error, and how to say what it was.
        self._trouble: tuple[Exception, Callable[[Tally, BaseException], LionError]] | None = None
        self._progress_error: Exception | None = None

    def _way_of(self, func: Callable[[T], R]) -> Callable[[Job[T]], Outcome[R]]:
        retries = self._options.retries
        if self._recorder is None and not retries:
            return functools.partial(attempt, func)
        return Careful(func, retries=retries, is_cut=self._rules.is_cut, token=self._token)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Run the code inside the `with` as the caller of this run.

        At the end no item is started any more, and those that still run have
        been told to stop. After Ctrl-C they first get the *grace* that was
        asked for; when told, and when an iterator is left early, they get
        `GRACE_S` to come back. A second Ctrl-C cuts both short.
        """
        wanted = self._options.progress
        # Only when asked: len() can cost much, a database query for instance.
        if wanted:
            self._progress = progress_from(wanted, count(self._items), self._traffic)
        with terminable(self._options.hears_sigterm):
            self._open()
            try:
                with self._token.woken_by(self._pool.shut):
                    yield
                self._pool.close(joins=True)
            except KeyboardInterrupt:
                self._tell(self._options.grace_s)
                raise
            except GeneratorExit:
                self._tell(0)
                raise
            finally:
                self._close()

    def _open(self) -> None:
        exiting.watch(self._pool, self._token, name=self._name)
        if self._crowd is not None:
            self._crowd.grow = self._pool.grow
        self._context.run(self._scope.__enter__)

    def _close(self) -> None:
        # In the order of what a Ctrl-C in between had better not leave out.
        is_over = self._pool.is_over()
        if not is_over:
            self._token.cancel()
        self._pool.close(joins=False)
        if self._crowd is not None:
            self._crowd.grow = None
        self._context.run(self._scope.__exit__, None, None, None)
        if is_over:
            exiting.unwatch(self._pool)
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
            CheckpointError: Nothing could be kept any more.
            Cancelled: The scope around the call was cancelled.
            KeyboardInterrupt: The function raised it.
        """
        if self._cut:
            self._raise_if_cut()
        trouble = self._recorder and self._recorder.trouble
        if trouble:
            raise kept_no_more(self._tally(results), trouble) from trouble
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
        return self._tally(results).interrupted(
            ended=ended, running=self._pool.running(), resume=self._options.resume
        )

    def _tell(self, grace_s: float) -> None:
        try:
            self._pool.close(joins=False)
            if grace_s:
                self._pool.wait_idle(grace_s)
            self._token.cancel()
            self._pool.wait_idle(GRACE_S)
        except KeyboardInterrupt:
            return  # `_close` cancels

    def _tally(self, results: Sequence[R | None]) -> Tally:
        return Tally(self._pulled, results, self._failed)

    def _room(self) -> int:
        # Read without the pool's lock: it changes while we look, either way.
        workers = self._options.max_workers or max(QUIET, self._pool.running())
        return workers + READ_AHEAD - (self._pulled - self._settled)

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
        if self._recorder is None:
            self._put((index, cast("T", item), copy_context(), None))
            return True
        try:
            record = self._recorder.begin(index, item)
        except Exception as error:  # noqa: BLE001 - raised by `finish`, as the cause
            is_kept = isinstance(error, CheckpointError)
            self._give_up(error, kept_no_more if is_kept else begin_failed)
            return False
        if record.skip is None:
            self._put((index, cast("T", item), _context_of(record), record))
        else:
            self._pool.give((index, cast("R", record.skip[0]), None))
        return True

    def _put(self, job: Job[T]) -> None:
        try:
            self._pool.put(job)
        except RuntimeError as error:
            self._give_up(error, thread_failed)

    def _give_up(self, error: Exception, say: Callable[[Tally, BaseException], LionError]) -> None:
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
            if self._stopper is None and self._rules.ends(error):
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
        if progress is None:
            return
        try:
            # Also with nothing new: tokens and time go on. It knows when to draw.
            progress.show(self._settled)
            if is_last:
                progress.close()
        except Exception as error:  # noqa: BLE001 - raised by `finish`; no item is lost for it
            self._progress = None
            self._progress_error = error


def _context_of(record: ItemRecord) -> Context:
    """Return the context for an item that was just read, in the context of the reader."""
    with entered(changed(current(), work=record.work)):
        return copy_context()
