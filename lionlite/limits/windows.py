"""The sliding window of one interval, over all dimensions that have it.

Holds: `Window`: a log of nodes in order of their stamps, and a running sum for
each dimension. Does not hold: a clock, the queue, or what a charge means
(ledger.py). Instants are integer nanoseconds. Not safe to share by itself.

A node counts as long as `now <= stamp + interval`: both ends are inside, so
no window of stamps, however it is cut, holds more than the limit.
"""

from __future__ import annotations

from bisect import bisect_left, insort_right
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from lionlite.limits.entries import UNKNOWN, Node
from lionlite.limits.rates import is_requests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SLOTS: Final = 1000
"""Slots of a window into which final nodes are merged: 0.1 % of it, conservative."""

MERGE_FROM: Final = 2048
"""Nodes of a log above which it is merged; some 300 bytes each."""

_stamp: Final = attrgetter("stamp")


class Window:
    """What was charged in the last *interval_ns*, and what may be.

    Args:
        interval_ns: Length, in nanoseconds, >= 1.
        limits: For each dimension the units that one window may hold.

    Attributes:
        used: For each limited dimension the units that count now, pending
            ones included. Above its limit only by debt.
    """

    __slots__ = ("_at_most", "_log", "_merge_at", "interval_ns", "limits", "used")

    def __init__(self, interval_ns: int, limits: Mapping[str, int]) -> None:
        self.interval_ns = interval_ns
        self.limits = dict(limits)
        self.used = dict.fromkeys(limits, 0)
        self._log: list[Node] = []
        self._merge_at = MERGE_FROM
        # What the log holds at most, in dimensions where it was found not to hold
        # enough; forgotten when it may come to hold more.
        self._at_most: dict[str, int] = {}

    @property
    def nodes(self) -> list[Node]:
        """The stamped nodes that count, the oldest first."""
        return list(self._log)

    def __len__(self) -> int:
        return len(self._log)

    def charge(self, costs: Mapping[str, int]) -> None:
        """Count *costs* from now on."""
        used = self.used
        for dimension in used:
            used[dimension] += costs.get(dimension, 0)

    def release(self, costs: Mapping[str, int]) -> None:
        """Count *costs* no longer."""
        used = self.used
        for dimension in used:
            used[dimension] -= costs.get(dimension, 0)

    def correct(self, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """Count *after* in place of *before*."""
        used = self.used
        for dimension in used:
            used[dimension] += after.get(dimension, 0) - before.get(dimension, 0)
        if self._at_most:
            self._at_most.clear()

    def insert(self, node: Node) -> None:
        """Let the charged *node* expire one interval after its stamp."""
        log = self._log
        if not log or log[-1].stamp <= node.stamp:
            log.append(node)
        else:
            insort_right(log, node, key=_stamp)
        if self._at_most:
            self._at_most.clear()
        if len(log) > self._merge_at:
            self._merge()

    def remove(self, node: Node) -> None:
        """Take *node*, which is in the log, out of it; it goes on counting."""
        if self._log[-1] is node:
            self._log.pop()
            return
        first = bisect_left(self._log, node.stamp, key=_stamp)
        del self._log[self._log.index(node, first)]

    def holds(self, node: Node, now: int) -> bool:
        """Whether *node* still counts."""
        return node.is_pending or node.stamp >= now - self.interval_ns

    def expire(self, now: int) -> int:
        """Drop what no longer counts; return the last instant of what is left."""
        log = self._log
        edge = now - self.interval_ns
        if log and log[0].stamp < edge:
            count = bisect_left(log, edge, key=_stamp)
            for node in log[:count]:
                self.release(node.costs)
            del log[:count]
        return log[0].stamp + self.interval_ns if log else UNKNOWN

    def due(self, costs: Mapping[str, int]) -> int:
        """Return when *costs* fit: 0 now, UNKNOWN when pending nodes decide.

        A dimension that costs nothing is not asked, so its debt stops nobody
        else.
        """
        due = 0
        used = self.used
        for dimension, limit in self.limits.items():
            cost = costs.get(dimension)
            if cost and used[dimension] + cost > limit:
                due = max(due, self._frees(dimension, used[dimension] + cost - limit))
        return due

    def has_room(self, costs: Mapping[str, int]) -> bool:
        """Whether *costs* fit now."""
        for dimension, limit in self.limits.items():
            cost = costs.get(dimension)
            if cost and self.used[dimension] + cost > limit:
                return False
        return True

    def soonest(
        self, costs: Mapping[str, int], now: int, open_nodes: Sequence[Node], *, refunds: bool
    ) -> int:
        """Return when *costs* could fit at best: 0 now, UNKNOWN if they never do.

        At best means that every pending node is given back, that every reply
        comes now, and, with *refunds*, that nothing but requests is charged
        for the calls that are still open.

        Args:
            costs: Units by dimension.
            now: The instant.
            open_nodes: Those of all calls that are still open.
            refunds: Whether the server gives back what was not used.
        """
        soonest = 0
        for dimension, limit in self.limits.items():
            cost = costs.get(dimension)
            over = self.used[dimension] + cost - limit if cost else 0
            if over > 0:
                is_refunded = refunds and not is_requests(dimension)
                over -= self._given_back(dimension, open_nodes, now, is_refunded=is_refunded)
                at = self._frees_at_best(dimension, over, now, is_refunded=is_refunded)
                soonest = max(soonest, at)
        return soonest

    def expected(self, costs: Mapping[str, int], now: int) -> int:
        """Return about when *costs*, which may exceed the limit, were all granted.

        What cannot fit at once is taken to need whole intervals; pending nodes
        to need one.
        """
        expected = 0
        for dimension, limit in self.limits.items():
            over = self.used[dimension] + costs.get(dimension, 0) - limit
            if costs.get(dimension) and over > 0:
                intervals = (over - 1) // limit
                freed = self._frees(dimension, over - intervals * limit)
                first = freed if freed < UNKNOWN else now + self.interval_ns
                expected = max(expected, first + intervals * self.interval_ns)
        return expected

    def clear(self) -> None:
        """Forget everything."""
        self.used = dict.fromkeys(self.limits, 0)
        self._log = []

    def room_beside(self, costs: Mapping[str, int], at: int) -> dict[str, int]:
        """Return what others may take now without moving *costs* past *at*.

        With *at* UNKNOWN nothing is sure to expire, so only what is left when
        *costs* are counted now.
        """
        room = {
            dimension: limit - self.used[dimension] - costs.get(dimension, 0)
            for dimension, limit in self.limits.items()
        }
        for node in self._log if at < UNKNOWN else ():
            if node.stamp + self.interval_ns >= at:
                break
            for dimension in room:
                room[dimension] += node.costs.get(dimension, 0)
        return room

    def _frees(self, dimension: str, amount: int) -> int:
        if amount > self._at_most.get(dimension, amount):
            return UNKNOWN
        left = amount
        for node in self._log:
            left -= node.costs.get(dimension, 0)
            if left <= 0:
                return node.stamp + self.interval_ns + 1
        # Those who give up at a common deadline all ask this, one after the other.
        self._at_most[dimension] = amount - left
        return UNKNOWN

    def _given_back(
        self, dimension: str, open_nodes: Sequence[Node], now: int, *, is_refunded: bool
    ) -> int:
        """Return the units of *open_nodes* that count now, and at best do not."""
        given_back = 0
        for node in open_nodes:
            if node.is_pending or (is_refunded and self.holds(node, now)):
                given_back += node.costs.get(dimension, 0)
        return given_back

    def _frees_at_best(self, dimension: str, amount: int, now: int, *, is_refunded: bool) -> int:
        if amount <= 0:
            return 0
        for node in self._log:
            if node.is_final or not is_refunded:
                amount -= node.costs.get(dimension, 0)
            if amount <= 0:
                return min(node.stamp, now) + self.interval_ns + 1
        return UNKNOWN

    def _merge(self) -> None:
        """Merge neighbouring final nodes of one slot, at the later stamp.

        Without it a limit per day would keep a node for every call of the day.
        """
        width = max(1, self.interval_ns // SLOTS)
        merged: list[Node] = []
        slot, is_own = -1, False
        for node in self._log:
            slot, before = (node.stamp // width if node.is_final else -1), slot
            if slot < 0 or slot != before:
                merged.append(node)
                is_own = False
                continue
            if not is_own:
                # The one that stands there may be in the logs of other windows too.
                merged[-1], is_own = _copy(merged[-1]), True
            _add(merged[-1], node)
        self._log = merged
        # Twice what is left, so that the merging costs O(1) for each call.
        self._merge_at = max(MERGE_FROM, 2 * len(merged))


def _copy(node: Node) -> Node:
    """Return a final node like *node*, whose costs are its own."""
    copy = Node(dict(node.costs))
    copy.stamp = node.stamp
    copy.is_pending = False
    copy.is_final = True
    return copy


def _add(total: Node, node: Node) -> None:
    """Count *node*, which is not earlier, in *total* too."""
    costs: dict[str, int] = total.costs  # type: ignore[assignment]
    for dimension, cost in node.costs.items():
        costs[dimension] = costs.get(dimension, 0) + cost
    total.stamp = node.stamp
