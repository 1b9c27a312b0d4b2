"""An open checkpoint file: one connection, and commits that many share.

Holds: `JournalFile`: `write`, which returns when what it wrote survives a
kill, `read`, and the end. Does not hold: what is written (item.py), the
rows' form (rows.py), or opening (opening.py, claim.py).

Threads: `write` and `read` may be called in any. Of the writers that come
while a commit is under way, one commits for all, so a commit that waits for
the disk costs many threads no more than one. A forked child writes nothing.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from lionlite.calls.journal import rows
from lionlite.calls.journal.claim import Claim
from lionlite.calls.journal.opening import connect, failure, when_free

if TYPE_CHECKING:
    from collections.abc import Callable

    from lionlite.exceptions import CheckpointError

T = TypeVar("T")

CLOSE_S: Final = 0.5
"""How long closing waits for a commit under way; the thread that commits then
closes the connection itself. Ctrl-C shall be back within a second."""


MOST_WAITING: Final = 100
"""Deeds that may wait for a commit that has another reason."""

LOOK_S: Final = 0.1
"""How often to look whether the file is still where it was. Two looks cost 20 us
(measured), a third of a commit."""


class JournalFile:
    """One open checkpoint file.

    Args:
        path: Absolute path; the file is made if there is none.
        run: What is noted of this run.
        is_power_safe: Whether a commit waits for the disk, not just the system.

    Attributes:
        path: As given.
        identity: What tells this file from all others, made with it.
        is_fresh: Whether it held no items when it was opened.
        run: The row of this run.
        trouble: Why nothing is written any more, None while all is well.

    Raises:
        CheckpointError: It cannot be made or opened, is no checkpoint, is
            damaged, was made by a newer version, or another run has it.

    Threads: opened and closed by one thread, used by any.
    """

    def __init__(self, path: str, run: rows.Run, *, is_power_safe: bool) -> None:
        self.path = path
        self.trouble: CheckpointError | None = None
        self._process = os.getpid()
        # Guards the connection and `trouble`; held while a commit or a look-up
        # is on its way to the disk.
        self._lock = threading.Lock()
        self._is_over = False
        self._is_abandoned = False
        # Appended to by every writer, emptied by the one that has the lock.
        self._waiting: deque[_Ticket] = deque()
        self._files: list[tuple[str, tuple[int, int]]] = []
        self._look_again_s = 0.0
        self._claim = Claim(path)
        try:
            self._connection = connect(path, library=run.library, is_power_safe=is_power_safe)
            try:
                self._begin(run)
            except BaseException:
                self._connection.close()
                raise
        except BaseException:
            self._claim.release()
            raise

    @property
    def is_ours(self) -> bool:
        """Whether this process opened it: a forked child only has a copy."""
        return self._process == os.getpid()

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Return what *query* finds.

        Raises:
            CheckpointError: The file cannot be read, or had trouble before.
        """
        with self._lock:
            if self.trouble is not None:
                raise self.trouble
            try:
                return query(self._connection)
            except sqlite3.Error as exc:
                raise self._given_up(exc) from exc

    def write(self, deed: rows.Deed) -> None:
        """Do *deed* in a transaction; when this returns, it is committed.

        Raises nothing: if it could not be committed, `trouble` says why, and
        from then on nothing is written. After `close` it does nothing.

        Args:
            deed: Writes by the connection that it is given, in whichever
                thread commits; it must not fail by itself.
        """
        if not self.is_ours:
            return
        ticket = _Ticket(deed)
        self._waiting.append(ticket)
        with self._lock:
            if ticket.is_done or self._is_over:
                return
            try:
                self._commit()
            finally:
                if self._is_abandoned:
                    self._connection.close()

    def write_later(self, deed: rows.Deed) -> None:
        """Do *deed* with the next commit, or at the end; for what a kill may take.

        Args:
            deed: As for `write`.
        """
        if not self.is_ours:
            return
        self._waiting.append(_Ticket(deed))
        if len(self._waiting) >= MOST_WAITING:
            # A run that is answered from the file alone may commit nothing else.
            self.write(_nothing)

    def next_item(self) -> int:
        """Return the id of an item that is to be added; for deeds only."""
        self._last_item += 1
        return self._last_item

    def close(self) -> None:
        """Note the end of the run and let others have the file.

        A second call does nothing, nor does one in a forked child.
        """
        if self._is_over or not self.is_ours:
            return
        self._is_over = True
        try:
            is_free = self._lock.acquire(timeout=CLOSE_S)
            if not is_free:
                # Whoever commits sees it before he gives the lock back.
                self._is_abandoned = True
                is_free = self._lock.acquire(blocking=False)
            if is_free:
                try:
                    self._end()
                finally:
                    self._lock.release()
        finally:
            self._claim.release()

    def _begin(self, run: rows.Run) -> None:
        try:
            # Before anything is paid for: this shows whether it can be written.
            self.run = self._in_transaction(lambda: rows.begin_run(self._connection, run))
            self.identity = rows.identity(self._connection)
            self._last_item = rows.last_item(self._connection)
            self.is_fresh = self._last_item == 0
            # The log is there since the run was noted.
            self._files = [(path, _file_at(path)) for path in (self.path, f"{self.path}-wal")]
        except (sqlite3.Error, OSError) as exc:
            raise failure(self.path, "cannot be written", exc) from exc

    def _end(self) -> None:
        try:
            self._commit()
            if self.trouble is None:
                self._in_transaction(lambda: rows.end_run(self._connection, self.run))
        except (sqlite3.Error, OSError) as exc:
            self._given_up(exc)
        finally:
            self._connection.close()

    def _commit(self) -> None:
        """Do all deeds that wait, in one transaction."""
        batch: list[_Ticket] = []
        while self._waiting:
            batch.append(self._waiting.popleft())
        try:
            if batch and self.trouble is None:
                self._in_transaction(lambda: _do_all(self._connection, batch))
        except Exception as exc:  # noqa: BLE001 - whatever it is, it must not reach a chat
            self._given_up(exc)
        except BaseException:
            # What the deeds noted of their rows is not true any more.
            self._given_up(InterruptedError("interrupted while it was written"))
            raise
        finally:
            for ticket in batch:
                ticket.is_done = True

    def _in_transaction(self, work: Callable[[], T]) -> T:
        self._refuse_if_moved()
        when_free(self._connection, "BEGIN IMMEDIATE")
        try:
            result = work()
            self._connection.execute("COMMIT")
        except BaseException:
            # Some errors of SQLite have undone it already.
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise
        return result

    def _refuse_if_moved(self) -> None:
        # SQLite itself would go on writing into a file that has lost its name.
        if time.monotonic() < self._look_again_s:
            return
        for path, file in self._files:
            if _file_at(path) != file:
                raise FileNotFoundError(path)
        self._look_again_s = time.monotonic() + LOOK_S

    def _given_up(self, exc: Exception) -> CheckpointError:
        if self.trouble is None:
            self.trouble = failure(self.path, "cannot be used any more", exc)
            # Without its frames: they would hold this file in a cycle.
            self.trouble.__cause__ = exc.with_traceback(None)
        return self.trouble


class _Ticket:
    """A deed that waits for its commit."""

    __slots__ = ("deed", "is_done")

    def __init__(self, deed: rows.Deed) -> None:
        self.deed = deed
        # Set by whoever has the lock, when nothing more will be done for it.
        self.is_done = False


def _do_all(connection: sqlite3.Connection, batch: list[_Ticket]) -> None:
    for ticket in batch:
        ticket.deed(connection)


def _nothing(_: sqlite3.Connection) -> None:
    """Write nothing; what waits is written with it."""


def _file_at(path: str) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116 - on the way of every commit
    return found.st_dev, found.st_ino
