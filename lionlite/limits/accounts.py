"""The accounting of a budget: what was charged, and what fits when.

Holds: `Accounts`: several dimensions with several rates each, taken together
or not at all, one entry per call whatever it costs. Does not hold: the queue
and the pause (budget.py), what pyrate-limiter calls things (ledger.py), or any
thread, lock or sleep; its clock is given. Not safe to share between threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lionlite.exceptions import ConfigError
from lionlite.limits.entries import UNKNOWN, Entry, Node
from lionlite.limits.rates import Limits, Rate, distinct, is_requests, limit
from lionlite.limits.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CHARGES: Final = ("estimate", "adjust", "usage")
"""What a server charges: see `Accounts`."""

_SHORTEST_GUARD_NS: Final = 20_000_000
_LONGEST_GUARD_NS: Final = 100_000_000
# A cold burst at 64 threads arrived up to 51 ms after its grant; a share of a
# long interval would cost more than it saves.
_WIDEST_GUARD_NS: Final = 1_000_000_000


class Accounts:
    """What was charged in the windows of every rate.

    Args:
        limits: The rates of each dimension.
        charge: What the server charges besides requests, which it always
            charges on arrival. "estimate": the estimate, on arrival, never
            given back; what was used above it is debt. "adjust": the estimate
            on arrival, corrected when the call ends. "usage": what was used,
            when the call ends.
        clock: Seconds, never read by anyone else. Steps back count as stalls.

    Attributes:
        guard_ns: How long after the end of the sending a request may still be
            on its way to the server.
        shortest_ns: The shortest interval, 0 when nothing is limited.
        live: The granted calls that have not ended.
        checks: How often `due` was asked, for the benchmark.

    Raises:
        ConfigError: *limits* or *charge* is not such a value.

    Threads: not safe by itself; `RateLimiter` drives it under its lock.
    """

    def __init__(
        self, limits: Mapping[str, Sequence[Rate]], *, charge: str, clock: Callable[[], float]
    ) -> None:
        self.charge = checked_charge(charge)
        self.limits: Limits = {}
        self.windows: list[Window] = []
        self.live: set[Entry] = set()
        self.checks = 0
        self.shortest_ns = 0
        self.guard_ns = _SHORTEST_GUARD_NS
        self._seconds = clock
        self._now = 0
        # Nothing expires up to this instant: it spares a look at each window.
        self._stale_at = UNKNOWN
        self._widened = 1
        for dimension, rates in limits.items():
            self.set_rates(dimension, rates)

    # What the budget asks ---------------------------------------------------

    @property
    def is_in_debt(self) -> bool:
        """Whether more was used somewhere than its rate allows."""
        return any(
            window.used[dimension] > most
            for window in self.windows
            for dimension, most in window.limits.items()
        )

    def tick(self) -> int:
        """Read the clock, drop what no longer counts, return the instant.

        A clock that steps back stands still until it is past where it was:
        the log stays in order, and nothing is granted too early.
        """
        now = int(self._seconds() * 1e9 + 0.5)
        if now <= self._now:
            return self._now
        self._now = now
        if now > self._stale_at:
            self._stale_at = min((window.expire(now) for window in self.windows), default=UNKNOWN)
        return now

    def due(self, costs: Mapping[str, int]) -> int:
        """Return when *costs* fit if nobody else asks.

        Returns:
            Nanoseconds; 0 when they fit now, UNKNOWN when only a pending call
            can make the room.
        """
        self.checks += 1
        due = 0
        for window in self.windows:
            due = max(due, window.due(costs))
        return due

    def soonest(self, costs: Mapping[str, int]) -> int:
        """Return when *costs* fit at best, were every open call given back."""
        refunds = self.charge == "adjust"
        return max(
            (window.soonest(costs, self._now, refunds=refunds) for window in self.windows),
            default=0,
        )

    def expected(self, costs: Mapping[str, int]) -> int:
        """Return about when *costs*, the sum of many calls, were all granted."""
        return max((window.expected(costs, self._now) for window in self.windows), default=0)

    def room_beside(self, costs: Mapping[str, int], at: int) -> list[dict[str, int]]:
        """Return, window by window, what others may take beside *costs* at *at*."""
        return [window.room_beside(costs, at) for window in self.windows]

    def too_large(self, costs: Mapping[str, int]) -> tuple[str, Rate] | None:
        """Return the dimension and the rate that *costs* can never fit, or None."""
        for dimension, rates in self.limits.items():
            for rate in rates:
                if costs.get(dimension, 0) > rate.limit:
                    return dimension, rate
        return None

    # The life of an entry ---------------------------------------------------

    def take(self, entry: Entry) -> None:
        """Charge *entry*; it is pending, so it counts until it is sent."""
        if self.charge == "usage":
            now: dict[str, int] = {}
            later: dict[str, int] = {}
            for dimension, cost in entry.costs.items():
                (now if is_requests(dimension) else later)[dimension] = cost
            entry.arrival.costs = now
            entry.completion = Node(later)
        for window in self.windows:
            window.charge(entry.costs)
        entry.granted_at = self._now
        entry.is_granted = True
        self.live.add(entry)

    def take_arrived(self, entry: Entry) -> None:
        """Charge and end *entry* at once: it arrives now and costs what it said."""
        self.take(entry)
        for node in _nodes(entry):
            self._stamp(node, self._now)
        self._end(entry)

    def clear(self) -> None:
        """End every call and forget every charge."""
        for entry in list(self.live):
            self._end(entry)
        for window in self.windows:
            window.clear()

    def sent(self, entry: Entry) -> None:
        """Stamp what the server charges on arrival: it arrives within the guard."""
        if entry.is_sent or entry.is_ended:
            return
        entry.is_sent = True
        self._stamp(entry.arrival, self._now + self.guard_ns)

    def replied(self, entry: Entry) -> bool:
        """Lower the stamp: a request that is answered has arrived.

        Returns:
            Whether the stamp moved.
        """
        node = entry.arrival
        if entry.is_ended or node.is_pending or node.stamp <= self._now:
            return False
        for window in self.windows:
            window.remove(node)
        self._stamp(node, self._now)
        return True

    def settle(self, entry: Entry, actual: Mapping[str, int]) -> None:
        """End the call, charging what it used as far as the mode says.

        Args:
            entry: Granted; a second call does nothing.
            actual: Units used, by dimension; what is missing stays as it was
                estimated. Empty when nothing is known, which may also mean
                that the request is still on its way.
        """
        if entry.is_ended:
            return
        if not entry.is_sent:
            self.sent(entry)
        if actual and entry.arrival.stamp > self._now:
            self.replied(entry)
        if entry.completion is None:
            self._correct(entry.arrival, actual)
        else:
            self._correct(entry.completion, actual)
            self._stamp(entry.completion, self._now if actual else self._now + self.guard_ns)
        self._end(entry)

    def give_back(self, entry: Entry) -> None:
        """End a call of which nothing was sent, as if it had never been."""
        if entry.is_ended:
            return
        for window in self.windows:
            for node in _nodes(entry):
                window.release(node.costs)
        self._end(entry)

    def orphan(self) -> None:
        """End all open calls as sent: after a fork they belong to the parent."""
        for entry in list(self.live):
            self.settle(entry, {})
        self._rebuild()

    # Limits that change -----------------------------------------------------

    def set_rates(self, dimension: str, rates: Sequence[Rate]) -> None:
        """Limit *dimension* to *rates* from now on; without rates it is unlimited.

        What was charged before counts, as far as a window remembers it.

        Raises:
            ConfigError: A rate is out of range or has another's interval.
        """
        name = f"limits[{dimension!r}]"
        own = distinct([_checked(rate, name) for rate in rates], name=name)
        others = {key: kept for key, kept in self.limits.items() if key != dimension}
        self.limits = {**others, dimension: own} if own else others
        self._rebuild()

    def tighten(self, dimension: str, used: int) -> None:
        """Charge what the server says is used of *dimension* beyond our own account."""
        if dimension not in self.limits:
            return
        ours = max(window.used.get(dimension, 0) for window in self.windows)
        if used > ours:
            self.take_arrived(Entry({dimension: used - ours}))

    def widen_guard(self) -> None:
        """Double the guard, up to 1 s and to 10 % of the shortest interval."""
        before = self.guard_ns
        self._widened *= 2
        self.guard_ns = self._guard()
        if self.guard_ns == before:
            self._widened //= 2

    def _guard(self) -> int:
        shortest = self.shortest_ns
        base = min(max(shortest // 100, _SHORTEST_GUARD_NS), _LONGEST_GUARD_NS)
        return max(base, min(base * self._widened, shortest // 10, _WIDEST_GUARD_NS))

    def _rebuild(self) -> None:
        known = {window.interval_ns: window.nodes for window in self.windows}
        longest = known[max(known)] if known else []
        open_nodes = {node for entry in self.live for node in _nodes(entry)}
        by_interval: dict[int, dict[str, int]] = {}
        for dimension, rates in self.limits.items():
            for rate in rates:
                by_interval.setdefault(rate.interval_ns, {})[dimension] = rate.limit
        self.windows = [Window(*one) for one in sorted(by_interval.items())]
        self.shortest_ns = min(by_interval, default=0)
        self._stale_at = 0
        self.guard_ns = self._guard()
        for window in self.windows:
            nodes = open_nodes.union(known.get(window.interval_ns, longest))
            for node in sorted(nodes, key=lambda node: node.stamp):
                if window.holds(node, self._now):
                    window.charge(node.costs)
                    if not node.is_pending:
                        window.insert(node)

    def _stamp(self, node: Node, stamp: int) -> None:
        node.stamp = stamp
        node.is_pending = False
        for window in self.windows:
            window.insert(node)
        self._stale_at = min(self._stale_at, stamp + self.shortest_ns)

    def _correct(self, node: Node, actual: Mapping[str, int]) -> None:
        before = after = node.costs
        for dimension, used in actual.items():
            estimate = before.get(dimension, 0)
            is_kept = used == estimate or (used < estimate and self.charge == "estimate")
            if not is_kept and not is_requests(dimension):
                after = {**after, dimension: used}
        if after is before:
            return
        for window in self.windows:
            if window.holds(node, self._now):
                window.correct(before, after)
        node.costs = after

    def _end(self, entry: Entry) -> None:
        entry.is_ended = True
        entry.arrival.is_final = True
        if entry.completion is not None:
            entry.completion.is_final = True
        self.live.discard(entry)


def checked_charge(charge: str) -> str:
    """Return *charge* if it is one of `CHARGES`.

    Raises:
        ConfigError: It is not.
    """
    if charge in CHARGES:
        return charge
    msg = f"charge= takes {', '.join(CHARGES)}; got {charge!r}."
    raise ConfigError(msg)


def _nodes(entry: Entry) -> list[Node]:
    return [entry.arrival] if entry.completion is None else [entry.arrival, entry.completion]


def _checked(rate: Rate, name: str) -> Rate:
    if isinstance(rate, Rate):
        return limit(rate.limit, rate.interval_s, name=name)
    msg = f"{name} takes rates, see limit() and parse_limits(); got {rate!r}."
    raise ConfigError(msg)
