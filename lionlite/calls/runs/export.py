"""The outcomes of a run as files: JSON lines and CSV.

Holds: `write_jsonl` and `write_csv`, which replace a file as a whole or not at
all. Does not hold: which columns there are (table.py). Safe in any thread; of
two that write one file, the last wins.
"""

from __future__ import annotations

import csv
import io
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lionlite import jsontext
from lionlite.calls.runs.rows import fields_of, is_missing
from lionlite.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lionlite.calls.runs.table import Columns

FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""With these a spreadsheet takes a text for a formula (OWASP, CSV Injection)."""

# A number is no formula, and answers such as "-3.5" are to stay numbers.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def write_jsonl(
    path: str | os.PathLike[str],
    columns: Columns,
    *,
    default: Callable[[Any], Any] | None = None,
) -> None:
    """Write a JSON object for each row, one a line; a missing cell is null.

    Args:
        path: The file; replaced as a whole.
        columns: Cells by column.
        default: Called with a cell that JSON cannot say; what it returns is
            written instead, such as with `str`.

    Raises:
        ConfigError: JSON cannot say a cell, or there is no such folder;
            nothing was written.
        OSError: The file cannot be written; the old one is as it was.
    """
    _replace(path, (_json_line(columns, row, default) for row in range(_height(columns))))


def write_csv(path: str | os.PathLike[str], columns: Columns) -> None:
    """Write the rows as CSV with a header, in UTF-8.

    A text that a spreadsheet would take for a formula gets a leading ', a
    missing cell is empty, a list or dict goes as JSON.

    Raises:
        ConfigError: There is no such folder; nothing was written.
        OSError: The file cannot be written; the old one is as it was.
    """
    _replace(path, _csv_lines(columns))


def _height(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _json_line(columns: Columns, row: int, default: Callable[[Any], Any] | None) -> bytes:
    return (
        jsontext.encode(
            {name: _json_cell(name, cells[row], row, default) for name, cells in columns.items()}
        )
        + b"\n"
    )


def _json_cell(name: str, cell: Any, row: int, default: Callable[[Any], Any] | None) -> Any:
    if is_missing(cell):
        return None
    try:
        return _sayable(cell)
    except jsontext.JsonError as error:
        if default is not None:
            return _by_default(name, cell, row, default)
        msg = (
            f"Row {row}, column {name!r} is not JSON: {error}. Have the function return what "
            "JSON can say, or pass default=str."
        )
        raise ConfigError(msg) from error


def _by_default(name: str, cell: Any, row: int, default: Callable[[Any], Any]) -> Any:
    try:
        return _sayable(default(cell))
    except jsontext.JsonError as error:
        msg = f"Row {row}, column {name!r}: what default= made of it is not JSON: {error}."
        raise ConfigError(msg) from error


def _sayable(cell: Any) -> Any:
    said = jsontext.plain(cell)
    jsontext.encode(said)  # finds lone surrogates
    return said


def _csv_lines(columns: Columns) -> Iterator[bytes]:
    buffer = io.StringIO(newline="")
    # What RFC 4180 says; and the writer quotes only those line ends within a
    # cell that are also its own (Python 3.11).
    writer = csv.writer(buffer, lineterminator="\r\n")
    for row in ([list(columns)], zip(*columns.values(), strict=True)):
        for cells in row:
            writer.writerow([csv_cell(cell) for cell in cells])
            # A lone surrogate has no UTF-8: written as "\\ud800", not lost.
            yield buffer.getvalue().encode("utf-8", "backslashreplace")
            buffer.seek(0)
            buffer.truncate()


def csv_cell(cell: object) -> object:
    """Return *cell* as it may stand in a CSV file that a spreadsheet opens."""
    if is_missing(cell):
        return None
    if isinstance(cell, (bool, int, float)) and type(cell).__module__ == "builtins":
        return cell
    text = cell if isinstance(cell, str) else _text_of(cell)
    if text.startswith(FORMULA_BEGINS) and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def _text_of(cell: object) -> str:
    is_nested = isinstance(cell, (Mapping, Sequence, set, frozenset)) or fields_of(cell)
    if is_nested and not isinstance(cell, (bytes, bytearray)):
        with suppress(jsontext.JsonError):
            return jsontext.encode(jsontext.plain(cell)).decode()
    return str(cell)


def _replace(path: str | os.PathLike[str], lines: Iterable[bytes]) -> None:
    """Write *lines* beside the file, then put them in its place in one step."""
    # A link goes on to say where the file is.
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir() or target.is_dir():
        what = "is a folder" if target.is_dir() else "is in a folder that does not exist"
        msg = f"path= {what}: {str(path)!r}. Give a file in a folder that exists."
        raise ConfigError(msg)
    beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        with beside.open("xb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            beside.chmod(target.stat().st_mode & 0o7777)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
