"""What the ledger remembers of one call.

Holds: `Node` (an amount at an instant) and `Entry` (one call with its nodes).
Does not hold: any rule; ledger.py and budget.py change these, under the lock
of whoever drives them. Not safe to share between threads by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lionlite.exceptions import LionError
    from lionlite.limits.alarm import Alarm

UNKNOWN: Final = 1 << 62
"""An instant that depends on calls in flight: later than any other (146 years)."""


class Node:
    """An amount in each dimension, charged at one instant.

    Attributes:
        stamp: The instant, in nanoseconds; meaningless while pending.
        costs: Units by dimension. Replaced, never changed in place.
        is_pending: Whether it has no instant yet, so that it cannot expire.
        is_final: Whether it can no longer be corrected, so that it may be merged.
    """

    __slots__ = ("costs", "is_final", "is_pending", "stamp")

    def __init__(self, costs: Mapping[str, int]) -> None:
        self.costs = costs
        self.stamp = 0
        self.is_pending = True
        self.is_final = False


class Entry:
    """One call: first a place in the queue, then a charge.

    Attributes:
        costs: What was asked for, by dimension.
        arrival: What the server charges when the request arrives.
        completion: What it charges when the reply is complete, None if nothing.
        joined_at: The instant it began to wait, in nanoseconds, -1 if it never did.
        granted_at: The instant its capacity was taken, -1 if it was not.
        sent_at: The instant its request left, -1 if it did not.
        replied_at: The instant its reply began, -1 if it did not.
        timer_at: Until when its thread sleeps for the sake of the whole queue.
        is_granted: Whether it has its capacity.
        is_sent: Whether the account knows that its request left.
        is_ended: Whether it was settled or given back.
        failure: Why it will never be granted, None if it may be.
        alarm: What wakes its thread, None when no thread sleeps for it.
    """

    # What most entries keep, said once for all: every call makes an entry.
    completion: Node | None = None
    joined_at = -1
    granted_at = -1
    sent_at = -1
    replied_at = -1
    timer_at = UNKNOWN
    is_granted = False
    is_sent = False
    is_ended = False
    failure: LionError | None = None
    alarm: Alarm | None = None

    def __init__(self, costs: Mapping[str, int]) -> None:
        self.costs = costs
        self.arrival = Node(costs)

    @property
    def is_decided(self) -> bool:
        """Whether its waiting is over, one way or the other."""
        return self.is_granted or self.failure is not None

    @property
    def waited_s(self) -> float:
        """Seconds from joining the queue to the grant, 0.0 if it never waited."""
        if self.joined_at < 0:
            return 0.0
        return max(0, self.granted_at - self.joined_at) / 1e9
