"""The share of a shared budget that one call holds.

Holds: `SharedReservation`, with the face of `limits.reservation.Reservation`.
Does not hold: how it was granted (shared.py), or what it is charged (book.py).
One thread has it at a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from lionlite.limits import refusals

if TYPE_CHECKING:
    from types import TracebackType

    from lionlite.limits.stores.alone import Place
    from lionlite.limits.stores.line import Line, Waiter
    from lionlite.limits.stores.till import Till


class SharedReservation:
    """Capacity for one call, from its grant to its end.

    As a context manager it cannot be forgotten: left without `settle`, it is
    given back if nothing was sent, and charged its estimate otherwise. In a
    forked child it does nothing: the call belongs to the parent.

    Attributes:
        ticket: What the store knows the call by.
        place: The call's place in the share that granted it while the store
            was down, None if the store did.

    Threads: one at a time. `sent`, `settle` and `cancel` tell the store, which
    takes a second at most and never raises for a store that is down.
    """

    __slots__ = (
        "_costs",
        "_is_ended",
        "_line",
        "_pid",
        "_replied_s",
        "_sent_s",
        "_till",
        "_waiter",
        "place",
        "ticket",
    )

    def __init__(
        self, till: Till, line: Line, waiter: Waiter, ticket: str, costs: Mapping[str, int]
    ) -> None:
        self._till = till
        self._line = line
        self._waiter = waiter
        self._costs = dict(costs)
        self._pid = os.getpid()
        self._sent_s: float | None = None
        self._replied_s: float | None = None
        self._is_ended = False
        self.ticket = ticket
        self.place: Place | None = None

    @property
    def costs(self) -> dict[str, int]:
        """What was asked for, by dimension."""
        return dict(self._costs)

    @property
    def waited_s(self) -> float:
        """Seconds that the call waited for its grant."""
        return self._waiter.waited_s if self._waiter.has_waited else 0.0

    def sent(self) -> None:
        """Say that the last byte of the request has left.

        Until then the charge cannot expire; from now on it expires one
        interval after the request has surely arrived.
        """
        if self._sent_s is not None or self._is_over():
            return
        self._sent_s = sent_s = time.monotonic()
        if self.place is not None:
            self.place.reservation.sent()
            return
        ticket = self.ticket
        self._till.tell(lambda: ("sent", (ticket, _ago_us(sent_s))))

    def replied(self) -> None:
        """Say that the first byte of the reply is here: the request has arrived.

        The store learns of it when the call ends.
        """
        if self._sent_s is not None and self._replied_s is None:
            self._replied_s = time.monotonic()
            if self.place is not None:
                self.place.reservation.replied()

    def settle(self, actual: Mapping[str, int] | None = None) -> None:
        """End the call, charged as the provider charges it.

        Args:
            actual: Units used, by dimension, such as `{"tokens": 812}`. A
                dimension that is missing, or not a number >= 0, keeps its
                estimate. None when nothing is known. A second call does
                nothing.

        Raises:
            ConfigError: *actual* is no mapping; the call has not ended.
        """
        if self._is_over():
            return
        if actual is not None and not isinstance(actual, Mapping):
            raise refusals.no_usage(actual)
        if self.place is None:
            self._settle_in_store(actual or {})
        else:
            self.place.reservation.settle(actual)
        self._end(is_news=self._till.terms.charge != "estimate" or self._sent_s is None)

    def cancel(self) -> None:
        """End a call of which nothing went on the wire: all is given back.

        After `sent` it is a `settle` without usage: what left may be charged.
        """
        if self._sent_s is not None:
            self.settle()
        elif not self._is_over():
            if self.place is None:
                ticket = self.ticket
                self._till.tell(lambda: ("leave", (ticket,)))
            else:
                self.place.reservation.cancel()
            self._end(is_news=True)

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
            # A signal cut it short, whatever its handler raises: twice is as once.
            self.cancel()
            raise

    def __repr__(self) -> str:
        state = "ended" if self._is_ended else "pending" if self._sent_s is None else "sent"
        return f"<SharedReservation {self._costs} {state}>"

    def _settle_in_store(self, actual: Mapping[str, int]) -> None:
        ticket, sent_s, replied_s = self.ticket, self._sent_s, self._replied_s
        units = self._till.terms.usage(actual)
        if replied_s is None and any(one >= 0 for one in units):
            replied_s = time.monotonic()
        self._till.tell(
            lambda: ("settle", (ticket, _ago_us(sent_s), _ago_us(replied_s), units))
        )

    def _end(self, *, is_news: bool) -> None:
        # Last: what Ctrl-C cut short is done again, and twice is as once.
        self._line.end(self._waiter, is_news=is_news)
        self._is_ended = True

    def _is_over(self) -> bool:
        return self._is_ended or self._pid != os.getpid()


def _ago_us(instant_s: float | None) -> int:
    """Return how long ago that was, rounded down; -1 for never.

    Down is up for the stamp that the store makes of it.
    """
    return -1 if instant_s is None else max(0, int((time.monotonic() - instant_s) * 1e6))

