"""One item: the function called on it, again if asked, and what came of it kept.

Holds: `attempt`, for a run that asks for nothing more, and `Careful`, for one
with retries or a `Recorder`. Does not hold: which item is next (pool.py), nor
what an error means for the run (engine.py).

Threads: everything here runs in the item's worker.
"""

from __future__ import annotations

from contextvars import Context
from types import CoroutineType
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from lionlite import scope
from lionlite.calls.again import MAX_RETRY_AFTER_S
from lionlite.calls.verdict import is_fatal
from lionlite.exceptions import Cancelled, ConfigError, LionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from lionlite.calls.item import ItemRecord

T = TypeVar("T")
R = TypeVar("R")

Job = tuple[int, T, Context, "ItemRecord | None"]
Outcome = tuple[int, R | None, BaseException | None]


def attempt(func: Callable[[T], R], job: Job[T]) -> Outcome[R]:
    """Return what *func* made of the item: its value or its error.

    Every exception is the item's error, SystemExit and GeneratorExit too:
    raised in a worker they could end nothing but the worker.
    """
    index, item, context, _ = job
    try:
        value = context.run(func, item)
        if type(value) is CoroutineType:
            _refuse(value)
    except BaseException as error:  # noqa: BLE001 - goes to the caller, whole
        return index, None, _without_our_frame(error)
    return index, value, None


class Careful(Generic[T, R]):
    """Calls the function, once more for each retry, and has the end kept.

    An item that fails is tried again when its error is an Exception that is
    not fatal, no `ConfigError` and no `Cancelled`, and time is left. Each
    attempt runs in a fresh copy of the item's context, at once, or after as
    many seconds as the error's `.retry_after_s` says; beyond
    `MAX_RETRY_AFTER_S` the error stands.

    Args:
        func: The function.
        retries: How many attempts more an item has.
        is_cut: Whether an error says only that the run was cancelled.
        token: Cancelled when the run is.
    """

    def __init__(
        self,
        func: Callable[[T], R],
        *,
        retries: int,
        is_cut: Callable[[BaseException], bool],
        token: scope.CancelToken,
    ) -> None:
        self._func = func
        self._retries = retries
        self._is_cut = is_cut
        self._token = token

    def __call__(self, job: Job[T]) -> Outcome[R]:
        """Return what became of the item."""
        context, record = job[2], job[3]
        outcome = self._tried(job)
        return outcome if record is None else context.run(self._kept, outcome, record)

    def _tried(self, job: Job[T]) -> Outcome[R]:
        index, item, context, record = job
        for left in range(self._retries, -1, -1):
            if record is not None:
                record.begun()
            outcome = attempt(self._func, (index, item, context.copy(), None))
            error = outcome[2]
            if error is None or not left or not context.run(_may_try_again, error):
                break
        return outcome

    def _kept(self, outcome: Outcome[R], record: ItemRecord) -> Outcome[R]:
        index, value, error = outcome
        if error is None and self._token.is_cancelled and record.work.was_cut:
            # The function caught the Cancelled of a chat and made a value of
            # it, which is no result: a later run must do the item again.
            error = Cancelled("A chat of the item was cut.")
        try:
            if error is None:
                return index, cast("R", record.succeeded(value)), None
            if not (isinstance(error, KeyboardInterrupt) or self._is_cut(error)):
                record.failed(error)
        except BaseException as raised:  # noqa: BLE001 - goes to the caller, whole
            return index, None, _without_our_frame(raised)
        return index, None, error


def _may_try_again(error: BaseException) -> bool:
    """Return whether to try again, after waiting as long as *error* says."""
    if not isinstance(error, Exception) or isinstance(error, (ConfigError, Cancelled)):
        return False
    if is_fatal(error):
        return False
    wait_s = (error.retry_after_s or 0.0) if isinstance(error, LionError) else 0.0
    if wait_s > MAX_RETRY_AFTER_S:
        return False
    try:
        scope.sleep(wait_s, phase="backoff")
    except LionError:
        return False  # cancelled, or no time is left: the error stands
    return True


def _without_our_frame(error: BaseException) -> BaseException:
    # The traceback shall begin in the user's function. Not done in `attempt`,
    # whose frame and the traceback would hold each other through a local name.
    # And in this way no class with a __setattr__ of its own, such as a frozen
    # dataclass, can break in.
    trace = error.__traceback__
    return BaseException.with_traceback(error, trace and trace.tb_next)


def _refuse(coroutine: object) -> NoReturn:
    cast("CoroutineType[object, object, object]", coroutine).close()
    msg = (
        "The function returned a coroutine, which nothing would await. "
        "Give a plain function, such as one that calls the blocking API."
    )
    raise ConfigError(msg, fatal=True)
