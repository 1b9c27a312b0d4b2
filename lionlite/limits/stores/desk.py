"""The threads of one process before a shared budget.

Holds: `SharedDesk`: the line, of which the first asks the store, sleeps to the
instant that the store named, and asks again. Does not hold: who is granted
when (book.py), or the checks of what is asked for (limits/shared.py). Safe to
share between threads; no lock is held while a store is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lionlite.exceptions import BudgetError, Cancelled
from lionlite.limits import refusals
from lionlite.limits.notice import Notice
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

    Attributes:
        line: The threads that wait.
    """

    def __init__(self, till: Till, limits: Limits, max_concurrency: int | None) -> None:
        self.line = Line(max_concurrency)
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
                self._wait(waiter, scope, costs, reservation.ticket)
            self.line.leave(waiter, is_granted=True)
        except BaseException:
            self._withdraw(waiter, reservation.ticket)
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
            waiter.has_asked = True
            if not self._take(TRY, reservation.ticket, costs, scope):
                self.line.end(waiter, is_news=False)
                return None
            self.line.note_grant()
        except BaseException:
            self._withdraw(waiter, reservation.ticket)
            raise
        return reservation

    def _prepared(self, costs: Mapping[str, int]) -> tuple[Waiter, SharedReservation]:
        """Return what will hold the grant: Ctrl-C may come right after it."""
        waiter = Waiter()
        return waiter, SharedReservation(
            self._till, self.line, waiter, self._till.ticket(), costs
        )

    def _withdraw(self, waiter: Waiter, ticket: str) -> None:
        try:
            self._leave(waiter, ticket)
        except KeyboardInterrupt:
            # It was cut short, and others wait behind.
            self._leave(waiter, ticket)
            raise

    def _leave(self, waiter: Waiter, ticket: str) -> None:
        """Leave the line, and the store's, whatever was taken there."""
        try:
            if waiter.has_asked:
                self._till.tell(lambda: ("leave", (ticket,)))
        finally:
            self.line.leave(waiter, is_granted=False)

    def _wait(self, waiter: Waiter, scope: Scope, costs: Mapping[str, int], ticket: str) -> None:
        """Return once *ticket* is granted; only the first in the line asks."""
        notice = Notice(scope, lambda: self._explained(costs, waiter))
        while True:
            self._check(waiter, scope, costs)
            nap_s = FOREVER_S
            if self.line.is_turn_of(waiter):
                waiter.has_asked = True
                nap_s = self._ask(waiter, scope, costs, ticket)
                if nap_s < 0:
                    return
            waiter.alarm.wait(min(nap_s, scope.left_s, notice.due_in_s()))

    def _ask(self, waiter: Waiter, scope: Scope, costs: Mapping[str, int], ticket: str) -> float:
        """Return the seconds after which to ask again, negative once granted."""
        left_s = scope.left_s
        try:
            verdict = self._till.take(QUEUE, ticket, self._till.terms.costs(costs), left_s)
        except BudgetError as error:
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

    def _check(self, waiter: Waiter, scope: Scope, costs: Mapping[str, int]) -> None:
        if waiter.failure is not None:
            raise waiter.failure
        _check_cancelled(scope)
        if scope.left_s <= 0:
            raise self._late(costs, waiter.free_in_s, scope, waiter.waited_s)

    def _refuse_hopeless(self, costs: Mapping[str, int], scope: Scope) -> None:
        """Raise if *costs* cannot fit before the deadline, whatever happens."""
        self._take(LOOK, self._till.ticket(), costs, scope)

    def _take(self, mode: int, ticket: str, costs: Mapping[str, int], scope: Scope) -> bool:
        verdict = self._till.take(mode, ticket, self._till.terms.costs(costs), scope.left_s)
        if verdict.status == "late":
            raise self._late(costs, verdict.free_in_s, scope, 0.0)
        return verdict.status == "granted"

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
