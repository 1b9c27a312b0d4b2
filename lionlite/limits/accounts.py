"""The accounting of a budget: what was charged, and what fits when.

Holds: `Accounts`: several dimensions with several rates each, taken together
or not at all, one entry per call whatever it costs. Does not hold: the queue
and the pause (budget.py), what pyrate-limiter calls things (ledger.py), or any
thread, lock or sleep; its clock is given. Not safe to share between threads.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

from lionlite.display import shown
from lionlite.exceptions import ConfigError
from lionlite.limits.entries import UNKNOWN, Entry, Node
from lionlite.limits.rates import Limits, Rate, distinct, is_requests, limit
from lionlite.limits.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

R = TypeVar("R")

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
        self._clock_ns = time.monotonic_ns if clock is time.monotonic else _in_ns(clock)
        self._now = 0
        # Entries that were sent or answered, and are not stamped yet. Appended to
        # in any thread: deque.append and deque.popleft are atomic.
        self._unnoted: deque[Entry] = deque()
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
        """Read the clock, note what was told, drop what no longer counts, return the instant.

        A clock that steps back stands still until it is past where it was:
        the log stays in order, and nothing is granted too early.
        """
        # First, and at the last instant: what is in the logs is what counted then.
        while self._unnoted:
            self._note(self._unnoted.popleft())
        now = self._clock_ns()
        if now > self._now:
            self._now = now
        else:
            now = self._now
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
        windows = self.windows
        if len(windows) == 1:
            return windows[0].due(costs)
        return max((window.due(costs) for window in windows), default=0)

    def soonest(self, costs: Mapping[str, int]) -> int:
        """Return when *costs* fit at best, were every open call given back."""
        full = [window for window in self.windows if not window.has_room(costs)]
        if not full:
            return 0
        open_nodes = [node for entry in self.live for node in _nodes(entry)]
        refunds = self.charge == "adjust"
        return max(window.soonest(costs, self._now, open_nodes, refunds=refunds) for window in full)

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
        # Before it is granted: who gives it back after Ctrl-C must find it.
        self.live.add(entry)
        entry.is_granted = True

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

    def tell_sent(self, entry: Entry) -> None:
        """Have the next `tick` take note that *entry* was sent now.

        Threads: the owner of *entry* may call it while others change the
        account. Until it is noted the charge counts and cannot expire.
        """
        now = self._clock_ns()
        entry.sent_at = now if now > self._now else self._now  # noqa: FURB136 - max() is slow
        self._unnoted.append(entry)

    def tell_replied(self, entry: Entry) -> None:
        """Have the next `tick` take note that *entry* is answered; as `tell_sent`."""
        now = self._clock_ns()
        entry.replied_at = now if now > self._now else self._now  # noqa: FURB136
        self._unnoted.append(entry)

    def sent(self, entry: Entry) -> None:
        """Stamp what the server charges on arrival: it arrives within the guard."""
        if entry.sent_at < 0:
            entry.sent_at = self._now
        self._note(entry)

    def replied(self, entry: Entry) -> bool:
        """Lower the stamp: a request that is answered has arrived.

        Returns:
            Whether the stamp moved.
        """
        if entry.replied_at < 0:
            entry.replied_at = self._now
        return self._note(entry)

    def _note(self, entry: Entry) -> bool:
        """Stamp *entry* by what is known of it; return whether a stamp was lowered."""
        node = entry.arrival
        if entry.is_ended or entry.sent_at < 0:
            return False
        if node.is_pending:
            entry.is_sent = True
            stamp = entry.sent_at + self.guard_ns
            # Not to a reply that began before all was sent: it may be older than
            # a window, and what is in a log is what counts.
            if entry.sent_at <= entry.replied_at < stamp:
                stamp = entry.replied_at
            self._stamp(node, stamp)
            return False
        if not entry.sent_at <= entry.replied_at < node.stamp:
            return False
        holding = [window for window in self.windows if window.holds(node, self._now)]
        for window in holding:
            window.remove(node)
        self._stamp(node, entry.replied_at, holding)
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
        if entry.arrival.is_pending:
            self.sent(entry)
        if actual and entry.arrival.stamp > self._now:
            entry.replied_at = self._now
            self._note(entry)
        if entry.completion is None:
            self._correct(entry.arrival, actual)
        else:
            self._correct(entry.completion, actual)
            if entry.completion.is_pending:
                stamp = self._now if actual else self._now + self.guard_ns
                self._stamp(entry.completion, stamp)
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

    def mend(self) -> None:
        """Count anew what is charged: Ctrl-C cut a change short."""
        for entry in list(self.live):
            if entry.is_ended:
                self._end(entry)
            elif not entry.is_granted:
                self.live.discard(entry)
        self._rebuild()

    # Limits that change -----------------------------------------------------

    def set_rates(self, dimension: str, rates: Sequence[Rate]) -> None:
        """Limit *dimension* to *rates* from now on; without rates it is unlimited.

        What was charged before counts, as far as a window remembers it.

        Raises:
            ConfigError: *rates* is no list of rates, or one is out of range
                or has another's interval.
        """
        name = f"limits[{dimension!r}]"
        own = distinct([_checked(rate, name) for rate in listed(rates, name)], name=name)
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

    def _stamp(self, node: Node, stamp: int, windows: Sequence[Window] | None = None) -> None:
        """Let *node* expire one interval after *stamp* in *windows*, None for all."""
        node.stamp = stamp
        node.is_pending = False
        for window in self.windows if windows is None else windows:
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


def listed(rates: Sequence[R], name: str) -> Sequence[R]:
    """Return *rates* if they are in a list or a tuple.

    Raises:
        ConfigError: They are not.
    """
    if isinstance(rates, (list, tuple)):
        return rates
    msg = f"{name} takes a list of rates, see parse_limits(); got {shown(rates)}."
    raise ConfigError(msg)


def _in_ns(clock: Callable[[], float]) -> Callable[[], int]:
    return lambda: int(clock() * 1e9 + 0.5)


def _nodes(entry: Entry) -> list[Node]:
    return [entry.arrival] if entry.completion is None else [entry.arrival, entry.completion]


def _checked(rate: Rate, name: str) -> Rate:
    if isinstance(rate, Rate):
        return limit(rate.limit, rate.interval_s, name=name)
    msg = f"{name} takes rates, see limit() and parse_limits(); got {rate!r}."
    raise ConfigError(msg)
