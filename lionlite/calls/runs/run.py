"""`run`: a function mapped over items, with an outcome for each of them.

Holds: `run`, `last_run`, and what `retry_failed` does. Does not hold: the
outcomes (result.py, outcome.py), who fills them (recorder.py), the input
(feed.py), how a mapping call goes on (calls/engine.py).
Threads: each run has its own threads, so runs nest without deadlock.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from lionlite import scope
from lionlite.arguments import nearest, refuse_unknown
from lionlite.calls.asked import innermost, name_of, options_from, refuse_misuse, whole
from lionlite.calls.course import in_order
from lionlite.calls.engine import Engine
from lionlite.calls.journal.names import Names
from lionlite.calls.keeping import keeping_from
from lionlite.calls.runs.feed import feed_of
from lionlite.calls.runs.outcome import Sheet
from lionlite.calls.runs.recorder import SheetRecorder
from lionlite.calls.runs.result import Run
from lionlite.calls.runs.rows import fields_of, is_missing
from lionlite.calls.verdict import Tally, describe, items_failed
from lionlite.exceptions import CallError, CheckpointError, ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence
    from typing import Never

    from lionlite.calls.asked import OnError, Workers
    from lionlite.calls.journal.checkpoint import Durability
    from lionlite.calls.progress import Show
    from lionlite.calls.runs.feed import Feed
    from lionlite.calls.runs.outcome import Outcome

T = TypeVar("T")

_log = logging.getLogger("lionlite")

_last: Run | None = None
"""The run that began last. Set in one step, so it needs no lock."""


def run(
    items: Iterable[T],
    func: Callable[[T], Any],
    *,
    on_error: OnError = "return",
    max_failures: int | None = None,
    skip_missing: bool = False,
    key: Callable[[T], Any] | str | None = None,
    max_workers: Workers = "auto",
    retries: int = 0,
    progress: bool | Show = False,
    grace: float = 0,
    sigterm: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    replay: bool = True,
    version: str | int | None = None,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
    durability: Durability = "process",
    **extra: Never,
) -> Run:
    """Call *func* with every item, in threads, and return what became of each.

    As `lcall`, but the result is a `Run`: an `Outcome` for every item, with
    its value or error, tokens, cost and times; sums, tables and files of them.
    It is returned also when the run ended early: `.interrupted` after Ctrl-C,
    `.stopped` says why after a fatal error or too many failures. No error and
    no Ctrl-C loses what is finished: `last_run()` has it in any case.

    A missing item (None, NaN, NaT, NA) is never passed to *func*: it fails
    with `ConfigError`, or is skipped.

    Args:
        items: As for `lcall`. The index of a Series or DataFrame of pandas is
            kept for the tables.
        func: A plain function of one item, called in several threads at once.
        on_error: "return": errors stand in the outcomes. "continue": all items
            run, then CallError. "stop": no new item is started after the first
            error, then CallError.
        max_failures: The run stops when so many items have failed, >= 1. None
            = when the first 20 items to end all failed in a chat or with an
            error of lionlite, since a setting must be wrong then. Missing
            items do not count.
        skip_missing: Whether missing items are left out: value and error None,
            status "skipped". So are rows of which every field is missing, and
            for a `Prompt` those of which a field that it needs is.
        key: Names the items in the outcomes and in the checkpoint: a function
            of the item, or the name of one of its fields.
        max_workers: As for `lcall`.
        retries: As for `lcall`.
        progress: As for `lcall`.
        grace: As for `lcall`.
        sigterm: As for `lcall`.
        checkpoint: As for `lcall`.
        replay: As for `lcall`.
        version: As for `lcall`.
        encode: As for `lcall`.
        decode: As for `lcall`.
        durability: As for `lcall`.
        **extra: None is taken; a name that is not ours is refused.

    Returns:
        The run.

    Raises:
        ConfigError: An argument is wrong; nothing was called.
        CallError: Reading *items* failed, *progress* did, or items did and
            *on_error* is not "return".
        CheckpointError: The checkpoint cannot be opened or written.
        Cancelled: The scope around the call was cancelled.

    Threads: safe anywhere. Ctrl-C reaches the main thread only.
    """
    refuse_misuse("run", func, extra=extra, known=tuple(_names()))
    plan = Plan(
        on_error=on_error,
        max_failures=max_failures,
        skip_missing=skip_missing,
        key=key,
        max_workers=max_workers,
        retries=retries,
        progress=progress,
        grace=grace,
        sigterm=sigterm,
        checkpoint=checkpoint,
        replay=replay,
        version=version,
        encode=encode,
        decode=decode,
        durability=durability,
    )
    feed = feed_of(items)
    sheet = Sheet(
        name=name_of(func).rpartition(".")[2],
        labels=feed.labels,
        has_keys=key is not None,
        total=feed.total,
        checkpoint=None if checkpoint is None else str(checkpoint),
    )
    return _run(feed, func, plan, sheet, places=(), names=Names())


def last_run() -> Run | None:
    """Return the run that began last in this process, None if there was none.

    For a result that was not assigned, or a run that raised. It may still go
    on. Runs inside an item of another run do not count. It is kept until the
    next one begins.

    Threads: safe anywhere.
    """
    return _last


@attrs.frozen(kw_only=True)
class Plan:
    """The arguments of a run besides its items and function; see `run`."""

    on_error: OnError
    max_failures: int | None = attrs.field()
    skip_missing: bool = attrs.field()
    key: Callable[[Any], Any] | str | None = attrs.field()
    max_workers: Workers
    retries: int
    progress: bool | Show
    grace: float
    sigterm: bool
    checkpoint: str | os.PathLike[str] | None
    replay: bool
    version: str | int | None
    encode: Callable[[Any], Any] | None
    decode: Callable[[Any], Any] | None
    durability: Durability

    @max_failures.validator
    def _check_failures(self, _: object, value: object) -> None:
        if value is not None:
            whole(value, name="max_failures", least=1)

    @skip_missing.validator
    def _check_skip(self, _: object, value: object) -> None:
        if not isinstance(value, bool):
            msg = f"skip_missing must be True or False; got {value!r:.60}."
            raise ConfigError(msg)

    @key.validator
    def _check_key(self, _: object, value: object) -> None:
        if not (value is None or isinstance(value, str) or callable(value)):
            msg = (
                "key must be a function of an item or the name of a field; got "
                f"{type(value).__name__}."
            )
            raise ConfigError(msg)

    @property
    def key_of(self) -> Callable[[Any], Any] | None:
        """The function that names an item, None if nothing was asked for."""
        return functools.partial(_field, self.key) if isinstance(self.key, str) else self.key


def _run(
    feed: Feed,
    func: Callable[[Any], Any],
    plan: Plan,
    sheet: Sheet,
    *,
    places: Sequence[int],
    names: Names,
) -> Run:
    """Run the items of *feed* and fill *sheet*; the first are those at *places*."""
    global _last  # noqa: PLW0603 - the last one of the process
    options = options_from(
        max_workers=plan.max_workers,
        on_error=plan.on_error,
        progress=plan.progress,
        retries=plan.retries,
        grace=plan.grace,
        sigterm=plan.sigterm,
    )
    if plan.on_error == "continue":
        # The error for all is raised below, from all that is known.
        options = attrs.evolve(options, on_error="return")
    result = Run(sheet, functools.partial(_again, feed, func, plan, names=names))
    with ExitStack() as stack:
        recorder = _recorder(func, plan, sheet, places=places, names=names, stack=stack)
        if scope.current().work is None:
            _last = result
        try:
            in_order(Engine(feed, func, options, is_eager=False, recorder=recorder))
        except KeyboardInterrupt:
            sheet.is_interrupted = True
        except (CallError, CheckpointError) as error:
            if not _is_noted(error, result, sheet, plan.on_error):
                raise
        finally:
            sheet.took_s = time.monotonic() - sheet.began_s
            recorder.close()
    if plan.on_error == "continue" and result.errors and not sheet.is_interrupted:
        first = min(result.errors)
        raise items_failed(_tally(result), first) from result.errors[first]
    return result


def _recorder(
    func: Callable[[Any], Any],
    plan: Plan,
    sheet: Sheet,
    *,
    places: Sequence[int],
    names: Names,
    stack: ExitStack,
) -> SheetRecorder:
    """Return who fills *sheet*; *stack* closes the checkpoint."""
    kept = keeping_from(
        plan.checkpoint,
        replay=plan.replay,
        version=plan.version,
        key=None if plan.checkpoint is None else plan.key_of,
        encode=plan.encode,
        decode=plan.decode,
        durability=plan.durability,
        names=names,
    )
    needed = getattr(innermost(func), "fields", ())
    return SheetRecorder(
        sheet,
        names=names,
        places=places,
        key=plan.key_of,
        skip_missing=plan.skip_missing,
        needed=needed if isinstance(needed, tuple) else (),
        max_failures=plan.max_failures,
        is_strict=plan.on_error == "stop",
        inner=stack.enter_context(kept.opened(func)),
    )


def _is_noted(
    error: CallError | CheckpointError, result: Run, sheet: Sheet, on_error: OnError
) -> bool:
    """Note why the run ended before its end; return whether that is all, and nothing raised."""
    error.results, error.failed = result.results, result.errors
    is_an_items = error.fatal or sheet.stopped is not None
    if sheet.stopped is None:
        sheet.stopped = f"{describe(error.__cause__ or error)}."
    if on_error == "stop" or isinstance(error, CheckpointError) or not is_an_items:
        # Or it is the input's, the progress function's, or there is no thread.
        return False
    _log.warning("run() of %s stopped: %s", sheet.name, sheet.stopped)
    return True


def _tally(result: Run) -> Tally:
    return Tally(len(result), result.results, result.errors)


def _again(
    feed: Feed,
    func: Callable[[Any], Any],
    plan: Plan,
    before: Sheet,
    options: dict[str, Any],
    *,
    names: Names,
) -> Run:
    """Run what failed or is unfinished in *before*, and what is left of *feed*.

    Raises:
        ConfigError: An option is unknown or wrong, or the run still goes on.
        CheckpointError: An item has no name.
    """
    refuse_unknown(options, _names(), where="retry_failed()")
    if before.took_s is None:
        msg = "The run still goes on: wait for its end before retry_failed()."
        raise ConfigError(msg)
    outcomes = list(before.places)
    places = [one.index for one in outcomes if one.is_failed or one.is_unfinished]
    changed = attrs.evolve(plan, **options)
    sheet = Sheet(
        name=before.name,
        places=outcomes,
        labels=before.labels,
        has_keys=before.has_keys,
        total=before.total,
        checkpoint=None if changed.checkpoint is None else str(changed.checkpoint),
        before_s=before.seconds,
    )
    again = feed.rest([outcomes[place].input for place in places], start=len(outcomes))
    has_names = plan.checkpoint is not None and plan.key == changed.key
    known = names.copy() if has_names else _named_anew(outcomes, changed)
    return _run(again, func, changed, sheet, places=places, names=known)


def _named_anew(outcomes: Sequence[Outcome], plan: Plan) -> Names:
    """Return the names that a checkpoint gives the items of a run that had none, or others."""
    names = Names()
    if plan.checkpoint is not None:
        for one in outcomes:
            if one.is_skipped or is_missing(one.input):
                continue
            names.of(one.index, one.input, plan.key_of)
            if one.is_ok:
                names.finished(one.index)
    return names


def _names() -> list[str]:
    return [field.name for field in attrs.fields(Plan)]


def _field(name: str, item: Any) -> Any:
    fields = item if isinstance(item, Mapping) else fields_of(item) or {}
    if name not in fields:
        msg = f"key={name!r} is no field of the item: {nearest(name, list(map(str, fields)))}"
        raise ConfigError(msg)
    return fields[name]
