"""A budget that many processes or hosts share, with the face of `RateLimiter`.

Holds: `SharedLimiter`: checks what is asked for, and lets the calling thread
wait, obeying the deadline and the cancelling of its scope. Does not hold: who
is granted when (stores/book.py), where that is kept (stores/), or any HTTP.
Safe to share between threads, of which one at a time asks the store.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NoReturn

import attrs

from lionlite.display import once_made
from lionlite.exceptions import ConfigError
from lionlite.limits import refusals
from lionlite.limits.stats import DimensionStats, LimiterStats, RateStats
from lionlite.limits.stores.desk import SharedDesk
from lionlite.limits.stores.opening import open_store
from lionlite.limits.stores.terms import checked_limits, terms_of
from lionlite.limits.stores.till import Till
from lionlite.scope import seconds_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lionlite.limits.rates import Rate
    from lionlite.limits.stores.holding import SharedReservation
    from lionlite.limits.stores.protocol import Store

ON_STORE_DOWN: Final = ("raise", "share")

_LONGEST_NAME: Final = 200
_LONGEST_PAUSE_S: Final = 366 * 86_400.0


class SharedLimiter:
    """Grants calls in the order in which they asked, never above a rate.

    All limiters with one store and one budget name are one budget, in however
    many processes: they take turns, and each has its share of the grants.
    Nothing is opened before the first call.

    Args:
        limits: For each dimension its rates; see `parse_limits`. The same for
            all members.
        store: Where the budget is kept: "sqlite:///file", "redis://host", or
            what `open_store` returned.
        budget: Its name, which tells it from others in the store.
        charge: What the server charges besides requests; see `Accounts`.
        max_concurrency: Calls of this process granted and not ended at one
            time, >= 1, None for any number.
        on_store_down: "raise" a BudgetError, or go on with a "share" of the
            limits (stores/alone.py) until the store answers again.

    Raises:
        ConfigError: An argument is out of range.

    Threads: any number may share it. A forked child is a member of its own;
    the calls under way stay the parent's.
    """

    def __init__(
        self,
        limits: Mapping[str, Sequence[Rate]],
        *,
        store: Store | str,
        budget: str,
        charge: str = "estimate",
        max_concurrency: int | None = None,
        on_store_down: str = "raise",
    ) -> None:
        self._is_own_store = isinstance(store, str)
        try:
            self._store = open_store(store) if isinstance(store, str) else store
        finally:
            # No frame of a traceback may show its password.
            del store
        self._limits = checked_limits(limits)
        self._terms = terms_of(self._limits, charge)
        self._max_concurrency = _checked_count(max_concurrency)
        self._shares = _checked_choice(on_store_down) == "share"
        self._budget = _checked_name(budget)
        self._till = Till(self._store, self._budget, self._terms)
        self._desk = self._made_desk()
        self._is_closed = False
        _watch(self)

    def reserve(self, costs: Mapping[str, int]) -> SharedReservation:
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
            BudgetError: The store is down.
            Cancelled: The scope is or was cancelled.
            ConfigError: *costs* is not such a mapping, or the budget has
                other limits in the store.

        Threads: blocks the calling thread only; first come, first served in
        this process, and processes take turns.
        """
        return self._desk.reserve(self._checked(costs))

    def try_reserve(self, costs: Mapping[str, int]) -> SharedReservation | None:
        """Take room for *costs* if there is any now, without waiting for it.

        Returns:
            The reservation, or None when there is no room now or when others
            wait for it, in whatever process.

        Raises:
            RequestTooLarge: *costs* can never fit.
            BudgetClosed: The limiter is closed.
            BudgetError: The store is down.
            Cancelled: The scope is cancelled.
            ConfigError: As for `reserve`.

        Threads: any; asks the store once.
        """
        return self._desk.try_reserve(self._checked(costs))

    def pause(self, seconds: float) -> None:
        """Grant nothing for *seconds* in any process; then one probe, then a ramp.

        Args:
            seconds: Finite, >= 0. A pause that lasts longer already goes on.

        Raises:
            ConfigError: *seconds* is not such a number.

        Threads: any; asks the store once.
        """
        checked_s = _finite(seconds, name="pause()")
        alone, until_s = self._desk.fallback.alone, time.monotonic() + checked_s
        if alone is not None:
            alone.limiter.pause(checked_s)
        self._till.tell(lambda: ("pause", (_left_us(until_s),)))

    def refused(
        self,
        reservation: SharedReservation | None = None,
        *,
        retry_after_s: float | None = None,
    ) -> None:
        """Pause all processes because the provider answered 429, and learn from it.

        The first refusal of a herd also doubles the guard, if by our own
        account there was room for the call.

        Args:
            reservation: Whose request was refused; still to be settled.
            retry_after_s: What the provider asked for, finite, >= 0, already
                capped by the caller. None: 0.5 s, doubling with each refusal
                in a row up to 8 s.

        Raises:
            ConfigError: *retry_after_s* is not such a number.

        Threads: any; asks the store once.
        """
        wish_s = None if retry_after_s is None else _finite(retry_after_s, name="retry_after_s")
        alone = self._desk.fallback.alone
        if alone is not None:
            place = None if reservation is None else reservation.place
            own = None if place is None else place.reservation
            alone.limiter.refused(own, retry_after_s=wish_s)
        ticket = "" if reservation is None else reservation.ticket
        until_s = None if wish_s is None else time.monotonic() + wish_s
        self._till.tell(
            lambda: ("refuse", (ticket, -1 if until_s is None else _left_us(until_s)))
        )

    def set_rates(self, dimension: str, rates: Sequence[Rate]) -> NoReturn:
        """Refuse: the limits of a shared budget are those of all its members.

        Raises:
            ConfigError: Always.
        """
        msg = (
            f"The limits of the shared budget {self._budget!r} cannot change while it is in use "
            f"({dimension} to {', '.join(map(str, rates)) or 'none'}): give max_requests=, "
            "max_tokens= or limits= to the services of all processes, or another budget=."
        )
        raise ConfigError(msg)

    def stats(self) -> LimiterStats:
        """Return what the budget is doing.

        Units used and the pause are the whole budget's; calls that wait, are
        in flight or were granted are this process's.

        Raises:
            BudgetError: The store is down.
            ConfigError: The budget has other limits there.

        Threads: any; asks the store once, unless it was never asked.
        """
        alone, line = self._desk.fallback.alone, self._desk.line
        if alone is not None:
            return attrs.evolve(
                alone.limiter.stats(),
                waiting=line.waiting,
                in_flight=line.in_flight,
                waited_s=line.waited_s,
                granted=line.granted,
            )
        is_open = bool(self._till.seen.epoch)
        paused_s, guard_s = self._till.look() if is_open else (0.0, self._terms.guard_us / 1e6)
        return LimiterStats(
            dimensions=self._dimensions(),
            waiting=line.waiting,
            in_flight=line.in_flight,
            next_grant_in_s=line.free_in_s,
            waited_s=line.waited_s,
            granted=line.granted,
            guard_s=guard_s,
            paused_for_s=paused_s,
        )

    def close(self) -> None:
        """Refuse everyone from now on; all of this process who wait get BudgetClosed.

        What was granted may still be sent and settled. A second call does
        nothing.

        Threads: any; does not block.
        """
        self._is_closed = True
        self._desk.line.close()
        alone = self._desk.fallback.alone
        if alone is not None:
            alone.limiter.close()
        if self._is_own_store:
            self._store.close()

    def renew_after_fork(self) -> None:  # pragma: no cover - only in forked children
        """Become the limiter of a forked child, where no other thread lives."""
        self._till.renew()
        self._desk = self._made_desk()
        if self._is_closed:
            self._desk.line.close()

    def __reduce__(self) -> NoReturn:
        msg = (
            "A SharedLimiter does not pickle: it has threads that wait. Build it in the other "
            f"process with the same store= and budget={self._budget!r}; both are one budget then."
        )
        raise ConfigError(msg)

    @once_made
    def __repr__(self) -> str:
        return f"<SharedLimiter {self._budget!r} in {self._store.where}, {self._terms.text}>"

    # ---------------------------------------------------------------------------------

    def _made_desk(self) -> SharedDesk:
        return SharedDesk(self._till, self._limits, self._max_concurrency, shares=self._shares)

    def _checked(self, costs: Mapping[str, int]) -> dict[str, int]:
        own = _counts(costs)
        if self._is_closed:
            raise refusals.closed()
        found = self._terms.too_large(own)
        if found is not None:
            raise refusals.too_large(own, *found)
        return own

    def _dimensions(self) -> dict[str, DimensionStats]:
        rates = self._terms.rates
        used = self._till.seen.used or (0,) * len(rates)
        found: dict[str, tuple[RateStats, ...]] = {}
        for rate, units in zip(rates, used, strict=True):
            one = RateStats(rate.limit, rate.interval_us / 1e6, units, max(0, rate.limit - units))
            found[rate.dimension] = (*found.get(rate.dimension, ()), one)
        return {name: _dimension(several) for name, several in found.items()}


