"""Whether anyone may pass after the provider said "too many requests".

Holds: `Gate`: the pause, then one probe, then a ramp. Does not hold: a clock,
a thread, or the amounts (ledger.py). Instants are integer nanoseconds. Not
safe to share between threads by itself.

The ramp: after the probe has passed, the n-th grant may come
`RAMP_STEP_S * log2(n)` later, so that the number of grants doubles with each
step (1, 2, 4, ... 1,024); after `RAMP_S` the gate stands open.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lionlite.limits.entries import Entry

PROBE_S: Final = 2.0
"""A probe that was sent this long ago and was not refused has passed."""

PROBE_GRANT_S: Final = 30.0
"""A probe that is not sent for this long no longer holds up the others."""

RAMP_STEP_S: Final = 0.2
RAMP_S: Final = 2.0

BACKOFF_S: Final = 0.5
BACKOFF_MOST_S: Final = 8.0
"""Pause after a refusal without Retry-After: openai-python's, 0.5 s doubling to 8 s.
A Retry-After doubles with each refusal in a row, too: some ask for 6 ms, always."""

LEAST_WISH_S: Final = 0.001
MOST_DOUBLINGS: Final = 13
"""From the least wish to 8 s."""


class _State(Enum):
    OPEN = auto()
    PAUSED = auto()
    PROBING = auto()
    RAMP = auto()


class Gate:
    """Opens for all, for nobody, for one, and then for more and more.

    Attributes:
        is_open: Whether anyone may pass at any time.
    """

    __slots__ = ("_at", "_grants", "_probe", "_refusals", "_refused_at", "_state", "is_open")

    def __init__(self) -> None:
        self.is_open = True
        self._state = _State.OPEN
        # PAUSED, PROBING: when that ends. RAMP: when it began.
        self._at = 0
        self._grants = 0
        self._probe: Entry | None = None
        self._refusals = 0
        self._refused_at = -1

    @property
    def paused_until(self) -> int:
        """The instant before which nobody passes, whatever happens; 0 if none."""
        return self._at if self._state is _State.PAUSED else 0

    def next_at(self, now: int) -> int:
        """Return the instant from which one more may pass, 0 if at any time."""
        if self._state is _State.RAMP:
            if now >= self._at + _ns(RAMP_S):
                self._state = _State.OPEN
                self.is_open = True
            else:
                return self._at + _ns(RAMP_STEP_S * math.log2(self._grants + 1))
        return 0 if self._state is _State.OPEN else self._at

    def granted(self, entry: Entry, now: int) -> None:
        """Note that *entry* passed, which `next_at` allowed."""
        if self._state is _State.PAUSED:
            self._state = _State.PROBING
            self._probe = entry
            self._at = now + _ns(PROBE_GRANT_S)
        elif self._state is _State.PROBING:
            self._begin_ramp(now)
            self._grants = 1
        elif self._state is _State.RAMP:
            self._grants += 1

    def sent(self, entry: Entry, now: int) -> bool:
        """Note that *entry* was sent; return whether that changes `next_at`."""
        if entry is not self._probe:
            return False
        self._at = now + _ns(PROBE_S)
        return True

    def ended(self, entry: Entry, now: int) -> bool:
        """Note that *entry* ended unrefused; return whether that changes `next_at`."""
        if entry is not self._probe:
            return False
        if entry.is_sent:
            self._begin_ramp(now)
        else:
            self._probe = None
            self._state = _State.PAUSED
            self._at = now
        return True

    def pause(self, now: int, seconds: float) -> None:
        """Let nobody pass for *seconds*, nor for what is left of another pause."""
        until = now + _ns(seconds)
        self._at = max(until, self.paused_until)
        self._state = _State.PAUSED
        self.is_open = False
        self._probe = None

    def refuse(self, entry: Entry | None, now: int, retry_after_s: float | None) -> bool:
        """Pause after the provider refused *entry*.

        Returns:
            Whether this is news: the first refusal of a call that was granted
            after the last one. The others of a herd say nothing more.
        """
        is_news = entry is None or entry.granted_at > self._refused_at
        if is_news:
            self._refusals += 1
            self._refused_at = now
        wish_s = BACKOFF_S if retry_after_s is None else max(retry_after_s, LEAST_WISH_S)
        # Doubled: what it asked for before proved too short, and we must not storm.
        doubled_s = wish_s * 2 ** min(max(self._refusals - 1, 0), MOST_DOUBLINGS)
        self.pause(now, max(wish_s, min(doubled_s, BACKOFF_MOST_S)))
        return is_news

    def _begin_ramp(self, now: int) -> None:
        self._state = _State.RAMP
        self._probe = None
        self._at = now
        self._grants = 0
        self._refusals = 0


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
