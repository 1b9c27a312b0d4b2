"""Keeping what becomes of each item of a run in its place, and when to stop.

Holds: `SheetRecorder`, the `Recorder` of `run()`: it fills a `Sheet`, leaves
out what is missing, counts failures, and may stand around the recorder of a
checkpoint. Does not hold: the run's face (result.py), the engine.

Threads: `begin` and `close` are for the calling thread; each item's record is
for its worker.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lionlite.calls.item import ItemWork
from lionlite.calls.runs.outcome import Outcome, chats_of
from lionlite.calls.runs.rows import fields_of, is_missing
from lionlite.calls.verdict import describe
from lionlite.exceptions import CallError, ConfigError, LionError
from lionlite.locks import ProcessLock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lionlite.calls.item import ItemRecord, Recorder
    from lionlite.calls.journal.names import Names
    from lionlite.calls.runs.outcome import Sheet, Status

FIRST = 20
"""So many items that all fail in their chats, with none that does well, stop the run."""


class SheetRecorder:
    """Fills the places of a sheet.

    Args:
        sheet: Where the outcomes go. It may have some already.
        names: What the checkpoint calls the items; told of those that are done.
        places: The places of the first items to come, which are there already;
            every item after them gets a new place.
        key: What names an item, None for its label or number.
        skip_missing: Whether a missing input is left out, or is an error.
        needed: The fields without which a row is missing.
        max_failures: How many failures stop the run; None = `FIRST` items that
            all fail.
        is_strict: Whether a missing input ends the reading.
        inner: The recorder of a checkpoint.
    """

    def __init__(
        self,
        sheet: Sheet,
        *,
        names: Names,
        places: Sequence[int] = (),
        key: Callable[[Any], Any] | None = None,
        skip_missing: bool = False,
        needed: Sequence[str] = (),
        max_failures: int | None = None,
        is_strict: bool = False,
        inner: Recorder | None = None,
    ) -> None:
        self._sheet = sheet
        self._names = names
        self._places = places
        self._key = key
        self._skip_missing = skip_missing
        self._needed = needed
        self._max_failures = max_failures
        self._is_strict = is_strict
        self._inner = inner
        self._under_way: dict[int, _Item] = {}
        # Guards the two counts and that only one failure stops the run.
        self._lock = ProcessLock()
        self._bad = 0
        self._good = sum(outcome.is_ok for outcome in sheet.places)

    @property
    def trouble(self) -> Exception | None:
        """Why the checkpoint can keep nothing more, None while all is well."""
        return None if self._inner is None else self._inner.trouble

    def begin(self, index: int, item: object) -> ItemRecord:
        """Give the item its place, and return its record.

        Raises:
            Exception: What *key* raised.
            ConfigError: The item has no such key, or is missing in a strict run.
        """
        outcomes = self._sheet.places
        place = self._places[index] if index < len(self._places) else len(outcomes)
        if place == len(outcomes):
            # First without its key: what *key* raises must not lose the item.
            outcomes.append(Outcome(place, place, item))
            outcomes[place] = Outcome(place, self._key_of(place, item), item)
        if self._skip_missing and self._is_left_out(item):
            return _Done(self._put(outcomes[place], "skipped"))
        if is_missing(item):
            error = _missing(item)
            done = _Done(self._put(outcomes[place], "failed", error=error))
            if self._is_strict:
                raise error
            return done
        inner = None if self._inner is None else self._inner.begin(place, item)
        if inner is not None and inner.skip is not None:
            self._count(is_bad=False)
            done = _Done(self._put(outcomes[place], "ok", value=inner.skip[0]))
            self._names.finished(place)
            return done
        record = self._under_way[place] = _Item(self, outcomes[place], inner)
        return record

    def close(self) -> None:
        """Note what the items took that were cut.

        One that is stuck in I/O of its own may still end, and stand in its
        place, after this.
        """
        # A copy: such an item may end while we look.
        for place, record in list(self._under_way.items()):
            before = self._sheet.places[place]
            if record.work.records:
                self._sheet.places[place] = record.outcome(before.status, error=before.error)

    def ended(self, outcome: Outcome) -> None:
        """Put *outcome* in its place.

        Raises:
            CallError: Fatal: it is the failure that stops the run.

        Threads: called by workers.
        """
        self._sheet.places[outcome.index] = outcome
        if outcome.is_ok:
            self._names.finished(outcome.index)
        self._under_way.pop(outcome.index, None)
        is_bad = outcome.error is not None and (
            isinstance(outcome.error, LionError) or outcome.chats.count > 0
        )
        reason = self._count(is_bad=is_bad, outcome=outcome)
        if reason is not None:
            self._sheet.stopped = reason
            raise CallError(reason, fatal=True)

    def _count(self, *, is_bad: bool, outcome: Outcome | None = None) -> str | None:
        """Count an end; return why the run stops here, None if it goes on."""
        error = None if outcome is None else outcome.error
        with self._lock.inner:
            if self._max_failures is not None:
                self._bad += error is not None
                is_enough = self._bad == self._max_failures
            else:
                self._good += not is_bad
                self._bad += is_bad
                is_enough = self._bad == FIRST and not self._good
        if error is None or not is_enough:
            return None
        if self._max_failures is not None:
            return f"max_failures={self._max_failures} items failed, the last: {describe(error)}."
        return (
            f"The first {FIRST} items all failed, the last: {describe(error)}. "
            "max_failures= says how many may."
        )

    def _put(self, place: Outcome, status: Status, **known: Any) -> object:
        self._sheet.places[place.index] = Outcome(
            place.index, place.key, place.input, status=status, chats=place.chats, **known
        )
        return known.get("value")

    def _key_of(self, place: int, item: object) -> object:
        if self._key is not None:
            return self._key(item)
        return place if self._sheet.labels is None else self._sheet.labels[place]

    def _is_left_out(self, item: object) -> bool:
        if is_missing(item):
            return True
        if self._needed:
            row = fields_of(item) or {}
            return any(is_missing(row.get(name, "")) for name in self._needed)
        return isinstance(item, Mapping) and bool(item) and all(map(is_missing, item.values()))


class _Done:
    """The record of an item that needs no call."""

    __slots__ = ("skip", "work")

    def __init__(self, value: object) -> None:
        self.skip: tuple[object] | None = (value,)
        self.work = ItemWork()

    def begun(self) -> None:
        """Never called."""

    def succeeded(self, value: object) -> object:
        """Never called."""
        return value

    def failed(self, error: BaseException) -> None:
        """Never called."""


class _Item:
    """The record of one item that is called."""

    __slots__ = ("_before", "_began_s", "_inner", "_recorder", "work")

    def __init__(self, recorder: SheetRecorder, before: Outcome, inner: ItemRecord | None) -> None:
        self._recorder = recorder
        self._before = before
        self._inner = inner
        self._began_s: float | None = None
        self.work = ItemWork() if inner is None else inner.work

    @property
    def skip(self) -> tuple[object] | None:
        """None: the function is called."""
        return None

    def begun(self) -> None:
        """Start the clock of the item, at its first attempt."""
        if self._began_s is None:
            self._began_s = time.monotonic()
        if self._inner is not None:
            self._inner.begun()

    def succeeded(self, value: object) -> object:
        """Keep the value, in the checkpoint first.

        Raises:
            BaseException: The checkpoint cannot keep such a value.
        """
        if self._inner is not None:
            try:
                value = self._inner.succeeded(value)
            except BaseException as error:
                self._recorder.ended(self.outcome("failed", error=error))
                raise
        self._recorder.ended(self.outcome("ok", value=value))
        return value

    def failed(self, error: BaseException) -> None:
        """Keep the error.

        Raises:
            CallError: Fatal: enough items have failed.
        """
        if self._inner is not None:
            self._inner.failed(error)
        self._recorder.ended(self.outcome("failed", error=error))

    def outcome(self, status: Status, **known: Any) -> Outcome:
        """Return what became of the item, with what it took in runs before."""
        before = self._before
        ran_s = 0.0 if self._began_s is None else time.monotonic() - self._began_s
        return Outcome(
            before.index,
            before.key,
            before.input,
            status=status,
            elapsed_s=before.elapsed_s + ran_s,
            chats=before.chats + chats_of(self.work.records),
            **known,
        )


def _missing(item: object) -> ConfigError:
    msg = (
        f"The input is missing ({item!r}), and the function was not called. Pass "
        "skip_missing=True to leave such items out."
    )
    return ConfigError(msg)
