"""What past calls say about the next one: tokens of input and output.

Holds: `Experience`, for the calls of one model with the same tools. Does not
hold: counting (tokens.py), the budget, or any clock. Safe to share between
threads.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from lionlite.locks import ProcessLock

if TYPE_CHECKING:
    from lionlite.records import Usage

REMEMBERED_CALLS = 50
"""How far back it looks; as many as the one peer that learns does."""

MIN_CALLS = 5
"""Answers seen before a guess of their length replaces the default."""

QUANTILE = 0.95
"""Reserving the mean would be too little for every second call; the maximum, for one bad call."""

MAX_FACTOR = 20.0
"""Recorded counts were off by 0.2 to 2.4; beyond this a server's usage is a mistake."""


class Experience:
    """The costs of past calls of one kind, and what they suggest.

    Attributes:
        input_factor: Reported input tokens per counted one, 1.0 at first.
        output_tokens: Tokens that nearly every answer stays within, None as
            long as too few were seen.

    Threads: safe to share; reading takes no lock.
    """

    def __init__(self) -> None:
        # Guards the two deques while they are read as a whole.
        self._lock = ProcessLock()
        self._factors: deque[float] = deque(maxlen=REMEMBERED_CALLS)
        self._outputs: deque[float] = deque(maxlen=REMEMBERED_CALLS)
        self.input_factor = 1.0
        self.output_tokens: int | None = None

    def observe(self, *, counted_input: int, usage: Usage, answers: int = 1) -> None:
        """Learn from one answered call.

        Args:
            counted_input: What we counted before it was sent, >= 1.
            usage: What the provider reported.
            answers: How many it gave, >= 1.
        """
        if usage.input_tokens == 0:
            return
        factor = min(usage.input_tokens / counted_input, MAX_FACTOR)
        with self._lock:
            self._factors.append(factor)
            self._outputs.append(usage.output_tokens / answers)
            self.input_factor = _high(self._factors)
            if len(self._outputs) >= MIN_CALLS:
                self.output_tokens = max(1, math.ceil(_high(self._outputs)))


def _high(seen: deque[float]) -> float:
    """Return the value that `QUANTILE` of *seen* do not exceed."""
    ordered = sorted(seen)
    return ordered[math.ceil(QUANTILE * len(ordered)) - 1]
