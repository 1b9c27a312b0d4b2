"""A budget that threads share: one lock, and a bell for each who waits.

Holds: `Desk`: every change of the budget under its lock, and the waking of
those whose waiting it ended. Does not hold: the decisions (budget.py), nor
the waiting itself (limiter.py). Safe to share between threads.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from lionlite.exceptions import LionError
from lionlite.limits.accounts import checked_charge
from lionlite.limits.entries import UNKNOWN
from lionlite.limits.stats import stats_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from lionlite.exceptions import BudgetTimeout
    from lionlite.limits.budget import Budget
    from lionlite.limits.entries import Entry
    from lionlite.limits.rates import Rate
    from lionlite.limits.stats import LimiterStats


class Desk:
    """The one way to a budget.

    Args:
        budget: Nobody else may use it from now on.

    Attributes:
        lock: Guards *budget* and all it reaches. No code of a user runs under
            it and no other lock is taken under it but an alarm's, which never
            blocks; a cancel token's lock comes before it.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        # Guards the budget: see the class docstring.
        self.lock = threading.Lock()
        self._whole = _Whole(self)

    def admit(self, entry: Entry) -> bool:
        """Grant *entry* if nobody waits and it fits now; say whether it did."""
        with self.lock, self._whole:
            return self.budget.admit(entry)

    def attempt(self, entry: Entry) -> bool:
        """Grant *entry* if it fits now and nobody who waits needs the room; say whether it did.

        Raises what `Budget.attempt` raises.
        """
        with self.lock, self._whole:
            self._wake(self.budget.attempt(entry))
            return entry.is_granted

    def join(self, entry: Entry, left_s: float) -> None:
        """Put *entry* into the queue; raises what `Budget.join` raises."""
        with self.lock, self._whole:
            self._wake(self.budget.join(entry, left_s))

    def leave(self, entry: Entry) -> None:
        """Take *entry* out of the queue, or give back a grant that raced with it."""
        with self.lock, self._whole:
            self._wake(self.budget.leave(entry))

    def nap_s(self, entry: Entry) -> float | None:
        """Return how long the thread of *entry* may sleep, None when it is decided.

        Only the head has a timer: the others sleep until they are woken.
        """
        with self.lock, self._whole:
            budget = self.budget
            if entry.is_decided or entry is not budget.queue[0]:
                return None if entry.is_decided else float("inf")
            now = budget.ledger.tick()
            if now >= budget.look_at:
                self._wake(budget.pump())
                if entry.is_decided:
                    return None
            entry.timer_at = budget.look_at
            if entry.timer_at == UNKNOWN:
                return float("inf")
            # One microsecond more, or rounding makes it wake just too early.
            return (entry.timer_at - now) / 1e9 + 1e-6

    def late(self, entry: Entry, left_s: float) -> BudgetTimeout:
        """Return the error for *entry*, whose deadline has come."""
        with self.lock, self._whole:
            return self.budget.late(entry, left_s)

    def explain(self, entry: Entry) -> str:
        """Return what *entry* waits for, as a sentence."""
        with self.lock, self._whole:
            return self.budget.explain(entry)

    def stats(self) -> LimiterStats:
        """Return what the budget is doing."""
        with self.lock, self._whole:
            return stats_of(self.budget)

    def sent(self, entry: Entry) -> None:
        """Note that the request of *entry* left.

        While nobody waits it is only told, without the lock. Who begins to wait
        is in the queue before its thread looks at what was told: of the two,
        one sees the other.
        """
        budget = self.budget
        if not budget.queue and budget.gate.is_open:
            budget.ledger.tell_sent(entry)
            if not budget.queue and budget.gate.is_open:
                return
        with self.lock, self._whole:
            self._wake(budget.sent(entry))

    def replied(self, entry: Entry) -> None:
        """Note that the reply to *entry* has begun; as `sent`."""
        budget = self.budget
        if not budget.queue and budget.gate.is_open:
            budget.ledger.tell_replied(entry)
            if not budget.queue and budget.gate.is_open:
                return
            with self.lock, self._whole:
                self._wake(budget.pump())
        else:
            with self.lock, self._whole:
                self._wake(budget.replied(entry))

    def settle(self, entry: Entry, actual: Mapping[str, int]) -> None:
        """End *entry* with what it used."""
        with self.lock, self._whole:
            self._wake(self.budget.settle(entry, actual))

    def give_back(self, entry: Entry) -> None:
        """End *entry*, of which nothing was sent."""
        with self.lock, self._whole:
            self._wake(self.budget.give_back(entry))

    def pause(self, seconds: float) -> None:
        """Let nobody pass for *seconds*."""
        with self.lock, self._whole:
            self._wake(self.budget.pause(seconds))

    def refused(self, entry: Entry | None, retry_after_s: float | None) -> None:
        """Pause because the provider refused *entry*."""
        with self.lock, self._whole:
            self._wake(self.budget.refused(entry, retry_after_s))

    def set_rates(self, dimension: str, rates: Sequence[Rate]) -> None:
        """Change a limit; raises what `Accounts.set_rates` raises."""
        with self.lock, self._whole:
            self._wake(self.budget.set_rates(dimension, rates))
            self._tell_dropped()

    def tighten(self, dimension: str, used: int) -> None:
        """Charge what others used of *dimension*."""
        with self.lock, self._whole:
            self.budget.tighten(dimension, used)

    def set_charge(self, charge: str) -> None:
        """Charge in another way from now on; raises what `checked_charge` raises."""
        checked = checked_charge(charge)
        with self.lock, self._whole:
            self.budget.ledger.charge = checked

    def close(self) -> None:
        """Refuse everyone from now on."""
        with self.lock, self._whole:
            self.budget.close()
            self._tell_dropped()

    def renew_after_fork(self) -> None:
        """Make this the desk of a forked child, where no other thread lives."""
        self.lock = threading.Lock()
        with self.lock:
            self.budget.orphan()
            self._tell_dropped()

    def mend(self) -> None:
        """Put right what a signal cut short; the lock is held."""
        budget = self.budget
        budget.mend()
        for entry in (*budget.queue, *budget.ledger.live):
            if entry.alarm is not None:
                entry.alarm.ring()
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        self._wake(self.budget.dropped)
        self.budget.dropped.clear()

    def _wake(self, decided: Iterable[Entry]) -> None:
        for entry in decided:
            if entry.alarm is not None:
                entry.alarm.ring()
        queue = self.budget.queue
        if queue and self.budget.look_at < queue[0].timer_at:
            # Its thread does not yet know that it is the head, or sleeps too
            # long. Until it has read the new instant, once is enough.
            queue[0].timer_at = self.budget.look_at
            if queue[0].alarm is not None:
                queue[0].alarm.ring()


class _Whole:
    """The budget is whole when the `with` is left: a signal may cut a change short.

    Its handler may raise anything: Ctrl-C, SystemExit, the time limit of a task
    queue. Only our own refusals are known to come before any change.
    """

    __slots__ = ("_desk",)

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and not issubclass(kind, LionError):
            self._desk.mend()
