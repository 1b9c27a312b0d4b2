"""The share of the budget that one call holds.

Holds: `Reservation`. Does not hold: how it was granted (limiter.py), or what
it is charged (ledger.py). One thread has it at a time; every method may run
while other threads use the same budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from lionlite.limits import refusals

if TYPE_CHECKING:
    from types import TracebackType

    from lionlite.limits.desk import Desk
    from lionlite.limits.entries import Entry


class Reservation:
    """Capacity for one call, from its grant to its end.

    As a context manager it cannot be forgotten: left without `settle`, it is
    given back if nothing was sent, and charged its estimate otherwise.

    Threads: one at a time; no method blocks.
    """

    __slots__ = ("_desk", "_entry", "_is_sent")

    def __init__(self, desk: Desk, entry: Entry) -> None:
        self._desk = desk
        self._entry = entry
        self._is_sent = False

    @property
    def costs(self) -> dict[str, int]:
        """What was asked for, by dimension."""
        return dict(self._entry.costs)

    @property
    def waited_s(self) -> float:
        """Seconds that the call waited for its grant."""
        return self._entry.waited_s

    @property
    def entry(self) -> Entry:
        """What the ledger knows the call by."""
        return self._entry

    def sent(self) -> None:
        """Say that the last byte of the request has left.

        Until then the charge cannot expire; from now on it expires one
        interval after the request has surely arrived.
        """
        self._is_sent = True
        self._desk.sent(self._entry)

    def replied(self) -> None:
        """Say that the first byte of the reply is here: the request has arrived."""
        self._desk.replied(self._entry)

    def settle(self, actual: Mapping[str, int] | None = None) -> None:
        """End the call, charged as the provider charges it.

        Args:
            actual: Units used, by dimension, such as `{"tokens": 812}`. A
                dimension that is missing, or not a number >= 0, keeps its
                estimate. None when nothing is known. A second call does
                nothing.

        Raises:
            ConfigError: *actual* is neither; the call goes on.
        """
        if not self._entry.is_ended:
            self._desk.settle(self._entry, {} if actual is None else _known(actual))

    def cancel(self) -> None:
        """End a call of which nothing went on the wire: all is given back.

        After `sent` it is a `settle` without usage: what left may be charged.
        """
        if self._is_sent:
            self.settle()
        elif not self._entry.is_ended:
            self._desk.give_back(self._entry)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.cancel()
        except BaseException:
            # A signal cut it short: twice is as once.
            self.cancel()
            raise

    def __repr__(self) -> str:
        state = "ended" if self._entry.is_ended else "sent" if self._is_sent else "pending"
        return f"<Reservation {self._entry.costs} {state}>"


def _known(actual: Mapping[str, int]) -> Mapping[str, int]:
    """Drop what no server can mean: a reply is input from outside."""
    # The type first: to ask for a Mapping costs more than all that follows.
    if type(actual) is not dict and not isinstance(actual, Mapping):
        raise refusals.no_usage(actual)
    for dimension, used in actual.items():
        if type(used) is not int or used < 0 or not isinstance(dimension, str):
            break
    else:
        return actual
    return {
        dimension: used
        for dimension, used in actual.items()
        # Not isinstance: True is an int too.
        if isinstance(dimension, str) and type(used) is int and used >= 0
    }
