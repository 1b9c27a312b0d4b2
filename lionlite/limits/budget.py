"""Who is granted now, and when to look again.

Holds: `Budget`: the ledger, the gate, the permits and the queue, decided upon
without any thread. Does not hold: locks, sleeping (desk.py, limiter.py), or
the accounting itself (ledger.py). Instants are integer nanoseconds of the
ledger's clock. Not safe to share between threads by itself.

Each method that may free room returns the entries whose waiting it ended.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from lionlite.limits import refusals
from lionlite.limits.entries import UNKNOWN, Entry
from lionlite.limits.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lionlite.exceptions import BudgetTimeout, LionError
    from lionlite.limits.accounts import Accounts
    from lionlite.limits.rates import Rate

BACKFILL: Final = 16
"""Waiters behind the head that may be granted out of turn."""


class Budget:
    """A queue of entries before a ledger.

    Args:
        ledger: What fits when. Nobody else may change it.
        max_concurrency: Calls granted and not ended at one time, None for any.

    Attributes:
        queue: The entries that wait, the first first.
        dropped: The entries that will never be granted, until their threads are told.
        look_at: The instant at which something may be granted without any
            other event, UNKNOWN if there is none.
        granted: Calls granted so far.
        waited_ns: Nanoseconds that all calls together have waited.
    """

    def __init__(self, ledger: Accounts, *, max_concurrency: int | None = None) -> None:
        self.ledger = ledger
        self.gate = Gate()
        self.queue: deque[Entry] = deque()
        self.dropped: list[Entry] = []
        self.look_at = UNKNOWN
        self.head_at = UNKNOWN
        self.granted = 0
        self.waited_ns = 0
        self.is_closed = False
        self._max_concurrency = max_concurrency

    def admit(self, entry: Entry) -> bool:
        """Grant *entry* if it fits now and nobody waits; say whether it did."""
        if self.queue or self.is_closed:
            return False
        now = self.ledger.tick()
        if self._free_at(entry, now) > now:
            return False
        self._grant(entry, now)
        return True

    def attempt(self, entry: Entry) -> list[Entry]:
        """Grant *entry* if it fits now and nobody who waits needs the room; it does not wait.

        Raises:
            BudgetClosed: The budget is closed.
            RequestTooLarge: It can never fit.
        """
        refusal = self._refusal(entry)
        if refusal is not None:
            raise refusal
        # Those who wait come first, and may be due.
        granted = self.pump() if self.queue else []
        if not self.admit(entry) and self._may_pass(entry):
            self._grant(entry, self.ledger.tick())
        return granted

    def join(self, entry: Entry, left_s: float) -> list[Entry]:
        """Put *entry* at the end of the queue.

        Args:
            entry: Neither granted nor waiting.
            left_s: Seconds it may wait, infinite if nothing bounds it.

        Raises:
            BudgetClosed: The budget is closed.
            RequestTooLarge: It can never fit.
            BudgetTimeout: It would be granted too late even if every open
                call were given back.
        """
        now = self.ledger.tick()
        refusal = self._refusal(entry)
        if refusal is not None:
            raise refusal
        entry.joined_at = now
        if math.isfinite(left_s) and (self._soonest(entry) - now) / 1e9 > left_s:
            raise self.late(entry, left_s)
        self.queue.append(entry)
        # The newcomer frees nothing: it matters only as the first, or near
        # enough to the head and of another size than what did not fit there.
        is_first = len(self.queue) == 1
        is_near = len(self.queue) <= 1 + BACKFILL and entry.costs != self.queue[0].costs
        return self.pump() if is_first or is_near or now >= self.look_at else []

    def leave(self, entry: Entry) -> list[Entry]:
        """Forget *entry*: it waits no longer, or gives back a grant it never saw."""
        if entry.is_granted:
            self.granted -= not entry.is_ended
            return self.give_back(entry)
        if entry not in self.queue:
            return []
        now = self.ledger.tick()
        self.waited_ns += now - entry.joined_at
        position = self.queue.index(entry)
        del self.queue[position]
        return self.pump() if position <= BACKFILL else []

    def pump(self) -> list[Entry]:
        """Grant to whoever may have it now, and set `look_at`."""
        now = self.ledger.tick()
        granted: list[Entry] = []
        self.head_at = self.look_at = UNKNOWN
        while self.queue:
            self.head_at = self.look_at = self._free_at(self.queue[0], now)
            if self.head_at > now:
                break
            # Granted first: Ctrl-C in between must not lose it.
            self._grant(self.queue[0], now)
            granted.append(self.queue.popleft())
        if len(self.queue) > 1 and self.gate.is_open and self._has_permit():
            self._backfill(now, granted)
        return granted

    # The life of a granted entry --------------------------------------------

    def sent(self, entry: Entry) -> list[Entry]:
        """Note that the request left."""
        now = self.ledger.tick()
        self.ledger.sent(entry)
        is_changed = not self.gate.is_open and self.gate.sent(entry, now)
        return self.pump() if self.queue and (is_changed or self._is_news(entry)) else []

    def replied(self, entry: Entry) -> list[Entry]:
        """Note that the reply has begun."""
        self.ledger.tick()
        is_lower = self.ledger.replied(entry)
        return self.pump() if self.queue and is_lower and self._is_news(entry) else []

    def settle(self, entry: Entry, actual: Mapping[str, int]) -> list[Entry]:
        """End the call with what it used."""
        now = self.ledger.tick()
        self.ledger.settle(entry, actual)
        return self._ended(entry, now)

    def give_back(self, entry: Entry) -> list[Entry]:
        """End the call, of which nothing was sent."""
        now = self.ledger.tick()
        self.ledger.give_back(entry)
        return self._ended(entry, now)

    # What comes from outside ------------------------------------------------

    def pause(self, seconds: float) -> list[Entry]:
        """Let nobody pass for *seconds*."""
        self.gate.pause(self.ledger.tick(), seconds)
        return self.pump()

    def refused(self, entry: Entry | None, retry_after_s: float | None) -> list[Entry]:
        """Pause, and widen the guard if the ledger had room for the call."""
        now = self.ledger.tick()
        is_news = self.gate.refuse(entry, now, retry_after_s)
        if is_news and self.ledger.windows and not self.ledger.is_in_debt:
            self.ledger.widen_guard()
        return self.pump()

    def set_rates(self, dimension: str, rates: Sequence[Rate]) -> list[Entry]:
        """Change a limit, and refuse who can no longer fit."""
        self.ledger.tick()
        self.ledger.set_rates(dimension, rates)
        refused = self._drop(self._refusal)
        return refused + self.pump()

    def tighten(self, dimension: str, used: int) -> None:
        """Charge what others used of *dimension*; nobody is granted by that."""
        self.ledger.tick()
        self.ledger.tighten(dimension, used)

    def close(self) -> list[Entry]:
        """Refuse everyone from now on."""
        self.is_closed = True
        return self._drop(self._refusal)

    def orphan(self) -> list[Entry]:
        """Become the budget of a forked child: nobody waits, all calls are sent."""
        self.ledger.tick()
        self.ledger.orphan()
        dropped = self._drop(lambda _: refusals.forked())
        self.pump()
        return dropped

    def mend(self) -> None:
        """Count anew, and have the queue looked at: a change was cut short."""
        self.ledger.mend()
        self.queue = deque(entry for entry in self.queue if not entry.is_decided)
        # The change may have been one that refuses some.
        self._drop(self._refusal)
        self.look_at = 0

    def late(self, entry: Entry, left_s: float) -> BudgetTimeout:
        """Return the error for *entry*, which the budget grants too late."""
        now = self.ledger.tick()
        return refusals.late(
            entry.costs,
            self.ledger.limits,
            free_in_s=self._free_in_s(entry, now),
            left_s=left_s,
            waited_s=(now - entry.joined_at) / 1e9,
            max_concurrency=self._max_concurrency,
            is_paused=self.gate.paused_until > now,
        )

    def explain(self, entry: Entry) -> str:
        """Return what *entry*, which waits, waits for."""
        now = self.ledger.tick()
        return refusals.waiting(
            entry.costs,
            self.ledger.limits,
            free_in_s=self._free_in_s(entry, now),
            max_concurrency=self._max_concurrency,
            is_paused=self.gate.paused_until > now,
        )

    # ------------------------------------------------------------------------

    def _free_at(self, entry: Entry, now: int) -> int:
        if self._max_concurrency is not None and not self._has_permit():
            return UNKNOWN
        due = self.ledger.due(entry.costs)
        return due if self.gate.is_open else max(due, self.gate.next_at(now))

    def _has_permit(self) -> bool:
        return self._max_concurrency is None or len(self.ledger.live) < self._max_concurrency

    def _free_in_s(self, entry: Entry, now: int) -> float | None:
        """Estimate the seconds until *entry* is granted, None if nobody can know."""
        at = max(self.gate.paused_until, self.ledger.expected(self._sum_up_to(entry)))
        return (at - now) / 1e9 if at > now else None

    def _soonest(self, entry: Entry) -> int:
        return max(self.gate.paused_until, self.ledger.soonest(entry.costs))

    def _grant(self, entry: Entry, now: int) -> None:
        self.ledger.take(entry)
        if not self.gate.is_open:
            self.gate.granted(entry, now)
        self.granted += 1
        if entry.joined_at >= 0:
            self.waited_ns += now - entry.joined_at

    def _backfill(self, now: int, granted: list[Entry]) -> None:
        """Grant out of turn what does not move the head's instant."""
        head = self.queue[0]
        # None of equals may: no need to look for room in all that counts.
        if all(entry.costs == head.costs for entry in islice(self.queue, 1, 1 + BACKFILL)):
            return
        room = self.ledger.room_beside(head.costs, self.head_at)
        unfit = [head.costs]
        place = 1
        while place < min(len(self.queue), 1 + BACKFILL) and self._has_permit():
            entry = self.queue[place]
            is_known = entry.costs in unfit
            may = not is_known and _fits(entry.costs, room)
            at = self.ledger.due(entry.costs) if may else UNKNOWN
            if at <= now:
                self._grant(entry, now)
                del self.queue[place]
                granted.append(entry)
                _take(entry.costs, room)
                continue
            if not is_known:
                unfit.append(entry.costs)
            self.look_at = min(self.look_at, at)
            place += 1

    def _may_pass(self, entry: Entry) -> bool:
        """Whether *entry*, who would be the last, may be granted out of turn."""
        if not 0 < len(self.queue) <= BACKFILL or not self.gate.is_open or not self._has_permit():
            return False
        room = self.ledger.room_beside(self.queue[0].costs, self.head_at)
        return _fits(entry.costs, room) and not self.ledger.due(entry.costs)

    def _is_news(self, entry: Entry) -> bool:
        """Whether the new stamp of *entry* can bring a grant forward."""
        expires_at = entry.arrival.stamp + self.ledger.shortest_ns
        return self.head_at == UNKNOWN or expires_at < self.look_at

    def _ended(self, entry: Entry, now: int) -> list[Entry]:
        is_changed = not self.gate.is_open and self.gate.ended(entry, now)
        if not self.queue:
            return []
        frees = self._max_concurrency is not None or self.ledger.charge != "estimate"
        is_news = is_changed or frees or not entry.is_sent or self._is_news(entry)
        return self.pump() if is_news else []

    def _refusal(self, entry: Entry) -> LionError | None:
        if self.is_closed:
            waited_ns = self.ledger.tick() - entry.joined_at if entry.joined_at >= 0 else 0
            return refusals.closed(waited_ns / 1e9)
        found = self.ledger.too_large(entry.costs)
        return refusals.too_large(entry.costs, *found) if found else None

    def _drop(self, refusal_of: Callable[[Entry], LionError | None]) -> list[Entry]:
        dropped = []
        for entry in list(self.queue):
            failure = refusal_of(entry)
            if failure is not None:
                # Noted first: Ctrl-C in between must not leave its thread asleep.
                self.dropped.append(entry)
                entry.failure = failure
                self.queue.remove(entry)
                dropped.append(entry)
        return dropped

    def _sum_up_to(self, entry: Entry) -> dict[str, int]:
        """Estimate what *entry* and all ahead of it cost, from the first 64."""
        ahead = self.queue.index(entry) if entry in self.queue else len(self.queue)
        sample = list(islice(self.queue, min(ahead, 64)))
        total = dict(entry.costs)
        for other in sample:
            for dimension, cost in other.costs.items():
                total[dimension] = total.get(dimension, 0) + cost * ahead // len(sample)
        return total


def _fits(costs: Mapping[str, int], room: Sequence[Mapping[str, int]]) -> bool:
    return all(
        cost <= of_window.get(dimension, cost)
        for of_window in room
        for dimension, cost in costs.items()
        if cost
    )


def _take(costs: Mapping[str, int], room: Sequence[dict[str, int]]) -> None:
    for of_window in room:
        for dimension in of_window:
            of_window[dimension] -= costs.get(dimension, 0)
