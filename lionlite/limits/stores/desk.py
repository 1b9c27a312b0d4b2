"""The threads of one process before a shared budget.

Holds: `SharedDesk`: the line, of which the first asks the store, sleeps to the
instant that the store named, and asks again. While the store is down, it asks
for the share instead, and whether the store is back: nobody in the line loses
his place. Does not hold: who is granted when (book.py, alone.py), or the checks
of what is asked for (limits/shared.py). Safe to share between threads; no lock
is held while a store is asked.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from lionlite.exceptions import BudgetClosed, BudgetError, Cancelled
from lionlite.limits import refusals
from lionlite.limits.notice import Notice
from lionlite.limits.stores.alone import Fallback, Place
from lionlite.limits.stores.book import LOOK, QUEUE, TRY
from lionlite.limits.stores.holding import SharedReservation
from lionlite.limits.stores.line import Line, Waiter
from lionlite.limits.stores.till import TRIP_S
from lionlite.scope import FOREVER_S, Scope, current

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lionlite.limits.rates import Limits
    from lionlite.limits.stores.till import Till


class SharedDesk:
    """The one way to a shared budget.

    Args:
        till: This process's membership.
        limits: The budget's, for messages.
        max_concurrency: Calls of this process granted and not ended at one
            time, None for any number.
        shares: Whether to go on with a share while the store is down.

    Attributes:
        line: The threads that wait.
        fallback: What grants while the store is down.
    """

    def __init__(
        self, till: Till, limits: Limits, max_concurrency: int | None, *, shares: bool
    ) -> None:
        self.line = Line(max_concurrency)
        self.fallback = Fallback(till, is_wanted=shares)
        self._till = till
        self._limits = limits
        self._max_concurrency = max_concurrency

    def reserve(self, costs: Mapping[str, int]) -> SharedReservation:
        """Wait for room for *costs*, and take it; see `SharedLimiter.reserve`."""
        scope = current()
        _check_cancelled(scope)
        waiter, reservation = self._prepared(costs)
        try:
            is_slow = self.line.join(waiter)
            with scope.woken_by(waiter.alarm.ring):
                if is_slow and scope.left_s < FOREVER_S:
                    self._refuse_hopeless(costs, scope)
                self._wait(waiter, scope, reservation)
            self.line.leave(waiter, is_granted=True)
        except BaseException:
            self._withdraw(waiter, reservation)
            raise
        return reservation

    def try_reserve(self, costs: Mapping[str, int]) -> SharedReservation | None:
        """Take room for *costs* if there is any; see `SharedLimiter.try_reserve`."""
        scope = current()
        _check_cancelled(scope)
        waiter, reservation = self._prepared(costs)
        try:
            if not self.line.try_permit(waiter):
                return None
            if not self._try(waiter, scope, reservation):
                self.line.end(waiter, is_news=False)
                return None
            self.line.note_grant()
        except BaseException:
            self._withdraw(waiter, reservation)
            raise
        return reservation

    def _prepared(self, costs: Mapping[str, int]) -> tuple[Waiter, SharedReservation]:
        """Return what will hold the grant: Ctrl-C may come right after it."""
        waiter = Waiter()
        return waiter, SharedReservation(self._till, self.line, waiter, self._till.ticket(), costs)

    def _withdraw(self, waiter: Waiter, reservation: SharedReservation) -> None:
        try:
            self._leave(waiter, reservation)
        except BaseException:
            # A signal cut it short, whatever its handler raises; others wait behind.
            self._leave(waiter, reservation)
            raise

    def _leave(self, waiter: Waiter, reservation: SharedReservation) -> None:
        """Leave the line, the share's and the store's, whatever was taken there."""
        try:
            if reservation.place is not None:
                reservation.place.leave()
            self._leave_store(waiter, reservation)
        finally:
            self.line.leave(waiter, is_granted=False)

    def _leave_store(self, waiter: Waiter, reservation: SharedReservation) -> None:
        if waiter.has_asked:
            ticket = reservation.ticket
            self._till.tell(lambda: ("leave", (ticket,)))

    # Who waits ---------------------------------------------------------------------

    def _wait(self, waiter: Waiter, scope: Scope, reservation: SharedReservation) -> None:
        """Return once *reservation* is granted; only the first in the line asks."""
        costs = reservation.costs
        notice = Notice(scope, lambda: self._explained(costs, waiter))
        while True:
            self._check(waiter, scope, costs)
            nap_s = FOREVER_S
            if self.line.is_turn_of(waiter):
                place = self._place_of(waiter, scope, reservation)
                if place is None:
                    nap_s = self._ask_store(waiter, scope, reservation)
                else:
                    nap_s = self._ask_share(place, waiter, scope)
                if nap_s < 0:
                    return
            waiter.alarm.wait(min(nap_s, scope.left_s, notice.due_in_s()))

    def _place_of(
        self, waiter: Waiter, scope: Scope, reservation: SharedReservation
    ) -> Place | None:
        """Return the call's place in the share that grants now, None while the store does."""
        alone, place = self.fallback.look(scope.left_s), reservation.place
        if place is None or not (place.alone is alone or place.is_granted):
            if place is not None:
                place.leave()
            place = None if alone is None else Place(alone, reservation.costs, waiter.alarm)
            reservation.place = place
        return place

    def _ask_store(self, waiter: Waiter, scope: Scope, reservation: SharedReservation) -> float:
        """Return the seconds after which to ask again, negative once granted."""
        left_s, costs = scope.left_s, reservation.costs
        waiter.has_asked = True
        units = self._till.terms.costs(costs)
        try:
            verdict = self._till.take(QUEUE, reservation.ticket, units, left_s)
        except BudgetError as error:
            if self._goes_alone(error, waiter, reservation):
                return 0.0
            # With less time the store may only have been slow for this one call.
            if left_s >= TRIP_S:
                text, is_retryable = str(error), error.retryable
                self.line.fail(lambda: BudgetError(text, retryable=is_retryable))
            raise
        if verdict.status == "late":
            raise self._late(costs, verdict.free_in_s, scope, waiter.waited_s)
        if verdict.status == "granted":
            return -1.0
        self.line.told_to_wait(waiter, verdict.free_in_s)
        return verdict.wait_s

    def _ask_share(self, place: Place, waiter: Waiter, scope: Scope) -> float:
        """As `_ask_store`, while the store is down."""
        try:
            nap_s = place.ask(scope.left_s)
        except BudgetClosed:
            # The store is back; or all was closed, and the waiter's failure says so.
            return 0.0
        if nap_s < 0:
            return nap_s
        self.line.told_to_wait(waiter, nap_s if nap_s < FOREVER_S else 0.0)
        return min(nap_s, place.alone.try_in_s)

    def _goes_alone(
        self, error: BudgetError, waiter: Waiter, reservation: SharedReservation
    ) -> bool:
        """Whether to ask the share from now on, as the store is down."""
        if not self.fallback.begins(error):
            return False
        # The store may have granted it: it leaves there, and comes back, if at all,
        # under another name, or what is told late would end it.
        self._leave_store(waiter, reservation)
        waiter.has_asked = False
        reservation.ticket = self._till.ticket()
        return True

    def _check(self, waiter: Waiter, scope: Scope, costs: Mapping[str, int]) -> None:
        if waiter.failure is not None:
            raise waiter.failure
        _check_cancelled(scope)
        if scope.left_s <= 0:
            raise self._late(costs, waiter.free_in_s, scope, waiter.waited_s)

    def _refuse_hopeless(self, costs: Mapping[str, int], scope: Scope) -> None:
        """Raise if *costs* cannot fit before the deadline, whatever happens."""
        alone = self.fallback.alone
        if alone is not None:
            with suppress(BudgetClosed):  # as in `_ask_share`
                alone.refuse_hopeless(costs, scope.left_s)
            return
        try:
            self._take(LOOK, self._till.ticket(), costs, scope)
        except BudgetError as error:
            if not self.fallback.begins(error):
                raise

    # Who does not ------------------------------------------------------------------

    def _try(self, waiter: Waiter, scope: Scope, reservation: SharedReservation) -> bool:
        """Whether there was room for *reservation*, which it then has."""
        while True:
            place = self._place_of(waiter, scope, reservation)
            try:
                if place is not None:
                    return place.try_now()
                waiter.has_asked = True
                return self._take(TRY, reservation.ticket, reservation.costs, scope)
            except BudgetClosed:
                if place is None or self.fallback.alone is place.alone:
                    raise
            except BudgetError as error:
                if not self._goes_alone(error, waiter, reservation):
                    raise

    def _take(self, mode: int, ticket: str, costs: Mapping[str, int], scope: Scope) -> bool:
        verdict = self._till.take(mode, ticket, self._till.terms.costs(costs), scope.left_s)
        if verdict.status == "late":
            raise self._late(costs, verdict.free_in_s, scope, 0.0)
        return verdict.status == "granted"

    # -----------------------------------------------------------------------------------

    def _explained(self, costs: Mapping[str, int], waiter: Waiter) -> str:
        return refusals.waiting(
            costs,
            self._limits,
            free_in_s=waiter.free_in_s or None,
            max_concurrency=self._max_concurrency,
        )

    def _late(
        self, costs: Mapping[str, int], free_in_s: float, scope: Scope, waited_s: float
    ) -> BudgetError:
        return refusals.late(
            costs,
            self._limits,
            free_in_s=free_in_s or None,
            left_s=scope.left_s,
            waited_s=waited_s,
            max_concurrency=self._max_concurrency,
        )


def _check_cancelled(scope: Scope) -> None:
    if scope.token is not None and scope.token.is_cancelled:
        msg = "The call was cancelled before its budget was granted."
        raise Cancelled(msg)
