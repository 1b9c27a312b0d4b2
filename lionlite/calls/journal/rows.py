"""The tables of a checkpoint file, and the statements of a run on them.

Holds: the schema and one function per reading or writing. Texts are plain JSON
or plain words, so that any SQLite tool shows them. Does not hold: transactions,
locks or errors (file.py). Functions of a connection; whoever has the
connection may call them.

    checkpoint  one row: what this file is
    run         one row per run; `ended` is empty if it was killed
    item        one row per item that kept something
    chat        one row per finished chat of an item
    outcome     how an item ended, under one function and version
"""

from __future__ import annotations

import secrets
import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

import attrs

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    Deed = Callable[[sqlite3.Connection], object]

SCHEMA: Final = 1
"""Counts up when an older lionlite could not read the file any more."""

_CHAT_BITS: Final = 24
"""Of a chat's id; so an item has at most 16,777,216 chats, and there may be 2^39 items."""

APPLICATION_ID: Final = 0x4C696F6E
""""Lion": by this the `file` command and we know our files."""

_HEAD: Final = struct.Struct(">60xi4xi")

_TABLES: Final = (
    """CREATE TABLE checkpoint (
        identity TEXT NOT NULL, created TEXT NOT NULL,
        library TEXT NOT NULL, schema INTEGER NOT NULL
    )""",
    """CREATE TABLE run (
        id INTEGER PRIMARY KEY, function TEXT NOT NULL, version TEXT NOT NULL,
        library TEXT NOT NULL, process INTEGER NOT NULL, began TEXT NOT NULL, ended TEXT
    )""",
    """CREATE TABLE item (
        id INTEGER NOT NULL, key TEXT NOT NULL, nth INTEGER NOT NULL, place INTEGER NOT NULL,
        PRIMARY KEY (key, nth)
    ) WITHOUT ROWID""",
    # The id begins with the item's: so the chats of an item lie together, and
    # no index has to be written with each.
    """CREATE TABLE chat (
        id INTEGER PRIMARY KEY, item INTEGER NOT NULL, request TEXT NOT NULL, nth INTEGER NOT NULL,
        reply TEXT NOT NULL, kept TEXT NOT NULL
    )""",
    """CREATE TABLE outcome (
        item INTEGER NOT NULL, function TEXT NOT NULL, version TEXT NOT NULL, input TEXT,
        state TEXT NOT NULL CHECK (state IN ('done', 'failed')), chats INTEGER NOT NULL,
        value TEXT, error TEXT, run INTEGER NOT NULL, ended TEXT NOT NULL,
        PRIMARY KEY (item, function, version)
    ) WITHOUT ROWID""",
)


@attrs.frozen
class Run:
    """What is noted of a run.

    Attributes:
        function: The name of its function.
        version: What the user calls this state of it, "" if nothing.
        library: The version of lionlite.
        process: Its process id.
    """

    function: str
    version: str
    library: str
    process: int


@attrs.frozen
class Outcome:
    """How an item ended, under one function and version.

    Attributes:
        state: "done" or "failed".
        input: A hash of the input, None if the key says it all.
        chats: How many chats the function asked for.
        value: The result as JSON; None if it failed, or its result was none.
        error: What it failed with, as JSON; None if it did not.
    """

    state: Literal["done", "failed"]
    input: str | None
    chats: int
    value: str | None = None
    error: str | None = None


@attrs.frozen
class Found:
    """What the file knows of an item.

    Attributes:
        item: The id of the item.
        outcome: How it ended under the function and version asked for.
    """

    item: int
    outcome: Outcome | None


def make_tables(connection: sqlite3.Connection, library: str) -> None:
    """Fill an empty file, in the transaction that is under way."""
    for table in _TABLES:
        connection.execute(table)
    connection.execute(
        "INSERT INTO checkpoint VALUES (?, ?, ?, ?)",
        (secrets.token_hex(16), now(), library, SCHEMA),
    )
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA}")


def marks_in(head: bytes) -> tuple[int, int]:
    """Return the application id and schema in the first 100 bytes of a file.

    Returns:
        (0, 0) if they are not those of an SQLite file.

    Source: sqlite.org/fileformat2.html, section 1.3.
    """
    if len(head) < _HEAD.size or not head.startswith(b"SQLite format 3\0"):
        return 0, 0
    schema, application = _HEAD.unpack_from(head)
    return application, schema


