"""From a path to a connection on a checkpoint file that is known to be sound.

Holds: `connect`, `connect_reading`, and how failures of the file are said.
Does not hold: who may write it (claim.py) or what becomes of the
connection. A file that is not ours, or is damaged, is left as it was found.

Threads: safe anywhere; the connections may be used in any thread, one at a time.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from lionlite.calls.journal import rows
from lionlite.calls.journal.claim import make_file
from lionlite.exceptions import CheckpointError

PATIENCE_S: Final = 5.0
"""How long to wait for another program that has locked the file. No other run
can have it, and reading it locks out nobody."""

_HEAD_BYTES: Final = 100

_FIRST_PAUSE_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 0.05
# SQLite's own waiting for a lock sleeps up to 100 ms, while a commit takes 0.1 ms.

_CURES: Final = {
    sqlite3.SQLITE_FULL: "Make room on the disk",
    sqlite3.SQLITE_IOERR: "Look after the disk: it may be full or failing",
    sqlite3.SQLITE_BUSY: "End the other program that has locked it",
    sqlite3.SQLITE_LOCKED: "End the other program that has locked it",
    sqlite3.SQLITE_READONLY: "Make the file and its folder writable",
    sqlite3.SQLITE_PERM: "Make the file and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "Make the file and its folder writable",
    sqlite3.SQLITE_CORRUPT: "Restore it from a copy, or pass another file",
    sqlite3.SQLITE_NOTADB: "Restore it from a copy, or pass another file",
}


def connect(path: str, *, library: str, is_power_safe: bool) -> sqlite3.Connection:
    """Return a connection that writes the checkpoint at *path*, made if there is none.

    Raises:
        CheckpointError: It cannot be made or opened, is no checkpoint, is
            damaged, or was made by a newer version.
    """
    is_empty = make_file(path)
    try:
        if not is_empty:
            _check(path)
        return _prepared(path, library, is_power_safe=is_power_safe)
    except (sqlite3.Error, OSError) as exc:
        raise failure(path, "cannot be used", exc) from exc


def connect_reading(path: str) -> sqlite3.Connection:
    """Return a connection that only reads; of a file that a run may be writing.

    Raises:
        CheckpointError: There is none, or as for `connect`.
    """
    if not os.path.isfile(path):  # noqa: PTH113 - all paths here are text
        msg = f"There is no checkpoint {path}."
        raise CheckpointError(msg)
    try:
        _check_marks(path)
        connection = _reading(path)
        connection.execute(f"PRAGMA busy_timeout = {PATIENCE_S * 1000:.0f}")
    except (sqlite3.Error, OSError) as exc:
        raise failure(path, "cannot be read", exc) from exc
    return connection


def when_free(connection: sqlite3.Connection, sql: str) -> sqlite3.Cursor:
    """Execute *sql*, for `PATIENCE_S` again and again while another has the lock."""
    pause_s, waited_s = _FIRST_PAUSE_S, 0.0
    while True:
        try:
            return connection.execute(sql)
        except sqlite3.OperationalError as exc:
            if code_of(exc) != sqlite3.SQLITE_BUSY or waited_s >= PATIENCE_S:
                raise
        time.sleep(pause_s)
        waited_s += pause_s
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def failure(path: str, what: str, exc: Exception) -> CheckpointError:
    """Return the error for a checkpoint that failed with *exc*.

    Args:
        path: Of the file.
        what: Such as "cannot be read".
        exc: Of SQLite or of the system.
    """
    if isinstance(exc, FileNotFoundError):
        why, cure = "it was deleted or replaced", "Leave it alone while a run goes on"
    else:
        why = f"{getattr(exc, 'strerror', None) or exc}"
        cure = _CURES.get(code_of(exc), "Make the file and its folder usable")
    return CheckpointError(f"The checkpoint {path} {what}: {why}. {cure}, and run again.")


def code_of(exc: Exception) -> int:
    """Return SQLite's primary code of *exc*, 0 if it has none."""
    return int(getattr(exc, "sqlite_errorcode", 0)) & 0xFF


def _reading(path: str) -> sqlite3.Connection:
    # Without a log nobody has the file, so no lock is needed; and a reader's
    # lock would leave a log and an index behind.
    has_log = os.path.exists(f"{path}-wal")  # noqa: PTH110
    return _connection(path, "ro" if has_log else "ro&immutable=1")


def _connection(path: str, mode: str) -> sqlite3.Connection:
    # By an address, so that SQLite never makes the file: it would ask the umask.
    # Autocommit: the transactions are ours. Waiting for locks is, too.
    return sqlite3.connect(
        f"{Path(path).as_uri()}?mode={mode}",
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
    )


def _check(path: str) -> None:
    """Refuse a file that is not ours or is damaged, without changing it."""
    _check_marks(path)
    if os.path.exists(f"{path}-journal"):  # noqa: PTH110
        # Killed while its tables were made, which only a writer can undo.
        return
    with closing(_reading(path)) as connection:
        found = " ".join(rows.damage(connection).split())
    if found:
        cure = _CURES[sqlite3.SQLITE_CORRUPT]
        msg = f"The checkpoint {path} cannot be used: {found}. {cure}. It was left as it is."
        raise CheckpointError(msg)


def _check_marks(path: str) -> None:
    # The file's own bytes: SQLite would want locks, and files beside it.
    with open(path, "rb") as file:  # noqa: PTH123 - all paths here are text
        head = file.read(_HEAD_BYTES)
    application, schema = rows.marks_in(head)
    if application != rows.APPLICATION_ID:
        msg = f"The file {path} is no checkpoint: pass another path. It was left as it is."
        raise CheckpointError(msg)
    if schema > rows.SCHEMA:
        msg = (
            f"The checkpoint {path} was made by a newer lionlite (schema {schema}, this one knows "
            f"{rows.SCHEMA}): upgrade lionlite, or pass another path. It was left as it is."
        )
        raise CheckpointError(msg)


def _prepared(path: str, library: str, *, is_power_safe: bool) -> sqlite3.Connection:
    connection = _connection(path, "rw")
    try:
        # The tables come before the write-ahead log, so that the file itself
        # says what it is from its first moment.
        if not rows.has_tables(connection):
            when_free(connection, "BEGIN IMMEDIATE")
            rows.make_tables(connection, library)
            connection.execute("COMMIT")
        _have_log(connection, path)
        # NORMAL hands each commit to the system, which survives the kill of
        # the process; FULL waits for the disk, which survives the power cut.
        connection.execute(f"PRAGMA synchronous = {'FULL' if is_power_safe else 'NORMAL'}")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.close()
        raise
    return connection


def _have_log(connection: sqlite3.Connection, path: str) -> None:
    (mode,) = when_free(connection, "PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        msg = f"The checkpoint {path} cannot have a log where it is: put it on a local disk."
        raise CheckpointError(msg)
