"""Showing how far a mapping call is: a bar, plain lines, or the user's own function.

Holds: `Progress` and its three kinds, and `Traffic`, which hears what the chats
of a run took. The only module that imports tqdm, and only when it is asked
for. Does not hold: when to show (engine.py).

Threads: a `Progress` belongs to the calling thread and is used with no lock
held; a `Traffic` is told by every thread that chats.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from lionlite.locks import ProcessLock

if TYPE_CHECKING:
    from typing import TextIO

    from lionlite.records import CallRecord
    from lionlite.scope import RememberedChat, Waiting, Work

Show = Callable[[int, int | None], object]

REFRESH_S = 0.1
"""The least time between two pictures: more often, nobody sees them."""

LINE_S = 5.0
"""The least time between two plain lines: a log file is read later."""

WINDOW_S = 60.0
"""Rates are those of so many last seconds, since limits count by the minute."""


class Progress(Protocol):
    """Something that shows how far the run is.

    `show` may be called as often as one likes, also with nothing new.
    """

    def show(self, done: int) -> None:
        """Show that *done* items have finished or failed, if it is time to."""

    def close(self) -> None:
        """Show the end, and nothing after this."""


class Traffic:
    """The `scope.Work` that adds up what the chats of a run take.

    Answers taken from a checkpoint cost nothing now, and are not counted.

    Args:
        outer: The work around the run, which is told everything too.

    Threads: safe anywhere.
    """

    def __init__(self, outer: Work | None) -> None:
        self._outer = outer
        # Guards the four sums, for a few instructions.
        self._lock = ProcessLock()
        self._tokens = 0
        self._cost: float | None = None
        self._waited_s = 0.0
        self._elapsed_s = 0.0

    @property
    def tokens(self) -> int:
        """Tokens of all chats that ended."""
        return self._tokens

    @property
    def cost(self) -> float | None:
        """US dollars, None if the provider does not say."""
        return self._cost

    @property
    def waiting_share(self) -> float | None:
        """The part of the chats' time that was waiting for the budget, 0 to 1."""
        with self._lock.inner:
            return self._waited_s / self._elapsed_s if self._elapsed_s else None

    @property
    def remembers(self) -> bool:
        """Whether the work around keeps finished chats."""
        return self._outer is not None and self._outer.remembers

    def chat(self, request: bytes) -> RememberedChat:
        """Return what the work around remembers of this chat.

        Raises:
            LookupError: There is none: ask `remembers` first.
        """
        if self._outer is None:
            msg = "No chat of this run is remembered."
            raise LookupError(msg)
        return self._outer.chat(request)

    def waits(self, what: Waiting) -> None:
        """Tell the work around that a chat begins to wait."""
        if self._outer is not None:
            self._outer.waits(what)

    def goes_on(self, what: Waiting) -> None:
        """Tell the work around that a wait is over."""
        if self._outer is not None:
            self._outer.goes_on(what)

    def ended(self, record: CallRecord) -> None:
        """Add *record* up, and tell the work around."""
        if not record.is_replayed:
            with self._lock.inner:
                self._tokens += 0 if record.usage is None else record.usage.total_tokens
                if record.cost is not None:
                    self._cost = (self._cost or 0.0) + record.cost
                self._waited_s += record.waited_s
                self._elapsed_s += record.elapsed_s
        if self._outer is not None:
            self._outer.ended(record)


class Pace:
    """How fast a count grows, over the last `WINDOW_S`."""

    def __init__(self, now_s: float) -> None:
        self._seen = deque([(now_s, 0)])

    def per_second(self, count: int, now_s: float) -> float:
        """Return how much *count* grew each second; 0 at the very start."""
        # A sample a second is plenty, and bounds the memory.
        if now_s - self._seen[-1][0] >= 1.0:
            self._seen.append((now_s, count))
        # The first one left is the last one that is outside of the window.
        while now_s - self._seen[min(1, len(self._seen) - 1)][0] > WINDOW_S:
            self._seen.popleft()
        then_s, before = self._seen[0]
        return (count - before) / (now_s - then_s) if now_s > then_s else 0.0


class Calls:
    """The user's own function, called with the items done and their total."""

    def __init__(self, show: Show, total: int | None) -> None:
        self._show = show
        self._total = total
        self._done = self._shown = 0
        self._next_s = 0.0

    def show(self, done: int) -> None:
        """Call the function, if there is news and the last call is `REFRESH_S` ago."""
        self._done = done
        if done == self._shown or time.monotonic() < self._next_s:
            return
        self._call()

    def close(self) -> None:
        """Call the function, if it has not heard of the last items yet."""
        if self._done != self._shown:
            self._call()

    def _call(self) -> None:
        self._shown = self._done
        self._show(self._done, self._total)
        # What the function takes itself does not count.
        self._next_s = time.monotonic() + REFRESH_S


