"""What one waiting thread sleeps on.

Holds: `Alarm`. Does not hold: why anyone waits. A bare lock instead of an
Event or a Condition, which take 1.1 KiB each: there may be thousands. Any
thread may ring; one thread waits.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Final

_LONGEST_S: Final = min(threading.TIMEOUT_MAX, 86_400.0)
"""Longest single sleep; a longer wait sleeps again."""


class Alarm:
    """Wakes one thread. Rung before the wait, it ends the wait at once."""

    __slots__ = ("_silence",)

    def __init__(self) -> None:
        # Guards nothing: held means "not rung". Ringing releases it.
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """End the wait of this alarm's thread; a second ring does nothing.

        Threads: safe anywhere, under any lock; never blocks.
        """
        with suppress(RuntimeError):  # rung already: the lock is free
            self._silence.release()

    def wait(self, seconds: float) -> None:
        """Sleep until rung, but not longer than *seconds*."""
        if seconds > 0:
            self._silence.acquire(timeout=min(seconds, _LONGEST_S))
