"""Showing how far a mapping call is: a bar, or the user's own function.

Holds: `Progress`. The only module that imports tqdm, and only when a bar is
asked for. Does not hold: when to show (engine.py). Used by the calling thread
only, with no lock held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing import Any

Show = Callable[[int, int | None], object]


class Progress(Protocol):
    """Something that shows how far the run is."""

    def show(self, done: int) -> None:
        """Show that *done* items have finished or failed."""

    def close(self) -> None:
        """Leave the last picture as it is; nothing is shown after this."""


class Bar:
    """A tqdm bar, in a terminal or a notebook."""

    def __init__(self, total: int | None) -> None:
        # Costs about as much as the rest of lionlite, so not before it is asked for.
        from tqdm.auto import tqdm  # noqa: PLC0415

        self._bar: Any = tqdm(total=total, unit="item")

    def show(self, done: int) -> None:
        """Show that *done* items have finished or failed."""
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leave the bar on the screen."""
        self._bar.close()


class Calls:
    """The user's own function, called with the items done and their total."""

    def __init__(self, show: Show, total: int | None) -> None:
        self._show = show
        self._total = total

    def show(self, done: int) -> None:
        """Call the function."""
        self._show(done, self._total)

    def close(self) -> None:
        """Do nothing: the function has heard all."""


def progress_from(wanted: bool | Show, total: int | None) -> Progress | None:  # noqa: FBT001
    """Return what shows the run, None if nothing does."""
    if callable(wanted):
        return Calls(wanted, total)
    return Bar(total) if wanted else None
