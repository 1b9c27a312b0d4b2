"""The budget that all calls of one service share, and the waiting for it.

Holds: `RateLimiter`: checks what is asked for, and lets the calling thread
wait, obeying the deadline and the cancelling of its scope. Does not hold: who
is granted when (budget.py), or any HTTP. Safe to share between threads.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NoReturn

from lionlite.display import once_made, shown
from lionlite.exceptions import Cancelled, ConfigError
from lionlite.limits import forks, refusals
from lionlite.limits.alarm import Alarm
from lionlite.limits.budget import Budget
from lionlite.limits.desk import Desk
from lionlite.limits.entries import Entry
from lionlite.limits.ledger import LedgerBucket
from lionlite.limits.notice import Notice
from lionlite.limits.reservation import Reservation
from lionlite.limits.stats import LimiterStats
from lionlite.line import PULSE_S
from lionlite.scope import Scope, current, seconds_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyrate_limiter

    from lionlite.limits.rates import Rate

__all__ = ["LimiterStats", "RateLimiter", "Reservation"]

_LONGEST_PAUSE_S: Final = 366 * 86_400.0

_logger = logging.getLogger("lionlite")


class RateLimiter:
    """Grants calls in the order in which they asked, never above a rate.

    Args:
        limits: For each dimension ("requests", "tokens", ...) its rates, each
            with another interval; see `parse_limits`. A dimension without
            rates is unlimited.
        charge: What the server charges besides requests: "estimate", "adjust"
            or "usage"; see `Accounts`.
        max_concurrency: Calls granted and not ended at one time, >= 1, None
            for any number.
        clock: Seconds, for the accounting. The deadlines of scopes are on
            `time.monotonic`, and so is all sleeping.

    Raises:
        ConfigError: An argument is out of range.

    Threads: any number may share it. A forked child has a budget of its own,
    with all open calls charged; one warning says so.
    """

    def __init__(
        self,
        limits: Mapping[str, Sequence[Rate | pyrate_limiter.Rate]],
        *,
        charge: str = "estimate",
        max_concurrency: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        ledger = LedgerBucket(_mapping(limits), charge=charge, clock=clock)
        if max_concurrency is not None and not _is_count(max_concurrency, least=1):
            got = shown(max_concurrency)
            msg = f"max_concurrency takes an int >= 1, or None for any; got {got}."
            raise ConfigError(msg)
        self.desk = Desk(Budget(ledger, max_concurrency=max_concurrency))
        self._is_forked = False
        self.serial = 0
        forks.watch(self)

    def reserve(self, costs: Mapping[str, int]) -> Reservation:
        """Wait until the budget has room for *costs*, and take it.

        The wait ends with the deadline of the scope and with its cancelling.

        Args:
            costs: Units by dimension, ints >= 0, at least one of them > 0,
                such as `{"requests": 1, "tokens": 1_200}`.

        Returns:
            The reservation; use it in a `with`, or settle or cancel it.

        Raises:
            RequestTooLarge: At once, if *costs* can never fit.
            BudgetTimeout: At once, if even the end of every open call would
                make room too late; else at the deadline.
            BudgetClosed: The limiter is or was closed.
            Cancelled: The scope is or was cancelled.
            ConfigError: *costs* is not such a mapping.

        Threads: blocks the calling thread only; first come, first served.
        """
        entry = self._entry(costs)
        # Made before it is granted: Ctrl-C in between would lose the grant.
        reservation = Reservation(self.desk, entry)
        scope = current()
        _check_cancelled(scope)
        try:
            if not self.desk.admit(entry):
                self._wait(entry, scope)
        except BaseException:
            self._withdraw(entry)
            raise
        return reservation

    def try_reserve(self, costs: Mapping[str, int]) -> Reservation | None:
        """Take room for *costs* if there is any now, without waiting.

        Returns:
            The reservation, or None when there is no room now or when others
            wait for it; never because another thread is busy here, or tries.

        Raises:
            RequestTooLarge: *costs* can never fit.
            BudgetClosed: The limiter is closed.
            Cancelled: The scope is cancelled.
            ConfigError: *costs* is not a mapping as `reserve` takes it.

        Threads: any; does not block.
        """
        entry = self._entry(costs)
        # Made before it is granted, as in `reserve`.
        reservation = Reservation(self.desk, entry)
        _check_cancelled(current())
        try:
            is_granted = self.desk.attempt(entry)
        except BaseException:
            self._withdraw(entry)
            raise
        return reservation if is_granted else None

    def pause(self, seconds: float) -> None:
        """Grant nothing for *seconds*; then one probe, then a ramp (gate.py).

        Args:
            seconds: Finite, >= 0. A pause that lasts longer already goes on.

        Raises:
            ConfigError: *seconds* is not such a number.

        Threads: any; does not block.
        """
        self.desk.pause(_finite(seconds, name="pause()"))

    def refused(
        self, reservation: Reservation | None = None, *, retry_after_s: float | None = None
    ) -> None:
        """Pause because the provider answered 429, and learn from it.

        The first refusal of a herd also doubles the guard, if by our own
        account there was room for the call.

        Args:
            reservation: Whose request was refused; still to be settled.
            retry_after_s: What the provider asked for, finite, >= 0, already
                capped by the caller. None: 0.5 s, doubling with each refusal
                in a row up to 8 s.

        Raises:
            ConfigError: *retry_after_s* is not such a number.

        Threads: any; does not block.
        """
        entry = None if reservation is None else reservation.entry
        if retry_after_s is not None:
            retry_after_s = _finite(retry_after_s, name="retry_after_s")
        self.desk.refused(entry, retry_after_s)

    def set_rates(self, dimension: str, rates: Sequence[Rate]) -> None:
        """Limit *dimension* to *rates* from now on; no rates, no limit.

        What was charged before counts as far as a window remembers it, open
        calls always. Calls that wait and can no longer fit get
        RequestTooLarge.

        Raises:
            ConfigError: *rates* is no list of rates, one is out of range, or
                two have one interval.

        Threads: any; does not block.
        """
        self.desk.set_rates(dimension, rates)

    def tighten(self, dimension: str, used: int) -> None:
        """Take note of what the server says is used, by us and by others.

        It only ever tightens: what we know to be used more than that, because
        it is under way or the server forgets sooner than we do, stays.

        Args:
            dimension: A limited one; of others there is no account.
            used: Units that the server counts now, >= 0.

        Threads: any; does not block.
        """
        self.desk.tighten(dimension, used)

    def set_charge(self, charge: str) -> None:
        """Charge in another way from now on; calls under way are corrected by it.

        Args:
            charge: As for the constructor.

        Raises:
            ConfigError: There is no such way.

        Threads: any; does not block.
        """
        self.desk.set_charge(charge)

    def stats(self) -> LimiterStats:
        """Return what the limiter is doing.

        Threads: any; does not block.
        """
        return self.desk.stats()

    def close(self) -> None:
        """Refuse everyone from now on; all who wait get BudgetClosed.

        What was granted may still be sent and settled. A second call does
        nothing.

        Threads: any; does not block.
        """
        self.desk.close()

    def renew_after_fork(self) -> None:
        """Become the limiter of a forked child; forks.py calls it."""
        self._is_forked = True
        self.desk.renew_after_fork()

    def __reduce__(self) -> NoReturn:
        msg = (
            "A budget in memory cannot go to another process: each would have the whole of it. "
            'Build the service there, and share one budget with store="sqlite:///budget.db".'
        )
        raise ConfigError(msg)

    @once_made
    def __repr__(self) -> str:
        stats = self.stats()
        used = ", ".join(
            f"{name} {one.used}/{one.limit} per {one.interval_s:g} s"
            for name, one in stats.dimensions.items()
        )
        return f"<RateLimiter {used or 'unlimited'}, {stats.waiting} waiting>"

    def _withdraw(self, entry: Entry) -> None:
        try:
            self.desk.leave(entry)
        except BaseException:
            # A signal cut it short, and others wait behind.
            self.desk.leave(entry)
            raise

    def _wait(self, entry: Entry, scope: Scope) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        longest_s = PULSE_S if is_main else math.inf
        entry.alarm = alarm = Alarm()
        notice = Notice(scope, lambda: self.desk.explain(entry))
        # The token's lock is taken before the desk's, never under it.
        with scope.woken_by(alarm.ring):
            self.desk.join(entry, scope.left_s)
            while (nap_s := self.desk.nap_s(entry)) is not None:
                _check_cancelled(scope)
                left_s = scope.left_s
                if left_s <= 0:
                    raise self.desk.late(entry, left_s)
                alarm.wait(min(nap_s, left_s, notice.due_in_s(), longest_s))
        if entry.failure is not None:
            raise entry.failure

    def _entry(self, costs: Mapping[str, int]) -> Entry:
        if self._is_forked:
            self._warn_of_fork()
        try:
            own = {**costs}
        except TypeError:
            raise refusals.no_costs(costs) from None
        total = 0
        for dimension, cost in own.items():
            # Not isinstance: True is an int too.
            if type(cost) is not int or cost < 0 or not isinstance(dimension, str):
                break
            total += cost
        else:
            if total > 0:
                return Entry(own)
        raise refusals.no_costs(own)

    def _warn_of_fork(self) -> None:
        self._is_forked = False
        if self.desk.budget.ledger.windows:
            _logger.warning(
                "This process was forked: it and its parent each have the whole budget now. "
                'Share one with store="sqlite:///budget.db", or give each process its share.'
            )


def _mapping(
    limits: Mapping[str, Sequence[Rate | pyrate_limiter.Rate]],
) -> Mapping[str, Sequence[Rate | pyrate_limiter.Rate]]:
    if isinstance(limits, Mapping):
        return limits
    msg = f"limits takes a dict from dimension to rates, see parse_limits(); got {shown(limits)}."
    raise ConfigError(msg)


def _check_cancelled(scope: Scope) -> None:
    if scope.token is not None and scope.token.is_cancelled:
        msg = "The call was cancelled before its budget was granted."
        raise Cancelled(msg)


def _is_count(value: object, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _finite(seconds: float, *, name: str) -> float:
    checked = seconds_from(seconds, name=name)
    if seconds != math.inf:
        return min(checked, _LONGEST_PAUSE_S)
    msg = f"{name} takes finite seconds; got {shown(seconds)}."
    raise ConfigError(msg)
