"""checkpoint=: a run that a kill does not undo.

Holds: `open_checkpoint` and `Checkpoint`, the recorder of one run. Does not
hold: one item (item.py), the names of all (names.py), the file (file.py), or
the run.

An item is known by its key, a chat by its item, its request and which one of
those it is. What was asked decides, so a changed prompt, model or input is
asked anew, and nothing else is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from lionlite.calls.journal.file import JournalFile
from lionlite.calls.journal.item import ItemJournal, Terms
from lionlite.calls.journal.keys import name_of, shortened
from lionlite.calls.journal.names import Names
from lionlite.calls.journal.rows import Run
from lionlite.calls.journal.values import Values
from lionlite.exceptions import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

Durability = Literal["process", "power"]


def open_checkpoint(
    path: str | os.PathLike[str],
    func: object,
    *,
    replay: bool = True,
    version: str | int | None = None,
    key: Callable[[Any], str | int] | None = None,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
    durability: Durability = "process",
    names: Names | None = None,
) -> Checkpoint:
    """Open the checkpoint file at *path* for one run of *func*; make it if there is none.

    An item that made chats runs again, with its finished chats answered from
    the file; one that made none is taken from the file, if its input, the name
    of *func* and *version* are the same and it did not fail. A retry within a
    run is answered alike if a chat had failed; if *func* itself did, all of
    the item's chats are asked anew.

    Args:
        path: The file. Its folder must exist. It holds what was asked for and
            answered as plain JSON, readable to its owner alone, and no key.
        func: The function of the run. Its name is kept, with the arguments of
            a `functools.partial`; its code is not looked at.
        replay: False = also an item that made chats is taken from the file.
        version: Change it when *func* changed and items without chats are to
            be done again.
        key: From an item to a text or int that names it in all runs; None =
            its own JSON. Items of one name are told apart by their order.
        encode: From a result to what JSON knows, where it is no JSON.
        decode: From what the JSON says to the result again. Without it, a
            result taken from the file is plain JSON: a tuple is a list; and so
            that all runs agree, it is so in the run that made it too.
        durability: "process": what is finished survives the kill of the
            process. "power": and a power cut; each commit waits for the disk.
        names: Those that the items have so far, kept for a run that retries
            this one; None = nobody will.

    Raises:
        ConfigError: An argument is wrong.
        CheckpointError: The file cannot be made or opened, is no checkpoint,
            is damaged or of a newer version, or another run has it.

    Threads: the calling thread opens, begins items and closes.
    """
    place = _path_from(path)
    _check(replay=replay, durability=durability, key=key, encode=encode, decode=decode)
    run = Run(
        function=name_of(func),
        version=_version_from(version),
        library=_library(),
        process=os.getpid(),
    )
    file = JournalFile(place, run, is_power_safe=durability == "power")
    values = Values(encode, decode)
    return Checkpoint(file, run, replays=replay, key=key, values=values, names=names)


class Checkpoint:
    """The recorder of one run: a `Recorder`, and a context manager that closes.

    Args:
        file: Where it is kept.
        run: What the run is.
        replays: As *replay* of `open_checkpoint`.
        key: As there.
        values: How results become text.
        names: As there.

    Threads: `begin` and `close` belong to the thread that opened it, what
    `begin` returns to the workers.
    """

    def __init__(
        self,
        file: JournalFile,
        run: Run,
        *,
        replays: bool,
        key: Callable[[Any], str | int] | None,
        values: Values,
        names: Names | None,
    ) -> None:
        self._file = file
        self._key = key
        self._trouble: CheckpointError | None = None
        self._terms = Terms(file, run.function, run.version, replays, values, self._refuse)
        self._names = Names() if names is None else names
        self._may_be_retried = names is not None

    @property
    def path(self) -> str:
        """The absolute path of the file."""
        return self._file.path

    @property
    def trouble(self) -> CheckpointError | None:
        """Why no new item may start, None while all is well."""
        return self._trouble or self._file.trouble

    def begin(self, index: int, item: object) -> ItemJournal:
        """Return the record of the item at *index*.

        Raises:
            CheckpointError: The item has no name, the file cannot be read, or
                a user's function failed; no item may be begun any more.
        """
        identity, nth = self._names.of(index, item, self._key)
        if not self._may_be_retried:
            self._names.finished(index)
        return ItemJournal(self._terms, identity, nth, index)

    def close(self) -> None:
        """Note the end of the run and let others have the file.

        Records of items that still run keep nothing from now on.
        """
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Checkpoint {self.path}>"

    def _refuse(self, trouble: CheckpointError) -> None:
        # One assignment, so no lock; if two items come at once, either will do.
        if self._trouble is None:
            self._trouble = trouble


def _path_from(path: object) -> str:
    try:
        text = os.fspath(path)  # type: ignore[call-overload]
    except TypeError:
        text = b""
    if not isinstance(text, str) or not text or text == ":memory:" or "\0" in text:
        msg = f"checkpoint= takes the path of a file, such as 'run.db'; got {path!r}."
        raise ConfigError(msg)
    # Now: a later chdir must not lead to another file. Links of folders are
    # followed, so that one file has one name and one lock.
    folder, name = os.path.split(os.path.abspath(text))  # noqa: PTH100
    return os.path.join(os.path.realpath(folder), name)  # noqa: PTH118


def _check(*, replay: object, durability: object, **functions: object) -> None:
    if not isinstance(replay, bool):
        msg = f"replay must be True or False; got {replay!r}."
        raise ConfigError(msg)
    if durability not in get_args(Durability):
        msg = f'durability must be "process" or "power"; got {durability!r}.'
        raise ConfigError(msg)
    for name, function in functions.items():
        if not (function is None or callable(function)):
            msg = f"{name} must be a function of one argument; got {type(function).__name__}."
            raise ConfigError(msg)


def _version_from(version: object) -> str:
    if version is None:
        return ""
    if isinstance(version, (str, int)) and not isinstance(version, bool):
        return shortened(str(version).encode(errors="replace").decode())
    msg = f"version must be a text or an int; got {type(version).__name__}."
    raise ConfigError(msg)


def _library() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - costs 20 ms

    try:
        return version("lionlite")
    except PackageNotFoundError:  # pragma: no cover - used from a bare source tree
        return "unknown"
