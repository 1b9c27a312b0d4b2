"""What a store keeps of one budget besides its slots and its open calls.

Holds: `Head`, `Ticket` and `Entry`, and their way into JSON and back. Does
not hold: any rule (book.py). Small: it grows with the processes that wait,
not with the calls. Not safe to share by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import attrs

from lionlite import jsontext
from lionlite.limits.stores.slots import NEVER
from lionlite.limits.stores.valve import Valve

if TYPE_CHECKING:
    from collections.abc import Iterable


@attrs.define
class Ticket:
    """A process's place in the queue.

    Attributes:
        name: The call that waits.
        come_by: When it was told to ask again.
        costs: What it needs, for each rate.
    """

    name: str
    come_by: int
    costs: list[int]


@attrs.define
class Entry:
    """A call that was granted and has not ended.

    Attributes:
        stamp: When its request has surely arrived, -1 while it is pending.
        lease: When it counts as sent, whatever became of its process.
        granted_at: When its capacity was taken.
        costs: What it was charged, for each rate.
    """

    stamp: int
    lease: int
    granted_at: int
    costs: list[int]


@attrs.define
class Head:
    """A budget's own row.

    Attributes:
        text: Its terms, in words.
        epoch: Changes whenever the store may have forgotten something.
        used: For each rate the units that count, pending ones included.
        version: Changes so far; less than a member has seen means that the
            store went back in time.
        replaces: The epoch whose loss was made good.
        now: The latest instant that the store has seen.
        granted: Calls granted so far.
        widened: Factor of the guard, doubled by surprising refusals.
        next_lease: The earliest end of any lease, or earlier.
        keep_until: When nobody can need the row any more.
        valve: The pause after a refusal.
        tickets: The queue, the first first.
        holders: When each process was last seen.
    """

    text: str
    epoch: str
    used: list[int]
    version: int = 0
    replaces: str = ""
    now: int = 0
    granted: int = 0
    widened: int = 1
    next_lease: int = NEVER
    keep_until: int = 0
    valve: Valve = attrs.field(factory=Valve)
    tickets: list[Ticket] = attrs.field(factory=list)
    holders: dict[str, int] = attrs.field(factory=dict)


class Shelf(Protocol):
    """Where a budget's slots and entries lie.

    Slots belong to the rate with the given number and come the oldest first.
    """

    def slots(self, rate: int) -> Iterable[tuple[int, int]]:
        """Return each slot and its units."""

    def add(self, rate: int, slot: int, units: int) -> None:
        """Add *units*, which may be negative, to *slot*."""

    def drop_before(self, rate: int, slot: int) -> int:
        """Forget all slots before *slot*; return their units."""

    def entry(self, name: str) -> Entry | None:
        """Return the entry of that name, or None."""

    def put(self, name: str, entry: Entry) -> None:
        """Keep *entry* under *name*."""

    def drop(self, name: str) -> None:
        """Forget the entry of that name."""

    def entries(self) -> list[tuple[str, Entry]]:
        """Return every entry and its name."""


def head_to_json(head: Head) -> bytes:
    """Return *head* as JSON."""
    return jsontext.encode(head)


def head_from_json(text: bytes) -> Head:
    """Return the head that `head_to_json` wrote.

    Raises:
        ValueError, TypeError, KeyError: *text* is something else.
    """
    fields: dict[str, Any] = jsontext.decode(text)
    fields["valve"] = Valve(**fields["valve"])
    fields["tickets"] = [Ticket(**ticket) for ticket in fields["tickets"]]
    return Head(**fields)
