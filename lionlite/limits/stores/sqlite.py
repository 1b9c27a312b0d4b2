"""Budgets in an SQLite file, for the processes of one machine.

Holds: `SqliteStore`: one transaction for each trip. Does not hold: what a
verb does (book.py), or the rows' form (rows.py). Time is the machine's, since
it was started: a wall clock that steps changes nothing. Safe to share between
threads and, through the file, between processes; not on a network drive. A
process that is stopped in the middle of a trip (a fraction of a millisecond)
keeps the lock of the file until it goes on, and the others get typed errors.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lionlite.limits.stores import rows
from lionlite.limits.stores.book import Book
from lionlite.limits.stores.boot import boot_us
from lionlite.limits.stores.doorway import Doorway
from lionlite.limits.stores.protocol import DIFFERS, LOST, Answer, Deed, store_down

if TYPE_CHECKING:
    from collections.abc import Callable

    from lionlite.exceptions import BudgetError

MOST_IDLE: Final = 4
"""Connections kept open. One trip takes a fraction of a millisecond, and only
one at a time may write."""

_FIRST_PAUSE_S: Final = 0.0003
_LONGEST_PAUSE_S: Final = 0.005
# SQLite's own waiting for a lock sleeps up to 100 ms, while a trip takes 0.3 ms.

_LASTING: Final = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_SCHEMA,
        sqlite3.SQLITE_ERROR,
    }
)
"""What does not mend itself while we wait."""


class SqliteStore:
    """Budgets in a file, which is made when it is first needed, readable to its owner.

    Args:
        path: Absolute path of the file.
        clock: Microseconds, the same for all processes that share the file.

    Attributes:
        where: The path, for messages.

    Threads: safe to share. Each trip has a connection for itself; deque.append
    and deque.pop are atomic. None is carried through a fork.
    """

    def __init__(self, path: str, *, clock: Callable[[], int] = boot_us) -> None:
        self.where = f"sqlite:///{path}"
        self._path = path
        self._clock = clock
        self._idle: deque[_Link] = deque()
        self._is_closed = False
        self._doorway = Doorway(self._close_idle)
        weakref.finalize(self, _close_all, self._idle)

    def trip(self, deed: Deed, within_s: float) -> Answer:
        """Do *deed* in one transaction; see `Store.trip`.

        Raises:
            BudgetError: The file cannot be used, or is locked for too long.
        """
        until_s = time.monotonic() + within_s
        try:
            return self._doorway.within(lambda: self._trip(deed, until_s), until_s)
        except sqlite3.Error as exc:
            raise self._failure(exc) from exc
        except OSError as exc:
            raise store_down(self.where, exc.strerror or exc) from exc
        except rows.StrangeFile as exc:
            raise store_down(self.where, exc, retryable=False) from exc

    def close(self) -> None:
        """Close what is idle; later trips open a connection each."""
        self._is_closed = True
        self._close_idle()

    def __repr__(self) -> str:
        return f"<SqliteStore {self.where}>"

    def _trip(self, deed: Deed, until_s: float) -> Answer:
        link = self._link(until_s)
        try:
            answer = link.do(deed, self._clock(), until_s)
        except BaseException:
            link.close()
            raise
        if self._is_closed or len(self._idle) >= MOST_IDLE:
            link.close()
        else:
            self._idle.append(link)
        return answer

    def _link(self, until_s: float) -> _Link:
        """Return a connection to the file that has the path now."""
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                return _Link(self._path, until_s)
            if link.is_current():
                return link
            link.close()

    def _close_idle(self) -> None:
        _close_all(self._idle)

    def _failure(self, exc: sqlite3.Error) -> BudgetError:
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        is_lasting = code in _LASTING
        cure = " (delete the file to begin anew)" if code in _BROKEN else ""
        return store_down(self.where, f"{exc}{cure}", retryable=not is_lasting)


_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class _Link:
    """One connection; one thread has it at a time."""

    def __init__(self, path: str, until_s: float) -> None:
        self._path = path
        _make_file(path)
        # Autocommit: the transactions are ours. Waiting for locks is, too.
        self._rows = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._file = _file_at(path)
            for sql in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL"):
                _when_free(self._rows, sql, until_s)
            _when_free(self._rows, "BEGIN IMMEDIATE", until_s)
            rows.prepare(self._rows)
            self._rows.execute("COMMIT")
        except BaseException:
            self.close()
            raise

    def is_current(self) -> bool:
        """Whether the file was not deleted or replaced since it was opened."""
        with suppress(OSError):
            return _file_at(self._path) == self._file
        return False

    def do(self, deed: Deed, now: int, until_s: float) -> Answer:
        """Do *deed* in one transaction that begins with the lock."""
        _when_free(self._rows, "BEGIN IMMEDIATE", until_s)
        answer = _done(self._rows, deed, now)
        self._rows.execute("COMMIT")
        return answer

    def close(self) -> None:
        """Close the connection; an open transaction is undone."""
        with suppress(sqlite3.Error):
            self._rows.close()


def _done(connection: sqlite3.Connection, deed: Deed, now: int) -> Answer:
    is_entering = deed.verb == "enter"
    if is_entering:
        rows.purge(connection, now)
    found = rows.load(connection, deed.budget, now)
    if found is None:
        if not is_entering:
            return [LOST]
        found = rows.make(connection, deed, now)
    key, head = found
    if head.text != deed.terms.text:
        return [DIFFERS, head.text] if is_entering else [LOST]
    if not is_entering and (head.epoch != deed.epoch or head.version < deed.version):
        return [LOST]
    book = Book(deed.terms, head, rows.Rows(connection, key), now)
    answer: Answer = getattr(book, deed.verb)(*deed.args)
    rows.save(connection, key, head)
    return answer


def _when_free(connection: sqlite3.Connection, sql: str, until_s: float) -> None:
    """Execute *sql*, again and again until no other connection is in the way."""
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            connection.execute(sql)
        except sqlite3.OperationalError as exc:
            is_busy = exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() + pause_s >= until_s:
                raise
        else:
            return
        # Jitter: those who wait must not come back together.
        time.sleep(pause_s * (0.5 + random.random()))  # noqa: S311 - no secret
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _make_file(path: str) -> None:
    """Make an empty file that only its owner may read, if there is none.

    Without opening it under its name: closing a descriptor of a file drops all
    locks that this process has on it, those of other connections too.
    """
    if os.path.exists(path):  # noqa: PTH110 - on the way of every connection
        return
    fresh = f"{path}.{os.getpid()}.{random.getrandbits(32):08x}"
    descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    os.close(descriptor)
    try:
        # Never over another's: a second link of that name is refused.
        with suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        os.unlink(fresh)  # noqa: PTH108 - as above


def _file_at(path: str) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116 - on the way of every trip
    return found.st_dev, found.st_ino


def _close_all(idle: deque[_Link]) -> None:
    while True:
        try:
            idle.pop().close()
        except IndexError:
            return
