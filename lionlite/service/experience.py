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
            if self._factors.changed_by(factor):
                self.input_factor = self._factors.high
            is_changed = self._outputs.changed_by(usage.output_tokens / answers)
            if is_changed and len(self._outputs.last) >= MIN_CALLS:
                self.output_tokens = max(1, math.ceil(self._outputs.high))


class _Seen:
    """The last values, and what `QUANTILE` of them do not exceed.

    Attributes:
        last: The values, the oldest first.
        high: That value, 0.0 at first.
    """

    __slots__ = ("high", "last")

    def __init__(self) -> None:
        self.last: deque[float] = deque(maxlen=REMEMBERED_CALLS)
        self.high = 0.0

    def changed_by(self, value: float) -> bool:
        """Add *value*; return whether `high` may have changed, which sorts them all."""
        last, high = self.last, self.high
        if len(last) == REMEMBERED_CALLS:
            leaves = last[0]
            if value == leaves or (value <= high and leaves < high):
                # As many are below `high` as before.
                last.append(value)
                return False
        last.append(value)
        ordered = sorted(last)
        self.high = ordered[math.ceil(QUANTILE * len(ordered)) - 1]
        return True
