"""One item of a run: what its chats did, and who keeps what became of it.

Holds: the contract between the engine and those who keep items (`Recorder`,
`ItemRecord`, `Memory`), and `ItemWork`, the `scope.Work` of one item. Does not
hold: what is kept and where (journal/checkpoint.py), outcomes (runs/run.py), or how many
threads a run has (workers.py).

Threads: a `Recorder` belongs to the calling thread, an `ItemRecord` to the
worker that runs the item, a `Work` to every thread that the item uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lionlite import scope
from lionlite.value import changed

if TYPE_CHECKING:
    from lionlite.records import CallRecord


class Memory(Protocol):
    """What an earlier run kept of one item's chats, and where new ones are kept."""

    def chat(self, request: bytes) -> scope.RememberedChat:
        """Return what is remembered of this chat, and count it (see `scope.Work.chat`).

        Threads: safe anywhere; blocks on a disk at most; never raises.
        """


class ItemRecord(Protocol):
    """The record of one item, from when it is read to its end."""

    @property
    def work(self) -> ItemWork:
        """Put into the scope of the item, so that its chats are told to it."""

    @property
    def skip(self) -> tuple[object] | None:
        """The value, alone in a tuple, if the item is finished already.

        Then the function is not called, and nothing below is.
        """

    def begun(self) -> None:
        """Note that the function is about to be called, once more for each retry.

        Threads: called by the item's worker. Must not raise.
        """

    def succeeded(self, value: object) -> object:
        """Keep *value* before anyone sees it; return the value to use.

        What it raises becomes the item's error (a fatal one stops the run),
        except that trouble of the keeper's own is not raised: see
        `Recorder.trouble`.

        Threads: called by the item's worker, inside the item's context.
        """

    def failed(self, error: BaseException) -> None:
        """Keep the *error* of the last attempt. Not called for an item that was cut.

        What it raises becomes the item's error instead (a fatal one stops the
        run).

        Threads: called by the item's worker, inside the item's context.
        """


class Recorder(Protocol):
    """Who keeps what becomes of the items of one run.

    The caller of the engine opens it before the run and closes it after.
    """

    @property
    def trouble(self) -> Exception | None:
        """Why nothing can be kept any more, None while all is well.

        Once it is set, no new item starts, those that run finish, and the run
        ends with `CheckpointError`, with everything finished inside.

        Threads: read by any.
        """

    def begin(self, index: int, item: object) -> ItemRecord:
        """Return the record of the item at *index*, which was just read.

        Called in the scope of the run (`scope.current().work` is what the
        item's work must tell in turn). What it raises ends the reading, as an
        error of the input would.

        Threads: called by the calling thread.
        """


class ItemWork:
    """The `scope.Work` of one item: it collects what its chats tell.

    Everything is told outwards too, to the work around the run, so a run
    inside an item is seen by the run of that item. Chats are looked up in
    *memory*; without one, in the memory of the work around, so that an item
    that maps its chats over threads of its own is resumed as well.

    Args:
        memory: Of this item; None if its run keeps nothing.
        outer: The work around; not given = that of the current scope.

    Threads: safe anywhere.
    """

    __slots__ = ("_memory", "_outer", "_records")

    def __init__(self, memory: Memory | None = None, *, outer: scope.Work | None = None) -> None:
        self._memory = memory
        self._outer = scope.current().work if outer is None else outer
        # Appending to a list needs no lock, and a fork copies none.
        self._records: list[CallRecord] = []

    @property
    def records(self) -> tuple[CallRecord, ...]:
        """The chats that ended so far, in the order in which they did."""
        return tuple(self._records)

    @property
    def was_cut(self) -> bool:
        """Whether a chat of the item ended because it was cancelled."""
        return any(record.error == "Cancelled" for record in self._records)

    @property
    def remembers(self) -> bool:
        """Whether finished chats are kept."""
        return self._memory is not None or (self._outer is not None and self._outer.remembers)

    def chat(self, request: bytes) -> scope.RememberedChat:
        """Return what is remembered of this chat, and count it.

        Raises:
            LookupError: Nothing is remembered here: ask `remembers` first.
        """
        if self._memory is not None:
            return self._memory.chat(request)
        if self._outer is None:
            msg = "No chat of this item is remembered."
            raise LookupError(msg)
        return self._outer.chat(request)

    def waits(self, what: scope.Waiting) -> None:
        """Tell the work around that a chat begins to wait."""
        if self._outer is not None:
            self._outer.waits(what)

    def goes_on(self, what: scope.Waiting) -> None:
        """Tell the work around that a wait is over."""
        if self._outer is not None:
            self._outer.goes_on(what)

    def ended(self, record: CallRecord) -> None:
        """Collect *record*, and tell the work around."""
        self._records.append(record)
        if self._outer is not None:
            self._outer.ended(record)


def begin_within(recorder: Recorder, index: int, item: object, *, work: scope.Work) -> ItemRecord:
    """Return the record that *recorder* begins, its work telling *work* in turn.

    By this one recorder puts itself around another: a `Run` around a
    checkpoint. Raises what `Recorder.begin` raises.

    Threads: for the calling thread, as `Recorder.begin`.
    """
    with scope.entered(changed(scope.current(), work=work)):
        return recorder.begin(index, item)
