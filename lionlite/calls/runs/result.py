"""A run as its caller sees it: a sequence of outcomes, with sums and exports.

Holds: `Run`. Does not hold: how a run is made (run.py), what a summary says
(shown.py), tables and files (table.py, export.py, frames.py).
Threads: safe to read anywhere, also while the run goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from lionlite.calls.runs import shown
from lionlite.calls.runs.export import write_csv, write_jsonl
from lionlite.calls.runs.frames import pandas_frame, polars_frame
from lionlite.calls.runs.outcome import Outcome, total_cost, total_usage
from lionlite.calls.runs.table import columns_of, rows_of
from lionlite.exceptions import ConfigError
from lionlite.records import Usage

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from lionlite.calls.runs.frames import PandasFrame, PolarsFrame
    from lionlite.calls.runs.outcome import Sheet
    from lionlite.calls.runs.table import Columns

    Again = Callable[[Sheet, dict[str, Any]], "Run"]


class Run(Sequence[Outcome]):
    """What became of every item of `run()`, in the order of the input.

    A sequence of `Outcome`: `len`, iteration, `run[3]` and slices. It has a
    place for each item that was read from the input; a run that stopped early
    may have left some unread.

    Its repr is a summary of one screen; notebooks show it as HTML. Pickling
    leaves out the function, so that only `retry_failed` is lost.

    Args:
        sheet: What is known; filled while the run goes on.
        again: Runs the rest; None where there is no function any more.

    Threads: safe to read anywhere.
    """

    def __init__(self, sheet: Sheet, again: Again | None = None) -> None:
        self._sheet = sheet
        self._again = again

    @overload
    def __getitem__(self, place: int) -> Outcome: ...
    @overload
    def __getitem__(self, place: slice) -> list[Outcome]: ...
    def __getitem__(self, place: int | slice) -> Outcome | list[Outcome]:
        return self._sheet.places[place]

    def __len__(self) -> int:
        return len(self._sheet.places)

    @property
    def results(self) -> list[Any]:
        """The values in order; None for items that failed, were skipped or did not finish."""
        return [outcome.value for outcome in self]

    @property
    def errors(self) -> dict[int, BaseException]:
        """The error of each failed item, by its index."""
        return {outcome.index: outcome.error for outcome in self if outcome.error is not None}

    @property
    def failed(self) -> list[Outcome]:
        """The outcomes that are errors."""
        return [outcome for outcome in self if outcome.is_failed]

    @property
    def unfinished(self) -> list[Outcome]:
        """The items that were read but never started, or cut off."""
        return [outcome for outcome in self if outcome.is_unfinished]

    @property
    def is_complete(self) -> bool:
        """Whether the whole input was read, and every item ended well or was skipped."""
        is_whole = self.stopped is None and not self.interrupted
        return is_whole and all(outcome.is_ok or outcome.is_skipped for outcome in self)

    @property
    def usage(self) -> Usage:
        """The tokens of all items, as far as the provider told."""
        return total_usage(outcome.usage for outcome in self) or Usage()

    @property
    def cost(self) -> float | None:
        """US dollars of all items, as far as the provider told; None if it told nothing."""
        return total_cost(outcome.cost for outcome in self)

    @property
    def elapsed_s(self) -> float:
        """Seconds from the begin of the run to its end; with `retry_failed`, of both."""
        return self._sheet.seconds

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        return self._sheet.is_interrupted

    @property
    def stopped(self) -> str | None:
        """Why it stopped before its end; None if it did not, or was interrupted."""
        return self._sheet.stopped

    def summary(self) -> str:
        """Return a text: counts, times, tokens, cost, waits, errors by class."""
        return shown.as_text(self._sheet)

    def retry_failed(self, **options: Any) -> Run:
        """Run what failed or did not finish, and return a new run of everything.

        What is finished is taken over as it is; what is called again adds its
        tokens, cost and seconds to those of before. Items that the run left
        unread are read now, from where it stopped. In the checkpoint an item
        is what it was when it was read, also if its function changed it since,
        so that no item has the answers of an equal one.

        Args:
            **options: Arguments of `run()` to change, such as *max_workers*;
                those not given are as before.

        Raises:
            ConfigError: An option is unknown or wrong, or the run was pickled,
                which leaves the function behind.
            LionError: As for `run()`.
        """
        if self._again is None:
            msg = (
                "retry_failed() needs the function, which does not pickle: call "
                "run([o.input for o in run if not o.is_ok], func) instead."
            )
            raise ConfigError(msg)
        return self._again(self._sheet, options)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dict for each item; values are the objects themselves.

        Columns: key (if there are keys or an index), input, value, status,
        error ("type: message"), input_tokens, output_tokens, cached_tokens,
        reasoning_tokens, cost, elapsed_s, waited_s, attempts, model,
        finish_reason, request_ids. An input or a value with fields (a dict, an
        attrs or dataclass instance, a tuple) has a column for each of them
        instead, under its own name or, if that is taken, "value.name".
        """
        return rows_of(self._columns(has_keys=self._sheet.labels is not None))

    def to_jsonl(
        self, path: str | os.PathLike[str], *, default: Callable[[Any], Any] | None = None
    ) -> None:
        """Write `to_dicts()` to *path*, a JSON object a line; NaN and its like are null.

        Args:
            path: The file, replaced as a whole or not at all.
            default: Called with a cell that JSON cannot say, such as `str`.

        Raises:
            ConfigError: JSON cannot say a cell, or there is no such folder.
            OSError: The file cannot be written.
        """
        columns = self._columns(has_keys=self._sheet.labels is not None)
        write_jsonl(path, columns, default=default)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write `to_dicts()` to *path* as CSV, safe to open in a spreadsheet.

        A text that begins like a formula (= + - @, tab, line end) gets a
        leading ', unless it is a number. UTF-8; the file is replaced as a
        whole or not at all.

        Raises:
            ConfigError: There is no such folder.
            OSError: The file cannot be written.
        """
        write_csv(path, self._columns(has_keys=self._sheet.labels is not None))

    def to_pandas(self) -> PandasFrame:
        """Return the columns of `to_dicts()` as a DataFrame of pandas.

        Its index is that of the Series or DataFrame that was the input.

        Raises:
            ConfigError: pandas is not installed.
        """
        labels = self._sheet.labels
        columns = self._columns(has_keys=False)
        return pandas_frame(columns, None if labels is None else labels[: len(self)])

    def to_polars(self) -> PolarsFrame:
        """Return the columns of `to_dicts()` as a DataFrame of polars.

        Cells that polars has no type for, or of several types, become text.

        Raises:
            ConfigError: polars is not installed.
        """
        return polars_frame(self._columns(has_keys=self._sheet.labels is not None))

    def _columns(self, *, has_keys: bool) -> Columns:
        return columns_of(list(self), has_keys=has_keys or self._sheet.has_keys)

    def __repr__(self) -> str:
        return shown.as_repr(self._sheet)

    def _repr_html_(self) -> str:
        return shown.as_html(self._sheet)

    def __reduce__(self) -> tuple[type[Run], tuple[Sheet]]:
        return Run, (self._sheet,)