def _dimension(rates: tuple[RateStats, ...]) -> DimensionStats:
    tightest = min(rates, key=lambda rate: rate.remaining / rate.limit)
    return DimensionStats(
        tightest.limit, tightest.interval_s, tightest.used, tightest.remaining, rates
    )


def _counts(costs: Mapping[str, int]) -> dict[str, int]:
    if isinstance(costs, Mapping):
        own = dict(costs)
        # Not isinstance: True is an int too.
        are_counts = all(type(cost) is int and cost >= 0 for cost in own.values())
        if are_counts and any(own.values()) and all(isinstance(name, str) for name in own):
            return own
    raise refusals.no_costs(costs)


def _checked_name(budget: str) -> str:
    if isinstance(budget, str) and budget.isprintable() and 0 < len(budget) <= _LONGEST_NAME:
        return budget
    msg = f"budget= takes a printable name of 1 to {_LONGEST_NAME} characters; got {budget!r:.60}."
    raise ConfigError(msg)


def _checked_count(count: int | None) -> int | None:
    if count is None or (isinstance(count, int) and not isinstance(count, bool) and count >= 1):
        return count
    msg = f"max_concurrency takes an int >= 1, or None for any; got {count!r}."
    raise ConfigError(msg)


def _checked_choice(on_store_down: str) -> str:
    if on_store_down in ON_STORE_DOWN:
        return on_store_down
    msg = f"on_store_down= takes {' or '.join(map(repr, ON_STORE_DOWN))}; got {on_store_down!r}."
    raise ConfigError(msg)


def _finite(seconds: float, *, name: str) -> float:
    checked = seconds_from(seconds, name=name)
    if seconds != math.inf:
        return min(checked, _LONGEST_PAUSE_S)
    msg = f"{name} takes finite seconds; got {seconds!r}."
    raise ConfigError(msg)


def _left_us(until_s: float) -> int:
    return max(0, round((until_s - time.monotonic()) * 1e6))


_live: weakref.WeakSet[SharedLimiter] = weakref.WeakSet()
# Guards _live.
_live_lock = threading.Lock()


def _watch(limiter: SharedLimiter) -> None:
    with _live_lock:
        _live.add(limiter)


def _after_in_child() -> None:  # pragma: no cover - only in forked children
    global _live_lock  # noqa: PLW0603 - the old lock may be held by a thread of the parent
    _live_lock = threading.Lock()
    for limiter in list(_live):
        limiter.renew_after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_after_in_child)
