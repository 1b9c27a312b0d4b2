"""One item of a run with a checkpoint: its chats and how it ends.

Holds: `ItemJournal`, which answers the chats of an item from what an earlier
run kept and keeps the new ones, and `Terms`, which all items of a run share.
Does not hold: the file (file.py), names (keys.py).

Threads: an item may chat in many threads at once.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING

import attrs

from lionlite import jsontext
from lionlite.calls.item import ItemWork
from lionlite.calls.journal import rows
from lionlite.calls.journal.keys import Identity, digest
from lionlite.calls.journal.values import NotKeepable
from lionlite.calls.verdict import describe, is_fatal
from lionlite.exceptions import CheckpointError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from lionlite.calls.journal.file import JournalFile
    from lionlite.calls.journal.values import Values


@attrs.frozen
class Terms:
    """What all items of a run share.

    Attributes:
        file: Where they are kept.
        function: The name of the function.
        version: What the user calls this state of it.
        replays: Whether an item that made chats runs again, with its chats
            answered, rather than being taken from the file whole.
        values: How results become text.
        refuse: Told of what must end the run though the file is well.
    """

    file: JournalFile
    function: str
    version: str
    replays: bool
    values: Values
    refuse: Callable[[CheckpointError], None]


class ItemJournal:
    """The record of one item.

    Args:
        terms: What it shares with all others.
        identity: By what it is known.
        nth: Which one of the items of that name it is, from 0.
        place: Its index in the input of this run.

    Attributes:
        work: Tells the item's chats to this record.
        skip: The value, alone in a tuple, of an item that need not run.

    Raises:
        CheckpointError: The file cannot be read, or decode= failed.

    Threads: made by one thread, then safe anywhere.
    """

    __slots__ = (
        "_added",
        "_answered",
        "_given",
        "_id",
        "_identity",
        "_left",
        "_lock",
        "_made",
        "_name",
        "_nth",
        "_place",
        "_taken",
        "_terms",
        "skip",
        "work",
    )

    def __init__(self, terms: Terms, identity: Identity, nth: int, place: int) -> None:
        self._terms = terms
        self._identity = identity
        self._nth = nth
        self._place = place
        # Set and read by whoever has the file's connection: the id, and how
        # many chats have been added.
        self._id: int | None = None
        self._added = 0
        self._name = ""
        # Guards the three dictionaries and the two names below them. By request:
        # the replies that are left, their numbers, and the next number to give.
        self._lock = threading.Lock()
        self._left: dict[str, deque[tuple[int, bytes]]] = {}
        self._taken: dict[str, set[int]] = {}
        self._given: dict[str, int] = {}
        # Of this attempt: how many chats, and those that were answered.
        self._made = 0
        self._answered: list[tuple[str, int, bytes]] = []
        self.work = ItemWork(self)
        self.skip: tuple[object] | None = None
        if not terms.file.is_fresh and terms.file.is_ours:
            self._recall()

    def begun(self) -> None:
        """Note that the function is about to be called, once more for each retry.

        If it failed in a chat, the chats before that one were well, and answer
        the next attempt too. If it failed by itself, it may have been for what
        it was answered, so all is asked anew.
        """
        records = self.work.records
        with self._lock:
            if self._answered and records and records[-1].error is not None:
                for request, nth, reply in self._answered:
                    self._left.setdefault(request, deque()).append((nth, reply))
            self._answered.clear()
            self._made = 0

    def chat(self, request: bytes) -> KeptChat:
        """Return what is remembered of this chat, and count it.

        The replies that earlier runs kept for the same request are given out
        first, in their order, so a chat that failed there costs nothing here.
        """
        name = request.hex()
        if not self._terms.file.is_ours:
            # In a forked child: it must not answer to the names of its parent.
            return KeptChat(self, name, -os.getpid(), None)
        with self._lock:
            self._made += 1
            left = self._left.get(name)
            if left:
                nth, reply = left.popleft()
                self._answered.append((name, nth, reply))
                return KeptChat(self, name, nth, reply)
            # A number that was given out and not kept is that of a chat which
            # was cut: it is given out again, and so is the name it had.
            nth = self._given.get(name, 0)
            while nth in self._taken.get(name, ()):
                nth += 1
            self._given[name] = nth + 1
        return KeptChat(self, name, nth, None)

    def succeeded(self, value: object) -> object:
        """Keep *value*; return what a later run will have for it."""
        terms = self._terms
        runs_again = terms.replays and self._made > 0
        try:
            text = terms.values.text_of(value)
        except NotKeepable as exc:
            # An item that runs again anyway needs no kept value.
            if not runs_again:
                terms.refuse(self._not_keepable(exc))
            self._ended(rows.Outcome("done", self._identity.input, self._made))
            return value
        self._ended(rows.Outcome("done", self._identity.input, self._made, value=text))
        if runs_again:
            return value
        return terms.values.as_found_later(value, text, key=self._identity.key)

    def failed(self, error: BaseException) -> None:
        """Note what the item failed with."""
        kind = type(error).__name__
        # A text may hold halves of characters, which no file does.
        said = describe(error).encode(errors="replace").decode().removeprefix(f"{kind}: ")
        told = {"type": kind, "message": said, "fatal": is_fatal(error)}
        text = jsontext.encode(told).decode()
        self._ended(rows.Outcome("failed", self._identity.input, self._made, error=text))

    def keep(self, request: str, nth: int, reply: bytes) -> None:
        """Keep the *reply* to the *nth* chat with this *request*."""
        if not self._terms.file.is_ours:
            return
        text = _as_text(reply)
        with self._lock:
            self._answered.append((request, nth, reply))

        def add(connection: sqlite3.Connection) -> None:
            item = self._id or self._add_item(connection)
            rows.add_chat(connection, item, self._added, (request, nth, text))
            self._added += 1

        self._terms.file.write(add)

    def name_of(self, request: str, nth: int) -> str:
        """Return the same name for the same chat in every run on this file."""
        # Two threads may both work it out, and find the same.
        if not self._name:
            file = self._terms.file.identity
            self._name = digest(file, self._identity.key, str(self._nth))[:32]
        return f"{self._name}-{request[:32]}-{nth}"

    def _recall(self) -> None:
        found = self._terms.file.read(self._find)
        if found is None:
            return
        self._id = item = found.item
        outcome = found.outcome
        if outcome is not None and outcome.value is not None and self._is_enough(outcome):
            value = self._terms.values.value_in(outcome.value, key=self._identity.key)
            self.skip = (value,)
            return
        chats = self._terms.file.read(lambda connection: rows.find_chats(connection, item))
        self._added = len(chats)
        for request, nth, reply in chats:
            kept = reply if isinstance(reply, bytes) else reply.encode()
            self._left.setdefault(request, deque()).append((nth, kept))
            self._taken.setdefault(request, set()).add(nth)

    def _find(self, connection: sqlite3.Connection) -> rows.Found | None:
        terms = self._terms
        return rows.find_item(
            connection,
            self._identity.key,
            self._nth,
            function=terms.function,
            version=terms.version,
        )

    def _is_enough(self, outcome: rows.Outcome) -> bool:
        """Whether the item need not run: it is done, for the same input."""
        runs_again = self._terms.replays and outcome.chats > 0
        return not runs_again and outcome.input == self._identity.input

    def _ended(self, outcome: rows.Outcome) -> None:
        terms = self._terms

        def note(connection: sqlite3.Connection) -> None:
            rows.set_outcome(
                connection,
                self._id or self._add_item(connection),
                terms.file.run,
                outcome,
                function=terms.function,
                version=terms.version,
            )

        # What a later run would not use may come late: it runs an item that
        # failed again, and with its chats answered that costs nothing.
        if outcome.state == "done" and not (terms.replays and outcome.chats):
            terms.file.write(note)
        else:
            terms.file.write_later(note)

    def _add_item(self, connection: sqlite3.Connection) -> int:
        self._id = self._terms.file.next_item()
        rows.add_item(connection, self._id, self._identity.key, self._nth, self._place)
        return self._id

    def _not_keepable(self, exc: NotKeepable) -> CheckpointError:
        # The cure first: whoever shows the message may cut its end.
        msg = (
            f"The result of item {self._place} is no JSON for checkpoint=: pass encode= (from a "
            f"result to what JSON knows) and decode= (the way back). {exc}."
        )
        error = CheckpointError(msg)
        error.__cause__ = exc
        return error


class KeptChat:
    """One chat of an item, as `scope.RememberedChat` promises.

    Attributes:
        reply: What an earlier run kept for it, None if it must be sent.

    Threads: belongs to the thread that chats.
    """

    __slots__ = ("_item", "_nth", "_request", "reply")

    def __init__(self, item: ItemJournal, request: str, nth: int, reply: bytes | None) -> None:
        self._item = item
        self._request = request
        self._nth = nth
        self.reply = reply

    @property
    def name(self) -> str:
        """The same for the same chat in every run, and for no other."""
        return self._item.name_of(self._request, self._nth)

    def keep(self, reply: bytes) -> None:
        """Keep *reply*; when this returns, no kill can lose it. Never raises."""
        self._item.keep(self._request, self._nth, reply)


def _as_text(reply: bytes) -> str | bytes:
    try:
        return reply.decode()
    except UnicodeDecodeError:
        return reply
