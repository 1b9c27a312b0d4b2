"""A process's dealings with one budget in one store.

Holds: `Till`: the verbs with their types and units, what was seen last, and
the making good of what a store has forgotten. Does not hold: waiting
(shared.py), or what a verb does (book.py). Safe to share between threads: what
was seen is one value, replaced as a whole, and no lock is held over a trip.
"""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from lionlite.exceptions import BudgetError, ConfigError
from lionlite.limits.stores.book import TRY
from lionlite.limits.stores.protocol import (
    DIFFERS,
    LOST,
    USED_FROM,
    Answer,
    Deed,
    Store,
    Word,
    store_down,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lionlite.limits.stores.terms import Terms

TRIP_S: Final = 5.0
"""How long a trip may take that a call waits for."""

NOTE_S: Final = 1.0
"""How long a call may be kept by telling what happened, to it and to others."""

LEAST_TRIP_S: Final = 0.05
"""How long a trip may take however little time is left: none would end in less."""

SHY_S: Final = 1.0
"""How long after a failed trip nothing is told, but noted down."""

AT_ONCE: Final = 100
"""Notes told on behalf of one call, if there is time for so many."""

MOST_ENTERS: Final = 4
"""Times to enter for one question; once is enough unless a store forgets all the time."""

MOST_NOTES: Final = 10_000
"""Notes kept while the store is down; what is dropped ends with its lease."""

LEASE_S: Final = 600.0
"""How long a grant holds if its call has no deadline: that of one exchange."""

LONGEST_LEASE_S: Final = 366 * 86_400.0

FULL_US: Final = 600_000_000
"""A store that forgot is taken to have been full, for one interval: what was
used last is not known. Intervals longer than this begin from what was seen."""

_STANDING: Final = frozenset({"pause", "refuse"})
"""What is worth telling a store that has forgotten everything else."""

_logger = logging.getLogger("lionlite")

Args: TypeAlias = tuple[Word | tuple[int, ...], ...]
Note: TypeAlias = "Callable[[], tuple[str, Args]]"
"""Makes a verb and its arguments at the moment of the trip: they hold ages."""


@attrs.frozen
class Seen:
    """What the store said last.

    Attributes:
        epoch: The epoch of the budget, "" before the first answer.
        version: Its version.
        processes: How many processes share the budget.
        used: For each rate the units that counted.
        at_s: When that was, on `time.monotonic`.
    """

    epoch: str = ""
    version: int = 0
    processes: int = 0
    used: tuple[int, ...] = ()
    at_s: float = 0.0


@attrs.frozen
class Verdict:
    """The answer to one who asked for room.

    Attributes:
        status: "granted", "wait" or "late".
        wait_s: Seconds after which to ask again.
        free_in_s: Seconds until there is room, as far as is known.
    """

    status: str
    wait_s: float
    free_in_s: float


class Till:
    """One process's membership of a budget.

    Args:
        store: Where the budget is.
        budget: Its name.
        terms: What it is like.

    Attributes:
        seen: What the store said last.

    Threads: safe to share.
    """

    def __init__(self, store: Store, budget: str, terms: Terms) -> None:
        self.terms = terms
        self.seen = Seen()
        self._store = store
        self._budget = budget
        self.renew()

    @property
    def where(self) -> str:
        """What the store is called in messages."""
        return self._store.where

    def renew(self) -> None:
        """Become another process's till: after a fork, in the child."""
        # With the process in it for whoever looks into the store.
        self._holder = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._numbers = itertools.count()
        self._notes: deque[Note] = deque(maxlen=MOST_NOTES)
        self._shy_until_s = 0.0

    def ticket(self) -> str:
        """Return a name for one more call."""
        return f"{self._holder}.{next(self._numbers)}"

    # Verbs that are waited for ---------------------------------------------------

    def take(self, mode: int, ticket: str, costs: tuple[int, ...], left_s: float) -> Verdict:
        """Ask for room for *costs*.

        Args:
            mode: QUEUE, TRY or LOOK of book.py.
            ticket: The call's name.
            costs: For each rate what it needs.
            left_s: Seconds until the call's deadline, infinite without one.

        Raises:
            BudgetError: The store is down.
            ConfigError: The budget has other limits there.

        Threads: blocks for the time left, at most some seconds.
        """
        ends_at_s = time.monotonic() + left_s
        lease_us = round(self._lease_s(left_s) * 1e6)
        left_us = round(min(left_s, LONGEST_LEASE_S) * 1e6) if left_s < LONGEST_LEASE_S else -1
        args = (mode, ticket, lease_us, -1 if mode == TRY else left_us, costs)
        within_s = min(TRIP_S, max(left_s, LEAST_TRIP_S))
        status, _, _, wait_us, free_us = self._ask("take", args, within_s)[:5]
        # What waits may be what our own notes give back. What is granted has better
        # to do: its end is told soon, and with it what was noted before.
        if self._notes and status != "granted":
            self._tell_all(min(NOTE_S, ends_at_s - time.monotonic()))
        return Verdict(str(status), int(wait_us) / 1e6, int(free_us) / 1e6)

    def look(self) -> tuple[float, float]:
        """Return the seconds of pause that are left and the guard, both fresh.

        Raises:
            BudgetError: The store is down.
            ConfigError: The budget has other limits there.
        """
        _, _, _, paused_us, guard_us = self._ask("stats", (), TRIP_S)[:5]
        return int(paused_us) / 1e6, int(guard_us) / 1e6

    def enter(self, *, owed: Sequence[int] = (), within_s: float = TRIP_S) -> None:
        """Join the budget, charging what was used without asking.

        Args:
            owed: For each rate the units that were used.
            within_s: Seconds it may take.

        Raises:
            BudgetError: The store is down.
            ConfigError: The budget has other limits there.
        """
        seen = self.seen
        args: Args = (
            secrets.token_hex(8),
            seen.epoch,
            seen.version,
            tuple(self.taken_as_used()),
            tuple(owed) or (0,) * len(self.terms.rates),
        )
        answer = self._trip("enter", args, within_s)
        if answer[0] == DIFFERS:
            raise self._differs(str(answer[1]))
        # Its version may be lower than the one seen: it is another epoch.
        self.seen = _seen(answer)

    def taken_as_used(self) -> list[int]:
        """Return for each rate what must be taken as used when nobody knows.

        Nothing where we have been away for longer than its interval: who has
        used it since then will say so himself.
        """
        seen, age_us = self.seen, (time.monotonic() - self.seen.at_s) * 1e6
        if not seen.epoch:
            return [0] * len(self.terms.rates)
        return [
            0 if age_us > rate.interval_us else rate.limit if rate.interval_us <= FULL_US else units
            for rate, units in zip(self.terms.rates, seen.used, strict=True)
        ]

    # Notes --------------------------------------------------------------------------

    def tell(self, note: Note) -> None:
        """Tell the store what happened, now or when it answers again.

        Never raises for a store that is down: the call is over, and its lease
        makes up for what is never told.

        What was noted before is told first; what there is no time for is told
        on behalf of a later call.

        Threads: blocks for a second at most.
        """
        self._notes.append(note)
        if time.monotonic() >= self._shy_until_s:
            self._tell_all(NOTE_S)

    def _tell_all(self, for_s: float) -> None:
        """Tell what was noted, in its order, for *for_s* seconds at most."""
        until_s = time.monotonic() + for_s
        for _ in range(AT_ONCE):
            left_s = until_s - time.monotonic()
            # None is begun that a store could not end which is just slow.
            if left_s <= 0 or left_s < for_s / 2:
                return
            try:
                note = self._notes.popleft()
            except IndexError:
                return
            was_shy = self._shy_until_s
            try:
                self._tell_one(note, until_s)
            except BudgetError as error:
                self._notes.appendleft(note)
                if not was_shy and left_s >= NOTE_S / 2:
                    _logger.warning("What calls used is told to the store later. %s", error)
                return
            except ConfigError as error:
                # The next call that asks for room gets it; this one is over.
                _logger.warning("%s", error)
            except BaseException:
                # A signal's handler may raise anything. The store takes what it
                # is told twice as once.
                self._notes.appendleft(note)
                raise

    def _tell_one(self, note: Note, until_s: float) -> None:
        if not self.seen.epoch:
            self.enter(within_s=_left(until_s))
        verb, args = note()
        answer = self._trip(verb, args, _left(until_s))
        if answer[0] == LOST and verb in _STANDING:
            self.enter(within_s=_left(until_s))
            verb, args = note()
            answer = self._trip(verb, args, _left(until_s))
        self._note(answer)

    # -----------------------------------------------------------------------------------

    def _ask(self, verb: str, args: Args, within_s: float) -> Answer:
        until_s = time.monotonic() + within_s
        if not self.seen.epoch:
            self.enter(within_s=_left(until_s))
        for _ in range(MOST_ENTERS):
            answer = self._trip(verb, args, _left(until_s))
            if answer[0] != LOST:
                self._note(answer)
                return answer
            self._warn_of_loss()
            self.enter(within_s=_left(until_s))
        raise store_down(self.where, "it forgets what it is told")

    def _warn_of_loss(self) -> None:
        if any(self.taken_as_used()):
            _logger.warning(
                "The store %s has forgotten the budget %r: it counts as used up for one interval.",
                self.where,
                self._budget,
            )

    def _trip(self, verb: str, args: Args, within_s: float) -> Answer:
        seen = self.seen
        deed = Deed(self._budget, self.terms, seen.epoch, seen.version, verb, args)
        try:
            answer = self._store.trip(deed, within_s)
        except BudgetError:
            self._shy_until_s = time.monotonic() + SHY_S
            raise
        self._shy_until_s = 0.0
        return answer

    def _note(self, answer: Answer) -> None:
        fresh = _seen(answer) if answer[0] != LOST else None
        seen = self.seen
        if fresh and fresh.epoch == seen.epoch and fresh.version > seen.version:
            self.seen = fresh

    def _lease_s(self, left_s: float) -> float:
        if left_s > LONGEST_LEASE_S:
            return LEASE_S
        # What is charged on arrival needs its lease until it is sent, which is
        # soon; what is charged at the end needs it to the end.
        return left_s if self.terms.charge == "usage" else min(left_s, LEASE_S)

    def _differs(self, theirs: str) -> ConfigError:
        msg = (
            f"budget={self._budget!r} in {self.where} has other limits: here {self.terms.text}; "
            f"there {theirs}. Give all processes the same limits, or this one another budget=. "
            "A budget that nobody uses is forgotten one interval and a minute later."
        )
        return ConfigError(msg)


def _seen(answer: Answer) -> Seen:
    return Seen(
        epoch=str(answer[1]),
        version=int(answer[2]),
        processes=int(answer[5]),
        used=tuple(int(units) for units in answer[USED_FROM:]),
        at_s=time.monotonic(),
    )


def _left(until_s: float) -> float:
    return max(until_s - time.monotonic(), LEAST_TRIP_S)
