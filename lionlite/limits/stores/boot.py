"""A clock that all processes of this machine share, and when it began.

Holds: `boot_us` and `boot_identity`. Does not hold: wall-clock time, which
steps. Pure but for reading the system; safe anywhere.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_us() -> int:
    """Return microseconds since this machine started, sleep included where known."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    if clock is None:  # pragma: no cover - not on Linux
        return time.monotonic_ns() // 1000
    return time.clock_gettime_ns(clock) // 1000


def boot_identity() -> str:
    """Return what tells one start of the machine from the next, "" if unknown."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):  # pragma: no cover - not on Linux
        return ""
