"""checkpoint= and the arguments that only mean something beside it.

Holds: `Keeping`, which opens the recorder of a run when the run begins. Does
not hold: the file or its rules (journal/checkpoint.py), nor the run (engine.py).
Threads: for the calling thread of the run.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import attrs

from lionlite.calls.journal.checkpoint import open_checkpoint
from lionlite.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from lionlite.calls.item import Recorder

DEFAULTS = {
    "replay": True,
    "version": None,
    "key": None,
    "encode": None,
    "decode": None,
    "durability": "process",
}
KEEPING = ("checkpoint", *DEFAULTS)
"""The names of the arguments that this module takes."""


@attrs.frozen
class Keeping:
    """What a run is to keep, and where.

    Attributes:
        path: The file of the checkpoint; None = nothing is kept.
        arguments: As `open_checkpoint` takes them.
    """

    path: str | os.PathLike[str] | None
    arguments: dict[str, Any]

    @property
    def resume(self) -> str | None:
        """How to go on after an interruption, as a sentence."""
        if self.path is None:
            return None
        path = os.fspath(self.path)
        return f"The same call with checkpoint={path!r} goes on from here."

    def opened(self, func: Callable[[Any], Any]) -> AbstractContextManager[Recorder | None]:
        """Return the recorder of a run of *func*, in a context manager that closes it.

        Raises:
            ConfigError: An argument is wrong.
            CheckpointError: The file cannot be used, or another run has it.
        """
        if self.path is None:
            return nullcontext()
        return open_checkpoint(self.path, func, **self.arguments)


def keeping_from(checkpoint: str | os.PathLike[str] | None, **arguments: Any) -> Keeping:
    """Return what a user asked to keep.

    Raises:
        ConfigError: An argument was given that only means something with *checkpoint*.
    """
    if checkpoint is None:
        for name, default in DEFAULTS.items():
            if arguments[name] is not default and arguments[name] != default:
                msg = f'{name}= says how a checkpoint is kept: pass checkpoint="run.db" too.'
                raise ConfigError(msg)
    return Keeping(checkpoint, arguments)
