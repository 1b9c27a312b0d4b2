"""The outcomes of a run as data frames. The one door to pandas and polars.

Holds: `pandas_frame` and `polars_frame`. Does not hold: which columns there
are (table.py). Both packages are optional and imported when they are asked
for. Safe in any thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from lionlite.calls.runs.table import COUNTS, SECONDS
from lionlite.exceptions import ConfigError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from lionlite.calls.runs.table import Columns

    PandasFrame: TypeAlias = pd.DataFrame
    PolarsFrame: TypeAlias = pl.DataFrame


def pandas_frame(columns: Columns, labels: Any) -> PandasFrame:
    """Return *columns* as a DataFrame of pandas.

    Args:
        columns: Cells by column.
        labels: Its index, as long as the columns; None for 0, 1, 2 ...

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ConfigError(_not_installed("pandas")) from error
    # A Series for each, since a cell that is a list would be a row of its own
    # in an array; whole numbers that may be missing are no floats.
    frame = {
        name: pd.Series(cells, index=labels, dtype=_pandas_type(name))
        for name, cells in columns.items()
    }
    return pd.DataFrame(frame, index=labels)


def _pandas_type(name: str) -> str | None:
    if name in COUNTS:
        return "Int64"
    return "float64" if name in SECONDS else None


def polars_frame(columns: Columns) -> PolarsFrame:
    """Return *columns* as a DataFrame of polars; what it has no type for is text.

    Raises:
        ConfigError: polars is not installed.
    """
    try:
        import polars as pl  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ConfigError(_not_installed("polars")) from error
    return pl.DataFrame([_polars_column(pl, name, cells) for name, cells in columns.items()])


def _polars_column(pl: Any, name: str, cells: list[Any]) -> Any:
    known = dict.fromkeys(COUNTS, pl.Int64) | dict.fromkeys(SECONDS, pl.Float64)
    if name in {"status", "error", "model", "finish_reason"}:
        return pl.Series(name, cells, dtype=pl.String)
    if name == "request_ids":
        return pl.Series(name, cells, dtype=pl.List(pl.String))
    if name in known:
        return pl.Series(name, cells, dtype=known[name])
    try:
        column = pl.Series(name, cells)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        # Cells of several types, or of one that polars does not know.
        return pl.Series(name, [None if cell is None else str(cell) for cell in cells])
    if column.dtype == pl.Object:
        return pl.Series(name, [None if cell is None else str(cell) for cell in cells])
    return column


def _not_installed(package: str) -> str:
    return (
        f"to_{package}() needs {package}, which is not installed: "
        f"pip install 'lionlite[{package}]'. to_dicts() needs nothing."
    )