def has_tables(connection: sqlite3.Connection) -> bool:
    """Whether the file was filled."""
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None


def damage(connection: sqlite3.Connection) -> str:
    """Return the first thing that is wrong with the file's pages, "" if nothing is."""
    (first,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return "" if first == "ok" else str(first)


def identity(connection: sqlite3.Connection) -> str:
    """Return what tells this file from all others, "" if somebody has taken it away."""
    row = connection.execute("SELECT identity FROM checkpoint").fetchone()
    return str(row[0]) if row else ""


def begin_run(connection: sqlite3.Connection, run: Run) -> int:
    """Note that *run* begins; return its row."""
    row = (run.function, run.version, run.library, run.process, now())
    sql = "INSERT INTO run (function, version, library, process, began) VALUES (?, ?, ?, ?, ?)"
    return connection.execute(sql, row).lastrowid or 0


def end_run(connection: sqlite3.Connection, run: int) -> None:
    """Note that the run in row *run* ended, well or not."""
    connection.execute("UPDATE run SET ended = ? WHERE id = ?", (now(), run))


def last_item(connection: sqlite3.Connection) -> int:
    """Return the highest id of an item, 0 if there is none.

    Without reading the items, of which there may be a million: each of them
    was added for a chat or an outcome, in one transaction with it.
    """
    (chat,) = connection.execute("SELECT max(id) FROM chat").fetchone()
    (item,) = connection.execute("SELECT max(item) FROM outcome").fetchone()
    return max((chat or 0) >> _CHAT_BITS, item or 0)


def add_item(connection: sqlite3.Connection, item: int, key: str, nth: int, place: int) -> None:
    """Add an item that is not known yet, with the id *item*."""
    connection.execute("INSERT INTO item VALUES (?, ?, ?, ?)", (item, key, nth, place))


def find_item(
    connection: sqlite3.Connection, key: str, nth: int, *, function: str, version: str
) -> Found | None:
    """Return what is known of an item, None if nothing is."""
    sql = (
        "SELECT id, state, input, chats, value, error FROM item LEFT JOIN outcome"
        " ON outcome.item = item.id AND function = ? AND version = ? WHERE key = ? AND nth = ?"
    )
    row = connection.execute(sql, (function, version, key, nth)).fetchone()
    if row is None:
        return None
    return Found(row[0], Outcome(*row[1:]) if row[1] else None)


def add_chat(
    connection: sqlite3.Connection, item: int, place: int, chat: tuple[str, int, str | bytes]
) -> None:
    """Add a finished chat.

    Args:
        connection: With a transaction under way.
        item: The id of its item.
        place: How many chats of the item were added before.
        chat: Request, number and reply.
    """
    row = (_chat_id(item, place), item, *chat, now())
    connection.execute("INSERT INTO chat VALUES (?, ?, ?, ?, ?, ?)", row)


def find_chats(connection: sqlite3.Connection, item: int) -> list[tuple[str, int, str | bytes]]:
    """Return request, number and reply of every chat of an item, in the order of numbers."""
    sql = "SELECT request, nth, reply FROM chat WHERE id >= ? AND id < ? ORDER BY nth"
    return connection.execute(sql, (_chat_id(item, 0), _chat_id(item + 1, 0))).fetchall()


def count_chats(connection: sqlite3.Connection, item: int) -> int:
    """Return how many chats of an item are kept."""
    sql = "SELECT count(*) FROM chat WHERE id >= ? AND id < ?"
    return int(connection.execute(sql, (_chat_id(item, 0), _chat_id(item + 1, 0))).fetchone()[0])


def _chat_id(item: int, place: int) -> int:
    return (item << _CHAT_BITS) + place


def set_outcome(
    connection: sqlite3.Connection,
    item: int,
    run: int,
    done: Outcome,
    *,
    function: str,
    version: str,
) -> None:
    """Note how the item with the id *item* ended, in place of what was noted before."""
    row = (done.input, done.state, done.chats, done.value, done.error, run, now())
    connection.execute(
        "INSERT OR REPLACE INTO outcome (item, function, version,"
        " input, state, chats, value, error, run, ended) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (item, function, version, *row),
    )


def now() -> str:
    """Return the time of day, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
