"""What an error means for the run that it comes up in.

Holds: `Rules`. Does not hold: what is done about it (engine.py, pool.py).
Threads: asked by workers and by the calling thread; takes no lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from lionlite.calls.verdict import is_fatal
from lionlite.exceptions import Cancelled

if TYPE_CHECKING:
    from lionlite.calls.asked import OnError
    from lionlite.calls.item import Recorder
    from lionlite.scope import CancelToken


@attrs.frozen
class Rules:
    """What an error means for the run.

    Attributes:
        on_error: As in `Options`.
        token: Cancelled when the run is.
        recorder: Who keeps what becomes of the items, None if nobody does.
    """

    on_error: OnError
    token: CancelToken
    recorder: Recorder | None

    def closes(self, error: BaseException | None) -> bool:
        """Return whether no new item may start after *error*, or after a value.

        Threads: called by workers; never raises.
        """
        return self.is_in_trouble() or (error is not None and self.ends(error))

    def ends(self, error: BaseException) -> bool:
        """Return whether *error* is one that the run ends with."""
        return (
            self.on_error == "stop"
            or isinstance(error, KeyboardInterrupt)
            or is_fatal(error)
            or self.is_cut(error)
        )

    def is_in_trouble(self) -> bool:
        """Return whether the recorder can keep nothing more."""
        return self.recorder is not None and self.recorder.trouble is not None

    def is_cut(self, error: BaseException) -> bool:
        """Return whether *error* says only that the run was cancelled."""
        return self.token.is_cancelled and has_cancel(error)

    def is_value(self, error: BaseException) -> bool:
        """Return whether *error* is to stand where the value would."""
        return self.on_error == "return" and not self.ends(error)


def has_cancel(error: BaseException) -> bool:
    """Return whether *error* is `Cancelled`, or was raised because of one.

    A function may wrap the errors of its chats in one of its own.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, Cancelled):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False
