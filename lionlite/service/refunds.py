"""Whether a provider gives back what a call was charged too much.

Holds: `RefundWatch`: it compares what the server said of calls that ran alone,
one after the other. Does not hold: reading headers (limits/headers.py), or
what follows (lessons.py, which drives it under its lock). Not safe to share
between threads by itself.
"""

from __future__ import annotations

import attrs

MIN_GAP = 200
"""Tokens reserved and not used, below which the server's own counting hides a refund."""

VOTES = 3
"""Refunds in a row that are believed: an old charge that expires looks like one."""


@attrs.frozen
class Sighting:
    """What one reply showed.

    Attributes:
        began_s: When the call was sent, on any monotonic clock.
        ended_s: When its reply was read.
        used: Tokens used of the limit, as the server says, this call included.
        reserved: What we took the call to cost.
        actual: What the server reported in the end.
        refill_per_s: Tokens that may come back each second by themselves.
    """

    began_s: float
    ended_s: float
    used: int
    reserved: int
    actual: int
    refill_per_s: float


class RefundWatch:
    """Votes on pairs of calls that did not overlap with any other.

    Threads: one at a time.
    """

    def __init__(self) -> None:
        self._last: Sighting | None = None
        self._votes = 0

    @property
    def refunds(self) -> bool:
        """Whether the server gives back what was not used."""
        return self._votes >= VOTES

    def see(self, sighting: Sighting, *, is_alone: bool) -> None:
        """Take note of one reply.

        Args:
            sighting: What it showed.
            is_alone: Whether no other call was under way since the last one
                that was seen.
        """
        last, self._last = self._last, sighting
        if self.refunds or last is None or not is_alone or sighting.began_s < last.ended_s:
            return
        gap = last.reserved - last.actual
        refill = sighting.refill_per_s * (sighting.ended_s - last.began_s)
        if gap < MIN_GAP or refill > gap / 4:
            return
        given_back = last.used + sighting.reserved - sighting.used
        self._votes = self._votes + 1 if given_back > gap * 3 / 4 else 0
