"""The names that the items of a run have in its checkpoint.

Holds: `Names`. Does not hold: how a name is made (keys.py), or what is kept
under it (item.py). Threads: for the calling thread, but for `finished`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from lionlite.calls.journal.keys import identify

if TYPE_CHECKING:
    from collections.abc import Callable

    from lionlite.calls.journal.keys import Identity


@attrs.define(eq=False)
class Names:
    """The names that were given so far, in a run and in those that retry it.

    Items of one name are told apart by their order. An item keeps its name for
    as long as it may run again: its function may have changed it since, and
    counted anew it would have the answers of an equal one.
    """

    # Hashes of the names so far, a tenth of their memory; and how often those
    # came again that did.
    _seen: set[int] = attrs.Factory(set)
    _repeated: dict[str, int] = attrs.Factory(dict)
    # By place. To add one and to drop one are each one step of the interpreter.
    _unfinished: dict[int, tuple[Identity, int]] = attrs.Factory(dict)

    def of(
        self, place: int, item: object, key: Callable[[Any], str | int] | None
    ) -> tuple[Identity, int]:
        """Return what the item at *place* is known by, and which of that name it is, from 0.

        Raises:
            CheckpointError: It has no name; see `identify`.
        """
        known = self._unfinished.get(place)
        if known is not None:
            return known
        identity = identify(place, item, key)
        name = hash(identity.key)
        # Two names of one hash would be counted as one, and the second item
        # sought in vain: 1 in 37 million for a million items (2^64 hashes).
        nth = self._repeated.get(identity.key, 0) + 1 if name in self._seen else 0
        # Counted with no call in between, before which Python looks for
        # signals: after Ctrl-C the item is not counted again.
        self._unfinished[place] = identity, nth
        if nth:
            self._repeated[identity.key] = nth
        else:
            self._seen.add(name)
        return identity, nth

    def finished(self, place: int) -> None:
        """Note that the item at *place* will not run again.

        Threads: safe anywhere.
        """
        self._unfinished.pop(place, None)

    def copy(self) -> Names:
        """Return the same names, for a run to go on from: there may be several."""
        return Names(self._seen.copy(), self._repeated.copy(), self._unfinished.copy())
