"""The input of a run, which a later run goes on with where this one stopped.

Holds: `Feed`. Does not hold: what counts as an item (inputs.py), nor how far
ahead it is read (engine.py). Threads: for the calling thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import attrs

from lionlite.calls.inputs import ONE_ITEM, count, iterate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@attrs.frozen(eq=False)
class Feed:
    """The input of a run.

    Attributes:
        items: What the user gave.
        iterator: Gives those of them that were not read yet.
        labels: The index of a Series or DataFrame of pandas, else None.
        total: How many items *items* has, None if it cannot be told cheaply.
        again: Items that come before those.
        start: How many of *items* earlier runs have read.
        hand: How many were taken from *iterator* so far, and the last one:
            Ctrl-C may come before it has a place in the run.
    """

    items: Iterable[Any]
    iterator: Iterator[Any]
    labels: Any
    total: int | None
    again: Sequence[Any] = ()
    start: int = 0
    hand: list[Any] = attrs.field(factory=lambda: [0, None])

    def rest(self, again: Sequence[Any], *, start: int) -> Feed:
        """Return a feed of *again*, and then of what is left after *start* items.

        What an iterator of the user's loses when Ctrl-C ends it, such as a
        generator that it interrupts, is lost here too.

        Raises:
            ConfigError: The items cannot be iterated any more.
        """
        if self.total is not None:
            iterator = islice(iterate(self.items), start, None)
            return attrs.evolve(self, iterator=iterator, again=again, start=start)
        taken, last = self.hand
        if taken > start:
            again = [*again, last]
        return attrs.evolve(self, again=again, start=start)

    def __iter__(self) -> Iterator[Any]:
        yield from self.again
        # Not `yield from`: it would close a generator when this run ends early.
        for item in self.iterator:
            # One step, with no call in it before which Python looks for signals.
            self.hand[:] = self.hand[0] + 1, item
            yield item

    def __len__(self) -> int:
        # Asked for progress= only, since it may cost something.
        known = count(self.items)
        if known is None:
            msg = "Only reading it would tell."
            raise TypeError(msg)
        return len(self.again) + max(0, known - self.start)


def feed_of(items: Iterable[Any]) -> Feed:
    """Return the feed of *items*, none of which was read yet.

    Raises:
        ConfigError: *items* cannot be iterated.
    """
    labels = getattr(items, "index", None) if hasattr(items, "iloc") else None
    # A database query has a length as well, for which it asks the database.
    is_cheap = isinstance(items, (*ONE_ITEM, Sequence)) or hasattr(items, "columns")
    total = count(items) if is_cheap or labels is not None else None
    return Feed(items, iterate(items), labels, total)
