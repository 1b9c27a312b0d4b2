"""Where on the axis of time a charge lies, so that a window has few rows.

Holds: the arithmetic of slots, pure. Does not hold: any charge (book.py).
Instants are integer microseconds. A charge counts from the later edge of its
slot: up to 0.11 % of the interval too long, and never too short.
"""

from __future__ import annotations

from typing import Final

SLOTS: Final = 900
"""Slots of an interval. With stamps in the future (the widest guard is 10 % of
the interval) a rate never has more than 1,000."""

NEVER: Final = 1 << 52
"""An instant that depends on calls in flight. Lua counts in doubles: up to 2^53."""


def width_of(interval_us: int) -> int:
    """Return the width of a slot in an interval of *interval_us*."""
    return max(1, -(-interval_us // SLOTS))


def slot_of(stamp_us: int, width_us: int) -> int:
    """Return the slot of *stamp_us*: the first whose edge is not before it."""
    return -(-stamp_us // width_us)


def last_instant(slot: int, interval_us: int, width_us: int) -> int:
    """Return the last instant at which *slot* counts."""
    return slot * width_us + interval_us


def first_live(now_us: int, interval_us: int, width_us: int) -> int:
    """Return the first slot that counts at *now_us*."""
    return -((interval_us - now_us) // width_us)
