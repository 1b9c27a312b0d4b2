"""What past calls say about the next one: tokens of input and output.

Holds: `Experience`, for the calls of one model with the same tools. Does not
hold: counting (tokens.py), the budget, or any clock. Safe to share between
threads.
"""

from __future__ import annotations

import bisect
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
        # Guards what was seen.
        self._lock = ProcessLock()
        self._factors = _Seen()
        self._outputs = _Seen()
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
        with self._lock.inner:
            self.input_factor = self._factors.add(factor)
            high = self._outputs.add(usage.output_tokens / answers)
            if len(self._outputs) >= MIN_CALLS:
                self.output_tokens = max(1, math.ceil(high))


class _Seen:
    """The last values, kept in order too: sorting them at each call would cost 10 us."""

    __slots__ = ("_last", "_ordered")

    def __init__(self) -> None:
        self._last: deque[float] = deque()
        self._ordered: list[float] = []

    def __len__(self) -> int:
        return len(self._last)

    def add(self, value: float) -> float:
        """Add *value*; return what `QUANTILE` of the last values do not exceed."""
        last, ordered = self._last, self._ordered
        if len(last) == REMEMBERED_CALLS:
            del ordered[bisect.bisect_left(ordered, last.popleft())]
        last.append(value)
        bisect.insort(ordered, value)
        return ordered[math.ceil(QUANTILE * len(ordered)) - 1]
