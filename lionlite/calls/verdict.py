"""The errors with which a mapping call ends, made from what happened.

Holds: `Tally`, and pure functions that build `CallError` and `Interrupted`
with a message that says how much failed, why, and what to do. Does not hold:
when to raise them (engine.py). Pure, so safe anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from lionlite.exceptions import CallError, CheckpointError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Enough for a provider's own sentence; the whole error is the cause anyway.
MOST_CHARS = 300


@attrs.frozen
class Tally:
    """Where a run stands.

    Attributes:
        pulled: Items read from the input.
        results: A place for each of them, or nothing if all were handed over.
        failed: The error of each failed item that was not handed over.
    """

    pulled: int
    results: Sequence[object]
    failed: Mapping[int, BaseException]

    @property
    def share(self) -> str:
        """How many failed, as the beginning of a sentence."""
        return f"{len(self.failed)} of {self.pulled} items failed"

    def error(self, msg: str, *, fatal: bool = False) -> CallError:
        """Return a `CallError` that carries everything finished."""
        msg = f"{msg} Everything finished is in .results, the errors are in .failed."
        return CallError(msg, results=self.results, failed=self._in_order(), fatal=fatal)

    def interrupted(self, *, ended: int, running: int, resume: str | None = None) -> Interrupted:
        """Return what Ctrl-C raises; *running* items did not come back."""
        left = f" {running} still run; Python waits for them at exit." if running else ""
        way = f" {resume}" if resume else ""
        msg = (
            f"Interrupted: {ended} of {self.pulled} items read from the input had ended.{left} "
            f"Everything finished is in .results, the errors are in .failed.{way}"
        )
        return Interrupted(msg, results=self.results, failed=self._in_order())

    def _in_order(self) -> dict[int, BaseException]:
        return dict(sorted(self.failed.items()))


def items_failed(tally: Tally, first: int) -> CallError:
    """Return the error for items that failed; *first* is the one to name."""
    error = tally.failed[first]
    fatal = is_fatal(error)
    cure = (
        "It is fatal, the other items would fail alike, so no more were started."
        if fatal
        else 'Pass on_error="return" to get errors in their places.'
    )
    return tally.error(f"{tally.share}. Index {first}: {describe(error)}. {cure}", fatal=fatal)


def input_failed(tally: Tally, error: BaseException) -> CallError:
    """Return the error for an input that raised instead of giving an item."""
    what = f"The input failed at index {tally.pulled}: {describe(error)}"
    return tally.error(f"{what}. {tally.share} before it.")


def begin_failed(tally: Tally, error: BaseException) -> CallError:
    """Return the error for an item that could not be told from others, or looked up."""
    what = f"The item at index {tally.pulled - 1} could not be begun: {describe(error)}"
    return tally.error(f"{what}. {tally.share} before it.")


def kept_no_more(tally: Tally, trouble: BaseException) -> CheckpointError:
    """Return the error for a run whose recorder could keep no more."""
    what = describe(trouble).removeprefix("CheckpointError: ")
    msg = (
        f"{what}. No new items were started; {tally.share}. Everything finished is "
        "in .results, the errors are in .failed; what is not in the file runs again next time."
    )
    return CheckpointError(msg, results=tally.results, failed=dict(sorted(tally.failed.items())))


def thread_failed(tally: Tally, error: BaseException) -> CallError:
    """Return the error for a run that got no thread to go on with."""
    cure = "Pass a lower max_workers, or make the call before the program ends."
    return tally.error(f"No thread for the items: {describe(error)}. {tally.share}. {cure}")


def progress_failed(tally: Tally, error: BaseException) -> CallError:
    """Return the error for a progress function that raised."""
    return tally.error(f"All items ran, but progress= raised {describe(error)}. {tally.share}.")


def describe(error: BaseException) -> str:
    """Return the class and the text of *error*, even if its text is broken."""
    kind = type(error).__name__
    try:
        text = str(error).removesuffix(".")
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the failure
        return f"{kind} (its text cannot be read)"
    if len(text) > MOST_CHARS:
        text = text[:MOST_CHARS] + "..."
    return f"{kind}: {text}" if text else kind


def is_fatal(error: BaseException) -> bool:
    """Return whether every other item would fail in the same way."""
    try:
        return getattr(error, "fatal", False) is True
    except Exception:  # noqa: BLE001 - asked in workers, where nothing may escape
        return False
