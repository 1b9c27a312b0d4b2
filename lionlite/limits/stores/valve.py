"""Whether anyone may pass after the provider said "too many requests".

Holds: `Valve`: `limits.gate.Gate` in whole numbers that a store can keep: the
pause, one probe, then a ramp in which the grants double with each step. Does
not hold: a clock, or the amounts (book.py). script.py says the same in Lua.
Instants are microseconds of the store's clock. Not safe to share by itself.
"""

from __future__ import annotations

from typing import Final

import attrs

from lionlite.limits.gate import (
    BACKOFF_MOST_S,
    BACKOFF_S,
    LEAST_WISH_S,
    MOST_DOUBLINGS,
    PROBE_GRANT_S,
    PROBE_S,
    RAMP_S,
    RAMP_STEP_S,
)

OPEN: Final = 0
PAUSED: Final = 1
PROBING: Final = 2
RAMP: Final = 3

PROBE_US: Final = round(PROBE_S * 1e6)
PROBE_GRANT_US: Final = round(PROBE_GRANT_S * 1e6)
RAMP_US: Final = round(RAMP_S * 1e6)
RAMP_STEP_US: Final = round(RAMP_STEP_S * 1e6)
BACKOFF_US: Final = round(BACKOFF_S * 1e6)
BACKOFF_MOST_US: Final = round(BACKOFF_MOST_S * 1e6)
LEAST_WISH_US: Final = round(LEAST_WISH_S * 1e6)


@attrs.define
class Valve:
    """Opens for all, for nobody, for one, and then for more and more.

    Attributes:
        state: OPEN, PAUSED, PROBING or RAMP.
        at: PAUSED, PROBING: when that ends. RAMP: when it began.
        grants: Grants since the ramp began.
        probe: The call that tries, "" if none does.
        refusals: Refusals in a row.
        refused_at: When the last of them came, -1 before the first.
    """

    state: int = OPEN
    at: int = 0
    grants: int = 0
    probe: str = ""
    refusals: int = 0
    refused_at: int = -1

    @property
    def paused_until(self) -> int:
        """The instant before which nobody passes, whatever happens; 0 if none."""
        return self.at if self.state == PAUSED else 0

    def next_at(self, now: int) -> int:
        """Return the instant from which one more may pass, 0 if at any time."""
        if self.state == RAMP:
            if now < self.at + RAMP_US:
                return self.at + RAMP_STEP_US * self.grants.bit_length()
            self.state = OPEN
        return 0 if self.state == OPEN else self.at

    def granted(self, ticket: str, now: int) -> None:
        """Note that *ticket* passed, which `next_at` allowed."""
        if self.state == PAUSED:
            self.state, self.probe, self.at = PROBING, ticket, now + PROBE_GRANT_US
        elif self.state == PROBING:
            self._begin_ramp(now)
            self.grants = 1
        elif self.state == RAMP:
            self.grants += 1

    def sent(self, ticket: str, now: int) -> None:
        """Note that *ticket* was sent."""
        if self.probe and ticket == self.probe:
            self.at = now + PROBE_US

    def ended(self, ticket: str, now: int, *, is_sent: bool) -> None:
        """Note that *ticket* ended unrefused."""
        if not self.probe or ticket != self.probe:
            return
        if is_sent:
            self._begin_ramp(now)
        else:
            self.state, self.probe, self.at = PAUSED, "", now

    def pause(self, now: int, pause_us: int) -> None:
        """Let nobody pass for *pause_us*, nor for what is left of another pause."""
        self.at = max(now + pause_us, self.paused_until)
        self.state, self.probe = PAUSED, ""

    def refuse(self, granted_at: int, now: int, retry_us: int) -> bool:
        """Pause after a refusal; return whether it is the first of its herd.

        Args:
            granted_at: When the refused call was granted, NEVER if unknown.
            now: The instant.
            retry_us: What the provider asked for, -1 if nothing.
        """
        is_news = granted_at > self.refused_at
        if is_news:
            self.refusals += 1
            self.refused_at = now
        wish_us = BACKOFF_US if retry_us < 0 else max(retry_us, LEAST_WISH_US)
        # Doubled: what it asked for before proved too short, and we must not storm.
        doubled_us = wish_us << min(max(self.refusals - 1, 0), MOST_DOUBLINGS)
        self.pause(now, max(wish_us, min(doubled_us, BACKOFF_MOST_US)))
        return is_news

    def _begin_ramp(self, now: int) -> None:
        self.state, self.probe, self.at = RAMP, "", now
        self.grants = self.refusals = 0
