"""One run per checkpoint file: who has it, and making it.

Holds: `Claim`, a lock of the system on `<file>.lock`, and `make_file`. Does not
hold: what is in the file (file.py). A claim ends with its process,
however that ends; a forked child neither holds nor breaks it.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import weakref
from contextlib import suppress
from typing import Final

from lionlite.exceptions import CheckpointError

if sys.platform == "win32":  # pragma: no cover - the gate runs on Linux
    import msvcrt
else:
    import fcntl

_OWNER_ONLY: Final = 0o600
# Windows has no such flag, and no such danger: making links takes rights there.
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)


_IS_TAKEN: Final = frozenset({errno.EWOULDBLOCK, errno.EACCES})


class Claim:
    """The sole right to write one checkpoint file.

    Args:
        path: Absolute path of the file, which may not exist yet.

    Raises:
        CheckpointError: Another run has it, of this process or of another, or
            the folder does not take files.

    Threads: made and released in one thread.
    """

    def __init__(self, path: str) -> None:
        self._path = f"{path}.lock"
        self._descriptor = self._taken(path)
        _live.add(self)

    def release(self) -> None:
        """Let others have the file. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        # While it is ours; whoever waits for it looks whether it is still there.
        with suppress(OSError):
            if _is_at(descriptor, self._path):
                os.unlink(self._path)  # noqa: PTH108 - all paths here are text
        # Not left to closing: a child that is being forked right now has a
        # copy of the descriptor, and the lock is one for both.
        with suppress(OSError):
            _unlock(descriptor)
        os.close(descriptor)

    def drop_after_fork(self) -> None:  # pragma: no cover - only in forked children
        """Forget it, in a forked child: the lock stays the parent's."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    def _taken(self, path: str) -> int | None:
        flags = os.O_RDWR | os.O_CREAT | _NO_LINK
        while True:
            try:
                descriptor = os.open(self._path, flags, _OWNER_ONLY)
            except OSError as exc:
                raise _no_place(path, exc) from exc
            try:
                _lock(descriptor)
            except OSError as exc:
                owner = _owner(descriptor)
                os.close(descriptor)
                if exc.errno in _IS_TAKEN:
                    raise _taken_by(path, owner) from exc
                raise _no_locks(path, exc) from exc
            if _is_at(descriptor, self._path):
                with suppress(OSError):
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, b"%d\n" % os.getpid())
                return descriptor
            # Whoever had it has just removed it, and may be followed already.
            os.close(descriptor)


def make_file(path: str) -> bool:
    """Make an empty file that only its owner may read, if there is none.

    Returns:
        Whether it is empty, and so ours to fill.

    Raises:
        CheckpointError: It is a link or no file, or cannot be made.
    """
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | _NO_LINK
        os.close(os.open(path, flags, _OWNER_ONLY))
    except FileExistsError:
        return _is_empty_file(path)
    except OSError as exc:
        raise _no_place(path, exc) from exc
    return True


def _is_empty_file(path: str) -> bool:
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            msg = f"The checkpoint {path} is a symbolic link: pass the path of the file itself."
            raise CheckpointError(msg)
        if not stat.S_ISREG(found.st_mode):
            msg = f"The checkpoint {path} is no file: pass the path of a file, such as run.db."
            raise CheckpointError(msg)
        if found.st_size == 0:
            os.chmod(path, _OWNER_ONLY)  # noqa: PTH101
    except OSError as exc:
        raise _no_place(path, exc) from exc
    return found.st_size == 0


def _no_place(path: str, exc: OSError) -> CheckpointError:
    folder = os.path.dirname(path)  # noqa: PTH120
    if not os.path.isdir(folder):  # noqa: PTH112
        msg = f"The checkpoint {path} needs the folder {folder}, which does not exist: make it."
        return CheckpointError(msg)
    msg = f"The checkpoint {path} cannot be opened: {exc.strerror or exc}."
    return CheckpointError(msg)


def _taken_by(path: str, owner: str) -> CheckpointError:
    msg = (
        f"The checkpoint {path} is in use by {owner}: two runs on one file would pay twice. "
        "Wait until that run has ended, or pass another file."
    )
    return CheckpointError(msg)


def _no_locks(path: str, exc: OSError) -> CheckpointError:
    msg = (
        f"The checkpoint {path} cannot be locked, and without that two runs could pay twice: "
        f"{exc.strerror or exc}. Put it on a local disk."
    )
    return CheckpointError(msg)


def _owner(descriptor: int) -> str:
    with suppress(OSError, ValueError):
        process = int(os.read(descriptor, 20))
        return "this process" if process == os.getpid() else f"process {process}"
    return "another run"


def _is_at(descriptor: int, path: str) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    return False


if sys.platform == "win32":  # pragma: no cover - the gate runs on Linux

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


_live: weakref.WeakSet[Claim] = weakref.WeakSet()


def _after_fork_in_child() -> None:  # pragma: no cover - only in forked children
    for claim in list(_live):
        claim.drop_after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
