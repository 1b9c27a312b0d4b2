"""A clock that moves only when it is told to.

Holds: `ManualClock`. Does not hold: a way to wait on real time. Safe to share
between threads.
"""

from __future__ import annotations

import math
import threading

from lionlite.display import once_made
from lionlite.exceptions import ConfigError
from lionlite.testing.settings import check_seconds


class ManualClock:
    """Seconds under a test's control, to give wherever a clock is asked for.

    Call it, or `now_s()`, for the time; give `sleep` where a sleep is asked
    for. Sleeping returns at once, moves the clock and is remembered.

    Args:
        start_s: The first instant, in seconds.

    Raises:
        ConfigError: *start_s* is not finite.

    Threads: safe; two threads that sleep move the clock one after the other.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._lock = threading.Lock()  # guards _now_s and _slept_s
        self._now_s = _instant("start_s", start_s)
        self._slept_s: list[float] = []

    def __call__(self) -> float:
        """Return `now_s()`."""
        return self.now_s()

    @once_made
    def __repr__(self) -> str:
        return f"ManualClock(now_s={self.now_s()!r})"

    @property
    def slept_s(self) -> list[float]:
        """Every sleep so far, in seconds; a copy."""
        with self._lock:
            return list(self._slept_s)

    def now_s(self) -> float:
        """Return the time in seconds."""
        with self._lock:
            return self._now_s

    def advance(self, seconds: float) -> None:
        """Move the clock on.

        Raises:
            ConfigError: *seconds* is negative or not finite.
        """
        seconds = check_seconds("seconds", seconds)
        with self._lock:
            self._now_s += seconds

    def sleep(self, seconds: float) -> None:
        """Move the clock on, and remember it in `slept_s`.

        Raises:
            ConfigError: *seconds* is negative or not finite.
        """
        seconds = check_seconds("seconds", seconds)
        with self._lock:
            self._now_s += seconds
            self._slept_s.append(seconds)

    def set(self, now_s: float) -> None:
        """Set the time, back too: a clock that jumps is worth a test.

        Raises:
            ConfigError: *now_s* is not finite.
        """
        now_s = _instant("now_s", now_s)
        with self._lock:
            self._now_s = now_s


def _instant(name: str, value: float) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        msg = f"{name}={value!r} is no instant: give finite seconds."
        raise ConfigError(msg)
    return float(value)
