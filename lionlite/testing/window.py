"""A sliding window that counts exactly: every entry is kept with its instant.

Holds: `SlidingWindow`. Does not hold: a clock (instants come in as arguments),
locks (gate.py has one), or what is counted. Shares no code with the library's
own limiter, which it exists to judge. Not safe to share between threads.
"""

from __future__ import annotations

import bisect
import math
from operator import attrgetter

import attrs

_instant = attrgetter("at_s")


@attrs.define(eq=False)
class Entry:
    """What one request took, and when.

    Attributes:
        at_s: The instant it counts from.
        cost: Requests or tokens.
        is_live: Whether the window that ends at the latest instant seen
            still holds it.
    """

    at_s: float
    cost: int
    is_live: bool = True


class SlidingWindow:
    """No window of *interval_s* seconds, wherever it starts, holds over *limit*.

    A window is half-open: two entries exactly *interval_s* apart never share
    one. Instants may come in slightly out of order, as they do from threads;
    an entry is judged by every window that would hold it, later ones too.

    Args:
        limit: The most that one window may hold, >= 1.
        interval_s: Length of a window in seconds, > 0.
    """

    def __init__(self, limit: int, interval_s: float) -> None:
        self.limit = limit
        self.interval_s = interval_s
        self._entries: list[Entry] = []  # by instant
        self._first = 0  # the first live entry
        self._held = 0  # cost of all live entries
        self._now_s = -math.inf  # the latest instant seen

    def fits(self, at_s: float, cost: int) -> bool:
        """Return whether *cost* at *at_s* keeps every window within the limit."""
        return self._most_beside(at_s) + cost <= self.limit

    def wait_s(self, at_s: float, cost: int) -> float:
        """Return in how many seconds *cost* will fit, from *at_s* on.

        Returns:
            Seconds, >= 0; infinite when *cost* is above the limit.
        """
        if cost > self.limit:
            return math.inf
        if self.fits(at_s, cost):
            return 0.0
        ready_s = max(at_s, self._entries[-1].at_s)
        index = self._oldest(ready_s)
        excess = self._held + self._just_gone(ready_s) + cost - self.limit
        while excess > 0:
            excess -= self._entries[index].cost
            ready_s = self._entries[index].at_s + self.interval_s
            index += 1
        return max(0.0, ready_s - at_s)

    def take(self, at_s: float, cost: int) -> Entry:
        """Count *cost* from *at_s* on, whether it fits or not."""
        self._advance(at_s)
        entry = Entry(at_s, cost, is_live=self._now_s - at_s < self.interval_s)
        bisect.insort(self._entries, entry, key=_instant)
        if entry.is_live:
            self._held += cost
        else:
            self._first += 1
        return entry

    def correct(self, entry: Entry, cost: int) -> None:
        """Count *entry* as *cost* from now on, at the instant it had."""
        if entry.is_live:
            self._held += cost - entry.cost
        entry.cost = cost

    def held(self, at_s: float) -> int:
        """Return what the window ending at *at_s*, or later if seen, holds."""
        self._advance(at_s)
        return self._held

    def reset_s(self, at_s: float) -> float:
        """Return in how many seconds the window will be empty."""
        if self.held(at_s) == 0:
            return 0.0
        return max(0.0, self._entries[-1].at_s + self.interval_s - at_s)

    def _advance(self, to_s: float) -> None:
        self._now_s = max(self._now_s, to_s)
        while self._first < len(self._entries):
            entry = self._entries[self._first]
            if self._now_s - entry.at_s < self.interval_s:
                return
            entry.is_live = False
            self._held -= entry.cost
            self._first += 1

    def _most_beside(self, at_s: float) -> int:
        """Return the most that any window holding *at_s* holds already.

        Walks back over the entries after *at_s*, which are few: each ends a
        window. What it holds is the live cost, less what comes after it, plus
        what has left the newest window but not this one.
        """
        self._advance(at_s)
        most = later = 0
        for entry in reversed(self._entries):
            if entry.at_s <= at_s:
                break
            if entry.at_s - at_s < self.interval_s:
                most = max(most, self._held + self._just_gone(entry.at_s) - later)
            later += entry.cost
        return max(most, self._held + self._just_gone(at_s) - later)

    def _just_gone(self, at_s: float) -> int:
        """Return the cost of entries that are gone by now but were not at *at_s*."""
        return sum(entry.cost for entry in self._entries[self._oldest(at_s) : self._first])

    def _oldest(self, at_s: float) -> int:
        """Return the place of the oldest entry in the window that ends at *at_s*."""
        place = self._first
        while place and at_s - self._entries[place - 1].at_s < self.interval_s:
            place -= 1
        return place
