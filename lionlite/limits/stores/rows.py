"""The rows of an SQLite file that holds budgets.

Holds: the schema, and reading and writing one budget inside a transaction.
Does not hold: transactions or connections (sqlite.py), or any rule (book.py).
One thread has a connection at a time.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from lionlite import jsontext
from lionlite.limits.stores.boot import boot_identity
from lionlite.limits.stores.head import Entry, Head, head_from_json, head_to_json

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from lionlite.limits.stores.protocol import Deed

SCHEMA_VERSION: Final = 1

_APPLICATION_ID: Final = 0x4C4C6274  # "LLbt"

_SCHEMA: Final = f"""
CREATE TABLE boot (identity TEXT NOT NULL);
CREATE TABLE budgets (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    keep_until INTEGER NOT NULL, head BLOB NOT NULL
);
CREATE TABLE slots (
    budget INTEGER, rate INTEGER, slot INTEGER, units INTEGER NOT NULL,
    PRIMARY KEY (budget, rate, slot)
) WITHOUT ROWID;
CREATE TABLE entries (
    budget INTEGER, name TEXT, entry BLOB NOT NULL,
    PRIMARY KEY (budget, name)
) WITHOUT ROWID;
PRAGMA application_id={_APPLICATION_ID};
PRAGMA user_version={SCHEMA_VERSION}
"""

_STEP_BACK_US: Final = 1_000_000
"""A clock so far behind what a budget has seen began anew: where a machine has
no boot identity, that is how its restart shows."""


class StrangeFile(Exception):  # noqa: N818 - it is about the file
    """The file is a database, but not one that we may use."""


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, and clear them if the machine has been restarted.

    Args:
        connection: In a transaction that may write.

    Raises:
        StrangeFile: It belongs to another program, or to a newer version.
    """
    version = _number(connection, "PRAGMA user_version")
    owner = _number(connection, "PRAGMA application_id")
    if version == owner == _number(connection, "SELECT count(*) FROM sqlite_master") == 0:
        # Not executescript: it would commit first, and let go of the lock.
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
    elif owner != _APPLICATION_ID:
        msg = "the file is another program's database; give store= a file of its own"
        raise StrangeFile(msg)
    elif version != SCHEMA_VERSION:
        msg = f"the file was made by another version of lionlite (schema {version}, not 1)"
        raise StrangeFile(msg)
    _clear_after_restart(connection)


def _clear_after_restart(connection: sqlite3.Connection) -> None:
    identity = boot_identity()
    seen = connection.execute("SELECT identity FROM boot").fetchone()
    if seen is not None and seen[0] == identity:
        return
    for table in ("slots", "entries", "budgets", "boot"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
    connection.execute("INSERT INTO boot VALUES (?)", (identity,))


def purge(connection: sqlite3.Connection, now: int) -> None:
    """Forget the budgets that nobody can need any more."""
    dead = connection.execute("SELECT id FROM budgets WHERE keep_until < ?", (now,)).fetchall()
    for (key,) in dead:
        _forget(connection, key)


def load(connection: sqlite3.Connection, name: str, now: int) -> tuple[int, Head] | None:
    """Return the key and the head of the budget *name*, or None if there is none.

    One from before a restart of the machine is forgotten.

    Raises:
        StrangeFile: The row is not one of ours.
    """
    row = connection.execute("SELECT id, head FROM budgets WHERE name = ?", (name,)).fetchone()
    if row is None:
        return None
    try:
        key, head = row[0], head_from_json(row[1])
    except (ValueError, TypeError, KeyError) as exc:
        msg = f"the row of budget {name!r} cannot be read; delete the file to begin anew"
        raise StrangeFile(msg) from exc
    if head.now > now + _STEP_BACK_US:
        _forget(connection, key)
        return None
    return key, head


def make(connection: sqlite3.Connection, deed: Deed, now: int) -> tuple[int, Head]:
    """Begin the budget that *deed* enters; return its key and head."""
    head = Head(text=deed.terms.text, epoch=str(deed.args[0]), used=[0] * len(deed.terms.rates))
    made = connection.execute(
        "INSERT INTO budgets (name, keep_until, head) VALUES (?, ?, ?)",
        (deed.budget, now, head_to_json(head)),
    )
    return int(made.lastrowid or 0), head


def save(connection: sqlite3.Connection, key: int, head: Head) -> None:
    """Write *head* back."""
    connection.execute(
        "UPDATE budgets SET head = ?, keep_until = ? WHERE id = ?",
        (head_to_json(head), head.keep_until, key),
    )


class Rows:
    """The slots and entries of one budget: a `Shelf`.

    Args:
        connection: In a transaction that may write.
        key: The budget's.
    """

    def __init__(self, connection: sqlite3.Connection, key: int) -> None:
        self._rows = connection
        self._key = key

    def slots(self, rate: int) -> Iterator[tuple[int, int]]:
        """Yield each slot and its units, the oldest first."""
        found = self._rows.execute(
            "SELECT slot, units FROM slots WHERE budget = ? AND rate = ? ORDER BY slot",
            (self._key, rate),
        )
        # Most readers stop early, and an open cursor holds up the commit.
        with closing(found):
            yield from found

    def add(self, rate: int, slot: int, units: int) -> None:
        """Add *units* to *slot*."""
        self._rows.execute(
            "INSERT INTO slots VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET units = units + excluded.units",
            (self._key, rate, slot, units),
        )

    def drop_before(self, rate: int, slot: int) -> int:
        """Forget all slots before *slot*; return their units."""
        which = (self._key, rate, slot)
        count, units = self._rows.execute(
            "SELECT count(*), coalesce(sum(units), 0) FROM slots"
            " WHERE budget = ? AND rate = ? AND slot < ?",
            which,
        ).fetchone()
        if count:
            self._rows.execute(
                "DELETE FROM slots WHERE budget = ? AND rate = ? AND slot < ?", which
            )
        return int(units)

    def entry(self, name: str) -> Entry | None:
        """Return the entry of that name, or None."""
        row = self._rows.execute(
            "SELECT entry FROM entries WHERE budget = ? AND name = ?", (self._key, name)
        ).fetchone()
        return None if row is None else _entry(row[0])

    def put(self, name: str, entry: Entry) -> None:
        """Keep *entry* under *name*."""
        self._rows.execute(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)",
            (self._key, name, jsontext.encode(entry)),
        )

    def drop(self, name: str) -> None:
        """Forget the entry of that name."""
        self._rows.execute("DELETE FROM entries WHERE budget = ? AND name = ?", (self._key, name))

    def entries(self) -> list[tuple[str, Entry]]:
        """Return every entry and its name."""
        found = self._rows.execute(
            "SELECT name, entry FROM entries WHERE budget = ? ORDER BY name", (self._key,)
        ).fetchall()
        return [(name, _entry(text)) for name, text in found]


def _forget(connection: sqlite3.Connection, key: int) -> None:
    connection.execute("DELETE FROM slots WHERE budget = ?", (key,))
    connection.execute("DELETE FROM entries WHERE budget = ?", (key,))
    connection.execute("DELETE FROM budgets WHERE id = ?", (key,))


def _entry(text: bytes) -> Entry:
    fields: dict[str, Any] = jsontext.decode(text)
    return Entry(**fields)


def _number(connection: sqlite3.Connection, sql: str) -> int:
    return int(connection.execute(sql).fetchone()[0])
