"""Values remembered by the arguments they were made from, for a while.

Holds: `Memo` and the keys of calls. Does not hold: the decorator
(cd.py), nor anything on disk (the journal remembers chats). Safe to
share between threads; a forked child keeps the values and waits for nobody.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from lionlite.calls.asked import name_of
from lionlite.exceptions import ConfigError
from lionlite.line import Line
from lionlite.locks import ProcessLock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

R = TypeVar("R")


@attrs.frozen
class Entry(Generic[R]):
    """A value, and the instant on the clock at which it is too old."""

    value: R
    ends_at_s: float


class Flight(Generic[R]):
    """The making of one value: those who want it stand in its line."""

    __slots__ = ("__weakref__", "entry", "line")

    def __init__(self) -> None:
        self.line = Line(1, phase="cache")
        # Written by whoever holds the line's one place.
        self.entry: Entry[R] | None = None


class CallKey:
    """The arguments of one call, hashed once.

    Their types count, so 1, 1.0 and True are three keys; the order of keyword
    arguments does not. An argument given by name is another than one given by
    place.

    Args:
        func: Whose call it is, for messages.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Raises:
        ConfigError: An argument cannot be hashed.
    """

    __slots__ = ("_hash", "_parts")

    def __init__(self, func: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        named = tuple(sorted(kwargs.items(), key=_name))
        types = (*map(type, args), *(type(value) for _, value in named))
        self._parts = (args, named, types)
        try:
            self._hash = hash(self._parts)
        except TypeError as error:
            raise ConfigError(_unhashable(func, args, kwargs)) from error

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CallKey):
            return NotImplemented
        return self._hash == other._hash and self._parts == other._parts


def _name(pair: tuple[str, Any]) -> str:
    return pair[0]


def _unhashable(func: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    # Its place and type only: the value may be long, or secret.
    named = [*((f"argument {place}", value) for place, value in enumerate(args)), *kwargs.items()]
    odd = (pair for pair in named if not _has_hash(pair[1]))
    name, value = next(odd, ("an argument", args))
    return (
        f"cd.cache cannot remember {name_of(func)}(): {name} is (or holds) a "
        f"{type(value).__name__}, which has no hash. Give values that cannot change, such as a "
        "tuple for a list, or a frozen attrs class."
    )


def _has_hash(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


class Memo(Generic[R]):
    """Remembers up to *maxsize* values, each for *ttl_s* seconds.

    The one that was not asked for the longest goes first.

    Args:
        ttl_s: Seconds from when a value was made; infinite = for ever.
        maxsize: None = any number.
        clock: Tells the time in seconds; must not go back.

    Threads: safe to share. One thread at a time makes the value of a key, the
    others wait for it.
    """

    def __init__(self, ttl_s: float, maxsize: int | None, clock: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._maxsize = maxsize
        self._clock = clock
        # Guards the two below, for some instructions. Of the user's code only
        # the __eq__ of arguments runs under it; values are dropped after it.
        self._lock = ProcessLock()
        self._entries: OrderedDict[CallKey, Entry[R]] = OrderedDict()
        # A flight lives as long as somebody stands in its line.
        self._flights: weakref.WeakValueDictionary[CallKey, Flight[R]] = (
            weakref.WeakValueDictionary()
        )

    def get(self, key: CallKey) -> Entry[R] | None:
        """Return what is remembered, None if nothing is or it is too old."""
        with self._lock.inner:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
        return self._fresh(entry)

    def made(self, key: CallKey, make: Callable[[], R]) -> Entry[R]:
        """Return what is remembered, or what *make* makes now.

        What *make* raises is its caller's and is not remembered: the next of
        those who wait calls its own *make*.

        Raises:
            ConfigError: The running code is in the middle of making this value.
            DeadlineExceeded: Another thread was not done before the deadline.
            Cancelled: The scope was cancelled.
        """
        with self._lock.inner:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = Flight()
        if flight.line.is_held_here():
            msg = "A cached function calls itself with the same arguments, which would never end."
            raise ConfigError(msg)
        with flight.line.place():
            entry = self._fresh(flight.entry) or self.get(key)
            if entry is None:
                entry = Entry(make(), self._clock() + self._ttl_s)
                self._keep(key, entry)
                flight.entry = entry
        return entry

    def _fresh(self, entry: Entry[R] | None) -> Entry[R] | None:
        return entry if entry is not None and self._clock() < entry.ends_at_s else None

    def _keep(self, key: CallKey, entry: Entry[R]) -> None:
        now_s = self._clock()
        # Only let go after the lock: the end of a value may run anything.
        dropped = []
        with self._lock.inner:
            dropped.append(self._entries.pop(key, None))
            self._entries[key] = entry
            while self._is_first_to_go(now_s):
                dropped.append(self._entries.popitem(last=False)[1])
        dropped.clear()

    def _is_first_to_go(self, now_s: float) -> bool:
        if not self._entries:
            return False
        if self._maxsize is not None and len(self._entries) > self._maxsize:
            return True
        return next(iter(self._entries.values())).ends_at_s <= now_s
