"""What became of each item of a run, as values.

Holds: `Outcome`, `Chats` (what the chats of an item took) and `Sheet`, the
places that a run fills. Does not hold: the run's face (result.py), who fills the
places (recorder.py), tables (table.py). Values are frozen; a `Sheet` is filled
by several threads, each item in the place of its own.
"""

from __future__ import annotations

import reprlib
import time
from typing import TYPE_CHECKING, Any, Literal

import attrs

from lionlite.calls.verdict import describe
from lionlite.records import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lionlite.records import CallRecord

Status = Literal["ok", "failed", "skipped", "unfinished"]


@attrs.frozen(weakref_slot=False)
class Chats:
    """What the chats of an item took, all attempts and retries together.

    Attributes:
        count: Chats that ended, well or not.
        replayed: How many of them a checkpoint answered; what they took is
            what it took when they were paid for.
        attempts: Requests that went out.
        waited_s: Seconds spent waiting for the budget, added up.
        usage: Tokens, None if the provider counted none.
        cost: US dollars, None if the provider does not say.
        model: The model that answered last.
        finish_reason: Why the last answer ended.
        request_ids: The provider's names for the requests, in order.
    """

    count: int = 0
    replayed: int = 0
    attempts: int = 0
    waited_s: float = 0.0
    usage: Usage | None = None
    cost: float | None = None
    model: str | None = None
    finish_reason: str | None = None
    request_ids: tuple[str, ...] = ()

    def __add__(self, later: Chats) -> Chats:
        """Return what both took; the model and reason are those of *later*."""
        if not self.count or not later.count:
            return later if later.count else self
        return Chats(
            count=self.count + later.count,
            replayed=self.replayed + later.replayed,
            attempts=self.attempts + later.attempts,
            waited_s=self.waited_s + later.waited_s,
            usage=total_usage([self.usage, later.usage]),
            cost=total_cost([self.cost, later.cost]),
            model=later.model,
            finish_reason=later.finish_reason,
            request_ids=self.request_ids + later.request_ids,
        )


NO_CHATS = Chats()
"""Shared by all items that made none, which keeps a run of them small."""


def chats_of(records: Iterable[CallRecord]) -> Chats:
    """Return what *records* took together, `NO_CHATS` if there are none."""
    records = list(records)
    if not records:
        return NO_CHATS
    last = records[-1]
    return Chats(
        count=len(records),
        replayed=sum(record.is_replayed for record in records),
        attempts=sum(record.attempts for record in records),
        waited_s=sum(record.waited_s for record in records),
        usage=total_usage(record.usage for record in records),
        cost=total_cost(record.cost for record in records),
        model=last.answered_by or last.model,
        finish_reason=last.finish_reason,
        request_ids=tuple(record.request_id for record in records if record.request_id),
    )


def total_usage(parts: Iterable[Usage | None]) -> Usage | None:
    """Return the sum of those that are known, None if none is."""
    known = [part for part in parts if part is not None]
    return sum(known, start=Usage()) if known else None


def total_cost(parts: Iterable[float | None]) -> float | None:
    """Return the sum of those that are known, None if none is."""
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


@attrs.frozen(eq=False, repr=False, weakref_slot=False)
class Outcome:
    """What became of one item.

    Attributes:
        index: The item's number in the input, from 0.
        key: What *key* made of the item; without one its label in the index
            of a Series or DataFrame, else its number.
        input: The item.
        value: What the function returned; None unless `is_ok`.
        error: What it raised; None unless the item failed.
        status: "ok", "failed", "skipped" (a missing input, see *skip_missing*)
            or "unfinished" (never started, or cut off).
        elapsed_s: Seconds that the function ran, all waiting included.
        chats: What its chats took.
    """

    index: int
    key: Any
    input: Any
    value: Any = None
    error: BaseException | None = None
    status: Status = "unfinished"
    elapsed_s: float = 0.0
    chats: Chats = NO_CHATS

    @property
    def is_ok(self) -> bool:
        """Whether there is a value."""
        return self.status == "ok"

    @property
    def is_failed(self) -> bool:
        """Whether there is an error."""
        return self.status == "failed"

    @property
    def is_skipped(self) -> bool:
        """Whether the input is missing, and was left out."""
        return self.status == "skipped"

    @property
    def is_unfinished(self) -> bool:
        """Whether the item was never started, or cut off."""
        return self.status == "unfinished"

    @property
    def attempts(self) -> int:
        """Requests that went out for it, all chats and retries together."""
        return self.chats.attempts

    @property
    def waited_s(self) -> float:
        """Seconds that its chats waited for the budget."""
        return self.chats.waited_s

    @property
    def usage(self) -> Usage | None:
        """Its tokens, None if the provider counted none."""
        return self.chats.usage

    @property
    def cost(self) -> float | None:
        """Its cost in US dollars, None if the provider does not say."""
        return self.chats.cost

    @property
    def model(self) -> str | None:
        """The model that answered last, None if none did."""
        return self.chats.model

    @property
    def finish_reason(self) -> str | None:
        """Why the last answer ended, None if the provider does not say."""
        return self.chats.finish_reason

    @property
    def request_ids(self) -> tuple[str, ...]:
        """The provider's names for its requests, in order."""
        return self.chats.request_ids

    def __repr__(self) -> str:
        end = cut(describe(self.error), 60) if self.error else short(self.value, 60)
        return f"<Outcome {self.index} {self.status}: {short(self.input, 30)} -> {end}>"


def short(value: object, width: int) -> str:
    """Return the repr of *value* in one line of at most *width* characters."""
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = width
    brief.maxlevel = 3
    return cut(brief.repr(value), width)


def cut(text: str, width: int) -> str:
    """Return *text* in one line of at most *width* characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 3]}..."


@attrs.define(eq=False)
class Sheet:
    """What is known of a run; filled while it goes on.

    Attributes:
        name: The function's name.
        places: An outcome for each item read so far, in the input's order.
        labels: The index of the Series or DataFrame that was the input.
        has_keys: Whether the keys were asked for with *key*.
        total: How many items the input has, None if only reading would tell.
        checkpoint: The file that can resume it, None without one.
        began_s: When it began, on `time.monotonic`.
        took_s: Seconds that it took; None as long as it goes on.
        before_s: Seconds that the runs took that it goes on from.
        is_interrupted: Whether Ctrl-C ended it.
        stopped: Why it stopped before its end, None if it did not.
    """

    name: str
    places: list[Outcome] = attrs.Factory(list)
    labels: Any = None
    has_keys: bool = False
    total: int | None = None
    checkpoint: str | None = None
    began_s: float = attrs.Factory(time.monotonic)
    took_s: float | None = None
    before_s: float = 0.0
    is_interrupted: bool = False
    stopped: str | None = None

    @property
    def seconds(self) -> float:
        """Seconds so far, with those of the runs that it goes on from."""
        now_s = time.monotonic() - self.began_s if self.took_s is None else self.took_s
        return self.before_s + now_s