class Bar:
    """A tqdm bar in a terminal or a notebook, with what the chats take behind it."""

    def __init__(self, bar: Any, traffic: Traffic | None) -> None:
        self._bar = bar
        self._traffic = traffic
        self._pace = Pace(time.monotonic())
        self._done = 0
        self._next_s = 0.0

    def show(self, done: int) -> None:
        """Draw the bar, if the last picture is `REFRESH_S` old."""
        self._done = done
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + REFRESH_S
            self._draw(now_s)

    def close(self) -> None:
        """Draw the end, and leave the bar on the screen."""
        self._draw(time.monotonic())
        self._bar.close()

    def _draw(self, now_s: float) -> None:
        if self._traffic is not None:
            said = ", ".join(taken(self._traffic, self._pace, now_s))
            self._bar.set_postfix_str(said, refresh=False)
        self._bar.update(self._done - self._bar.n)
        self._bar.refresh()


class Lines:
    """A plain line every `LINE_S`, where there is no terminal to draw on."""

    def __init__(self, out: TextIO, total: int | None, traffic: Traffic | None) -> None:
        self._out = out
        self._total = total
        self._traffic = traffic
        self._began_s = time.monotonic()
        self._items = Pace(self._began_s)
        self._tokens = Pace(self._began_s)
        self._done = 0
        self._next_s = self._began_s + LINE_S

    def show(self, done: int) -> None:
        """Write a line, if the last one is `LINE_S` old."""
        self._done = done
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + LINE_S
            self._write(now_s)

    def close(self) -> None:
        """Write the last line."""
        self._write(time.monotonic())

    def _write(self, now_s: float) -> None:
        # A log that was closed, or a pipe that nobody reads, must not end a run.
        with suppress(OSError, ValueError):
            self._out.write(f"lionlite: {self._line(now_s)}\n")
            self._out.flush()

    def _line(self, now_s: float) -> str:
        total, done = self._total, self._done
        rate = self._items.per_second(done, now_s)
        parts = [
            f"{done:,} items" if total is None else f"{done:,} of {total:,} items",
            clock(now_s - self._began_s),
            f"{rate:,.1f} items/s",
        ]
        if self._traffic is not None:
            parts += taken(self._traffic, self._tokens, now_s)
        if total is not None and rate and done < total:
            parts.append(f"{clock((total - done) / rate)} left")
        return ", ".join(parts)


def taken(traffic: Traffic, pace: Pace, now_s: float) -> list[str]:
    """Return what the chats took so far, as texts; none if there were none."""
    share, tokens, cost = traffic.waiting_share, traffic.tokens, traffic.cost
    found = []
    if tokens:
        found.append(f"{pace.per_second(tokens, now_s) * 60:,.0f} tokens/min")
    if share is not None:
        found.append(f"{share:.0%} waiting for budget")
    if cost is not None:
        found.append(f"${cost:.2f}")
    return found


def clock(seconds: float) -> str:
    """Return *seconds* as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_from(
    wanted: bool | Show,  # noqa: FBT001
    total: int | None,
    traffic: Traffic | None = None,
) -> Progress | None:
    """Return what shows the run, None if nothing does.

    Args:
        wanted: True for a bar, or plain lines where it could not be seen; or
            the user's own function.
        total: How many items there are, None if unknown.
        traffic: What the chats of the run take; None if nobody counts it.
    """
    if callable(wanted):
        return Calls(wanted, total)
    return _drawn(total, traffic) if wanted else None


def _drawn(total: int | None, traffic: Traffic | None) -> Progress | None:
    out = sys.stderr
    is_terminal = _is_terminal(out)
    if is_terminal or "ipykernel" in sys.modules:
        # Costs about as much as the rest of lionlite, so not before it is asked for.
        from tqdm.auto import tqdm  # noqa: PLC0415

        is_notebook = any(kind.__module__ == "tqdm.notebook" for kind in tqdm.__mro__)
        if is_terminal or is_notebook:
            # A notebook without ipywidgets has no bars.
            with suppress(ImportError):
                return Bar(tqdm(total=total, unit="item", mininterval=REFRESH_S), traffic)
    return None if out is None else Lines(out, total, traffic)


def _is_terminal(out: TextIO | None) -> bool:
    try:
        return out is not None and out.isatty()
    except ValueError:
        return False  # it is closed
