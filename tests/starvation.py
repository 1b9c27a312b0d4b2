"""Whether the machine kept a strict provider from reading in time.

A provider that is not scheduled for longer than the limiter's guard reads requests late, all
at once, and refuses some: nobody's fault. So a run that earned a refusal counts only if the
machine let the provider run; a budget that is not exact is refused on a machine that does.
"""

from __future__ import annotations

import functools
import threading
import time
from typing import Self

GUARD_S = 0.05
"""The guard of a budget of 5 s."""

MAX_RUNS = 3
TICK_S = 0.002

_worst_s: list[float] = []


class Watch:
    """Measures how late a sleeping thread wakes up, while the `with` lasts.

    Attributes:
        worst_s: The latest so far, in seconds.
    """

    def __enter__(self) -> Self:
        self.worst_s = 0.0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        starved_for(self.worst_s)

    def _look(self) -> None:
        before_s = time.monotonic()
        while not self._ends.wait(TICK_S):
            now_s = time.monotonic()
            self.worst_s = max(self.worst_s, now_s - before_s - TICK_S)
            before_s = now_s


def starved_for(seconds: float) -> None:
    """Note that the provider of the running test was once not run for *seconds*."""
    _worst_s.append(seconds)


def counts_unless_starved(test):
    """Run *test* again if it fails and its provider was starved; at most `MAX_RUNS` times."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        for left in reversed(range(MAX_RUNS)):
            _worst_s.clear()
            try:
                return test(*args, **kwargs)
            except AssertionError as error:
                if not left or max(_worst_s) <= GUARD_S:
                    raise
                print(f"void, the provider was starved for {max(_worst_s):.3f} s: {error}")
        return None

    return run
