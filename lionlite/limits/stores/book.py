"""The accounting of a shared budget: what each verb of a store does.

Holds: `Book`: one budget during one transaction, every verb in one step over
all rates. Does not hold: how rows are kept (sqlite.py, redis.py), or any
thread or clock. script.py says the same in Lua and is held to it by a test.
Instants are integer microseconds of the store's clock. Not safe to share.

What is granted counts at once and cannot expire until the request was sent;
then it lies in the slot of its arrival at the latest, and is moved down or
corrected when the call ends. A call whose lease has ended counts as sent then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lionlite.limits.rates import is_requests
from lionlite.limits.stores.head import Entry, Head, Shelf, Ticket
from lionlite.limits.stores.slots import NEVER, first_live, last_instant, slot_of
from lionlite.limits.stores.valve import OPEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lionlite.limits.stores.protocol import Answer
    from lionlite.limits.stores.terms import SharedRate, Terms

QUEUE: Final = 0
"""Take room, or wait for it in the queue."""

TRY: Final = 1
"""Take room if there is any now."""

LOOK: Final = 2
"""Take nothing: only say whether it is hopeless."""

RELOOK_US: Final = 50_000
"""How long the head of a process sleeps at most: others may give back. The
further back in the queue, the less there is to look for."""

LONGEST_RELOOK_US: Final = 1_000_000

SOON_US: Final = 4_000
"""How long to wait for each whose turn it is and who has yet to come."""

GRACE_US: Final = 50_000
"""How late one in the queue may come before others pass; his place he keeps."""

GONE_US: Final = 10_000_000
"""After which a place in the queue is lost."""

HOLDER_US: Final = 600_000_000
"""How long a silent process counts as one."""

KEEP_US: Final = 60_000_000
"""How much longer than anything in it a budget is kept."""

WIDEST_GUARD_US: Final = 1_000_000


class Book:
    """One budget, read and not yet written back.

    Args:
        terms: What its members agreed on.
        head: Its row; changed in place.
        shelf: Its slots and entries.
        now: The instant; one before the last seen counts as that.
    """

    def __init__(self, terms: Terms, head: Head, shelf: Shelf, now: int) -> None:
        self._terms = terms
        self._head = head
        self._shelf = shelf
        self._now = head.now = max(head.now, now)
        self._tidy()

    # The verbs -----------------------------------------------------------------

    def enter(
        self, fresh: str, known: str, version: int, lost: Sequence[int], owed: Sequence[int]
    ) -> Answer:
        """Join; make good what the store has forgotten since.

        Args:
            fresh: The epoch to begin if something was lost.
            known: The epoch that the member was in, "" if in none.
            version: The last one that it saw.
            lost: For each rate what must be taken as used if the store forgot.
            owed: For each rate what the member used without asking.
        """
        head = self._head
        is_lost = known != head.epoch or version >= head.version
        if known and is_lost and known != head.replaces:
            for i, units in enumerate(lost):
                self._charge(i, units - head.used[i])
            head.epoch, head.replaces = fresh, known
        for i, units in enumerate(owed):
            self._charge(i, units)
        return self._answer("entered")

    def take(
        self, mode: int, ticket: str, lease_us: int, left_us: int, costs: Sequence[int]
    ) -> Answer:
        """Grant *ticket*, or say how long to wait.

        Args:
            mode: QUEUE, TRY or LOOK.
            ticket: The call's own name, beginning with its process's and a
                full stop; granted already, it stays so.
            lease_us: How long the grant holds if nobody is heard of any more.
            left_us: How long the call may wait, -1 if nothing bounds it.
            costs: What it needs, for each rate.

        Returns:
            "granted", "wait", or "late": not in time even at best.
        """
        if self._shelf.entry(ticket) is not None:
            return self._answer("granted")
        head, now = self._head, self._now
        place = self._place_of(ticket)
        ahead = [one for one in head.tickets[:place] if one.come_by + GRACE_US >= now]
        opens_at = head.valve.next_at(now)
        if mode != LOOK:
            head.holders[ticket.partition(".")[0]] = now
            if opens_at <= now and self._may_go(costs, ahead):
                self._grant(ticket, lease_us, costs)
                return self._answer("granted")
        if left_us >= 0 and (soonest := self._soonest(costs)) - now > left_us:
            self._leave_queue(ticket)
            return self._answer("late", free_us=soonest - now)
        at = max(opens_at, self._due(self._with_all(ahead, costs)))
        wait_us = self._nap(at, len(ahead))
        if mode == QUEUE:
            self._wait(place, Ticket(ticket, now + wait_us, list(costs)))
        return self._answer("wait", wait_us, at - now if now < at < NEVER else 0)

    def leave(self, ticket: str) -> Answer:
        """Forget *ticket*: its place in the queue, or what it holds unsent."""
        self._leave_queue(ticket)
        entry = self._shelf.entry(ticket)
        if entry is not None and entry.stamp < 0:
            for i, units in enumerate(entry.costs):
                self._head.used[i] -= units
            self._end(ticket, is_sent=False)
        return self._answer("done")

    def sent(self, ticket: str, ago_us: int) -> Answer:
        """Stamp what the server charges on arrival: it arrives within the guard."""
        entry = self._shelf.entry(ticket)
        if entry is not None and entry.stamp < 0:
            self._send(entry, ago_us)
            self._shelf.put(ticket, entry)
            self._head.valve.sent(ticket, self._now)
        return self._answer("done")

    def settle(self, ticket: str, sent_us: int, replied_us: int, actual: Sequence[int]) -> Answer:
        """End the call, charging what it used as far as the mode says.

        Args:
            ticket: Granted; a second call does nothing.
            sent_us: How long ago it was sent at most, -1 if unknown.
            replied_us: How long ago the reply began at most, -1 if unknown.
            actual: Units used, for each rate; -1 where unknown.
        """
        entry = self._shelf.entry(ticket)
        if entry is None:
            return self._answer("done")
        if entry.stamp < 0:
            self._send(entry, max(sent_us, 0))
        is_known = any(units >= 0 for units in actual)
        if is_known:
            replied_us = max(replied_us, 0)
        arrived = entry.stamp if replied_us < 0 else min(entry.stamp, self._now - replied_us)
        done = self._now if is_known else self._now + self._guard_us()
        for i, rate in enumerate(self._terms.rates):
            after = self._charged(rate, entry.costs[i], actual[i])
            if rate.is_on_arrival:
                self._move(i, entry, after, arrived)
            else:
                self._head.used[i] += after - entry.costs[i]
                self._stamp(i, after, done)
        self._end(ticket, is_sent=True)
        return self._answer("done")

    def pause(self, pause_us: int) -> Answer:
        """Grant nothing for *pause_us*."""
        self._head.valve.pause(self._now, pause_us)
        return self._answer("done")

    def refuse(self, ticket: str, retry_us: int) -> Answer:
        """Pause, and widen the guard if there was room for the refused call."""
        entry = self._shelf.entry(ticket)
        granted_at = NEVER if entry is None else entry.granted_at
        is_news = self._head.valve.refuse(granted_at, self._now, retry_us)
        rates = enumerate(self._terms.rates)
        in_debt = any(self._head.used[i] > rate.limit for i, rate in rates)
        if is_news and self._terms.rates and not in_debt:
            self._widen()
        return self._answer("done")

    def stats(self) -> Answer:
        """Answer with the pause that is left, and the guard."""
        paused_us = max(0, self._head.valve.paused_until - self._now)
        return self._answer("done", paused_us, self._guard_us())

    # What fits when -----------------------------------------------------------

    def _may_go(self, costs: Sequence[int], ahead: Sequence[Ticket]) -> bool:
        if self._due(costs) > 0:
            return False
        return not ahead or self._passes(ahead[0].costs, costs)

    def _passes(self, first: Sequence[int], costs: Sequence[int]) -> bool:
        """Whether *costs* leave the instant of the *first* in the queue as it is."""
        at = self._due(first)
        if at == 0 or self._head.valve.state != OPEN:
            return False
        for i, rate in enumerate(self._terms.rates):
            room = rate.limit - self._head.used[i] - first[i]
            if costs[i] > 0 and costs[i] > room + self._freed(i, rate, at):
                return False
        return True

    def _freed(self, i: int, rate: SharedRate, at: int) -> int:
        if at >= NEVER:
            return 0
        return sum(
            units
            for slot, units in self._shelf.slots(i)
            if last_instant(slot, rate.interval_us, rate.width_us) < at
        )

    def _due(self, costs: Sequence[int]) -> int:
        """Return when *costs* fit: 0 now, NEVER if open calls decide."""
        due = 0
        for i, rate in enumerate(self._terms.rates):
            over = self._head.used[i] + costs[i] - rate.limit
            if costs[i] > 0 and over > 0:
                due = max(due, self._frees(i, rate, over))
        return due

    def _frees(self, i: int, rate: SharedRate, over: int) -> int:
        for slot, units in self._shelf.slots(i):
            over -= units
            if over <= 0:
                return last_instant(slot, rate.interval_us, rate.width_us) + 1
        return NEVER

    def _with_all(self, ahead: Sequence[Ticket], costs: Sequence[int]) -> list[int]:
        return [
            min(rate.limit, costs[i] + sum(one.costs[i] for one in ahead)) if costs[i] > 0 else 0
            for i, rate in enumerate(self._terms.rates)
        ]

    def _soonest(self, costs: Sequence[int]) -> int:
        """Return when *costs* fit at best, were every open call given back."""
        soonest = self._head.valve.paused_until
        for i, rate in enumerate(self._terms.rates):
            # Without refunds in question the slots say it all; else do not look
            # unless what is used says that there is no room.
            if costs[i] > 0 and self._head.used[i] + costs[i] > rate.limit:
                soonest = max(soonest, self._soonest_of(i, rate, costs[i]))
        return soonest

    def _soonest_of(self, i: int, rate: SharedRate, cost: int) -> int:
        kept = dict(self._shelf.slots(i))
        if self._terms.charge == "adjust" and not is_requests(rate.dimension):
            for _, entry in self._shelf.entries():
                slot = slot_of(entry.stamp, rate.width_us)
                if entry.stamp >= 0 and slot in kept:
                    kept[slot] -= entry.costs[i]
        over = sum(kept.values()) + cost - rate.limit
        soonest = 0
        for slot, units in kept.items():
            if over <= 0:
                break
            over -= units
            soonest = min(slot * rate.width_us, self._now) + rate.interval_us + 1
        return soonest

    # The queue ----------------------------------------------------------------

    def _place_of(self, ticket: str) -> int:
        for place, one in enumerate(self._head.tickets):
            if one.name == ticket:
                return place
        return len(self._head.tickets)

    def _wait(self, place: int, ticket: Ticket) -> None:
        self._head.tickets[place : place + 1] = [ticket]

    def _leave_queue(self, ticket: str) -> None:
        place = self._place_of(ticket)
        del self._head.tickets[place : place + 1]

    def _nap(self, at: int, ahead: int) -> int:
        longest = min(RELOOK_US * (1 + ahead // 4), LONGEST_RELOOK_US)
        return min(at - self._now if at > self._now else SOON_US * max(1, ahead), longest)

    # The charges -----------------------------------------------------------------

    def _grant(self, ticket: str, lease_us: int, costs: Sequence[int]) -> None:
        head, lease = self._head, self._now + lease_us
        self._leave_queue(ticket)
        for i, units in enumerate(costs):
            head.used[i] += units
        self._shelf.put(ticket, Entry(-1, lease, self._now, list(costs)))
        head.granted += 1
        head.next_lease = min(head.next_lease, lease)
        head.keep_until = max(head.keep_until, lease + self._terms.longest_us + KEEP_US)
        head.valve.granted(ticket, self._now)

    def _charged(self, rate: SharedRate, estimate: int, used: int) -> int:
        if used < 0 or is_requests(rate.dimension):
            return estimate
        return max(used, estimate) if self._terms.charge == "estimate" else used

    def _send(self, entry: Entry, ago_us: int) -> None:
        entry.stamp = self._now - ago_us + self._guard_us()
        for i, rate in enumerate(self._terms.rates):
            if rate.is_on_arrival:
                self._stamp(i, entry.costs[i], entry.stamp)

    def _move(self, i: int, entry: Entry, after: int, stamp: int) -> None:
        """Charge *after* at *stamp* for what lies at the entry's own, if it still counts."""
        slot = slot_of(entry.stamp, self._terms.rates[i].width_us)
        if slot >= self._first_live(i):
            if entry.costs[i]:
                self._shelf.add(i, slot, -entry.costs[i])
            self._head.used[i] += after - entry.costs[i]
            self._stamp(i, after, stamp)

    def _charge(self, i: int, units: int) -> None:
        """Charge *units* as having arrived now."""
        if units > 0:
            self._head.used[i] += units
            self._stamp(i, units, self._now)

    def _stamp(self, i: int, units: int, stamp: int) -> None:
        """Let *units*, which are counted, expire one interval after *stamp*."""
        slot = slot_of(stamp, self._terms.rates[i].width_us)
        if slot < self._first_live(i):
            self._head.used[i] -= units
        elif units:
            self._shelf.add(i, slot, units)

    def _first_live(self, i: int) -> int:
        rate = self._terms.rates[i]
        return first_live(self._now, rate.interval_us, rate.width_us)

    def _end(self, ticket: str, *, is_sent: bool) -> None:
        self._shelf.drop(ticket)
        self._head.valve.ended(ticket, self._now, is_sent=is_sent)

    def _guard_us(self) -> int:
        base, shortest = self._terms.guard_us, self._terms.shortest_us
        return max(base, min(base * self._head.widened, shortest // 10, WIDEST_GUARD_US))

    def _widen(self) -> None:
        before = self._guard_us()
        self._head.widened *= 2
        if self._guard_us() == before:
            self._head.widened //= 2

    # What time does -----------------------------------------------------------------

    def _tidy(self) -> None:
        head, now = self._head, self._now
        head.version += 1
        head.keep_until = max(head.keep_until, now + self._terms.longest_us + KEEP_US)
        for i in range(len(self._terms.rates)):
            head.used[i] -= self._shelf.drop_before(i, self._first_live(i))
        if now >= head.next_lease:
            self._lapse()
        head.tickets = [one for one in head.tickets if one.come_by + GONE_US >= now]
        head.holders = {name: at for name, at in head.holders.items() if at + HOLDER_US >= now}

    def _lapse(self) -> None:
        """End the calls whose lease has ended: sent then, at the latest."""
        self._head.next_lease = NEVER
        guard_us = self._guard_us()
        for name, entry in self._shelf.entries():
            if entry.lease > self._now:
                self._head.next_lease = min(self._head.next_lease, entry.lease)
                continue
            for i, rate in enumerate(self._terms.rates):
                if entry.stamp < 0 or not rate.is_on_arrival:
                    self._stamp(i, entry.costs[i], entry.lease + guard_us)
            self._shelf.drop(name)

    def _answer(self, status: str, wait_us: int = 0, free_us: int = 0) -> Answer:
        head = self._head
        return [
            *(status, head.epoch, head.version, wait_us, free_us, len(head.holders)),
            *head.used,
        ]
