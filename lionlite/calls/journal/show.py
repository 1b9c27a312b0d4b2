"""What is in a checkpoint file, for people: `lionlite journal FILE`.

Holds: `report`, lines of text, and `items`, the items one by one. Does not
hold: the command line (cli.py), nor what a reply means: whoever calls says how
to read one. Only reads, in short steps, so a run may go on meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections import Counter
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

from lionlite import jsontext
from lionlite.calls.journal import rows
from lionlite.calls.journal.opening import connect_reading, failure
from lionlite.records import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Told = tuple[str, Usage | None, float | None]
    ReadReply = Callable[[bytes], Told]

ERRORS: Final = 5
"""How many errors are shown, the last ones."""

_STEP: Final = 1000
"""Rows that are read at once. A reader keeps a run from clearing up its log."""

_MOST_CHARS: Final = 160


def report(path: str, read_reply: ReadReply) -> list[str]:
    """Return what is in the checkpoint at *path*, as lines for people.

    Args:
        path: The file; a run may be writing it.
        read_reply: From a kept reply to the model that gave it, its tokens and
            its cost in US dollars. It must not fail.

    Raises:
        CheckpointError: There is no such file, or it cannot be read.
    """
    with _opened(path) as connection:
        sums = _sums(connection, read_reply)
        facts = [*_of_file(connection), *_of_items(connection), *_of_chats(sums)]
        errors = _errors(connection)
    width = max(len(label) for label, _ in facts)
    lines = [f"{label:<{width}}  {value}" for label, value in facts]
    if errors:
        lines += ["", "the last errors"]
        lines += [f"  item {place}  {key}  {error}" for place, key, error in errors]
    return [_shown(line) for line in lines]


def items(path: str) -> Iterator[dict[str, Any]]:
    """Yield every item of the checkpoint at *path*, as plain values.

    Each has `key`, `nth` (of the items of that key), `index` (in the input of
    the run that met it first), `chats` (how many are finished), and `outcomes`:
    function, version, state, value and error of each end that it had.

    Raises:
        CheckpointError: There is no such file, or it cannot be read.
    """
    sql = "SELECT id, key, nth, place FROM item WHERE id > ? ORDER BY id LIMIT ?"
    with _opened(path) as connection:
        for row, key, nth, place in _in_steps(connection, sql):
            yield {
                "key": key,
                "nth": nth,
                "index": place,
                "chats": rows.count_chats(connection, row),
                "outcomes": _outcomes(connection, row),
            }


def _outcomes(connection: sqlite3.Connection, item: int) -> list[dict[str, Any]]:
    sql = "SELECT function, version, state, value, error, ended FROM outcome WHERE item = ?"
    return [
        {
            "function": function,
            "version": version,
            "state": state,
            "value": None if value is None else jsontext.decode(value),
            "error": None if error is None else jsontext.decode(error),
            "ended": ended,
        }
        for function, version, state, value, error, ended in connection.execute(sql, (item,))
    ]


@attrs.define
class _Sums:
    chats: int = 0
    usage: Usage = attrs.field(factory=Usage)
    cost: float | None = None
    models: Counter[str] = attrs.field(factory=Counter)


def _sums(connection: sqlite3.Connection, read_reply: ReadReply) -> _Sums:
    sums = _Sums()
    sql = "SELECT id, reply FROM chat WHERE id > ? ORDER BY id LIMIT ?"
    for _, reply in _in_steps(connection, sql):
        model, usage, cost = read_reply(reply if isinstance(reply, bytes) else reply.encode())
        sums.chats += 1
        sums.models[model or "unknown"] += 1
        if usage is not None:
            sums.usage += usage
        if cost is not None:
            sums.cost = (sums.cost or 0.0) + cost
    return sums


def _of_file(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    created, library, schema = _one(connection, "SELECT created, library, schema FROM checkpoint")
    yield "made", f"{created} by lionlite {library}, schema {schema}"
    runs, ended = _one(connection, "SELECT count(*), count(ended) FROM run")
    yield (
        "runs",
        f"{runs:,}" + (f", {runs - ended:,} of them without an end" if runs > ended else ""),
    )
    if not runs:
        return
    last = "SELECT function, version, process, began, ended FROM run ORDER BY id DESC LIMIT 1"
    function, version, process, began, end = _one(connection, last)
    yield "last run", f"{_name(function, version)}, began {began}, {_end(process, end)}"


def _end(process: int, ended: str | None) -> str:
    if ended is not None:
        return f"ended {ended}"
    if _lives(process):
        return f"goes on in process {process}"
    return f"without an end: process {process} is not here any more"


def _of_items(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    (count,) = _one(connection, "SELECT count(*) FROM item")
    (ended,) = _one(connection, "SELECT count(DISTINCT item) FROM outcome")
    yield (
        "items",
        f"{count:,}" + (f", {count - ended:,} of them unfinished" if count > ended else ""),
    )
    sql = "SELECT function, version, state, count(*) FROM outcome GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    for function, version, state, number in connection.execute(sql):
        yield state, f"{number:,} by {_name(function, version)}"


def _of_chats(sums: _Sums) -> Iterator[tuple[str, str]]:
    yield "chats", f"{sums.chats:,}"
    for model, number in sums.models.most_common():
        yield "model", f"{model}: {number:,}"
    usage = sums.usage
    yield (
        "tokens",
        f"{usage.input_tokens:,} in ({usage.cached_tokens:,} cached), {usage.output_tokens:,} out",
    )
    if sums.cost is not None:
        yield "cost", f"${sums.cost:,.4f}"


def _errors(connection: sqlite3.Connection) -> list[tuple[int, str, str]]:
    sql = (
        "SELECT place, key, error FROM outcome JOIN item ON item.id = outcome.item"
        " WHERE state = 'failed' ORDER BY outcome.ended DESC LIMIT ?"
    )
    found = []
    for place, key, error in connection.execute(sql, (ERRORS,)):
        told = jsontext.decode(error)
        found.append((place, key, f"{told['type']}: {told['message']}"))
    return found


def _name(function: str, version: str) -> str:
    return f"{function} version {version}" if version else function


def _lives(process: int) -> bool:
    if sys.platform == "win32":  # pragma: no cover - there it would be a Ctrl-C
        return False
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _shown(line: str) -> str:
    """Return *line* without what could do more to a terminal than be seen."""
    text = "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in line)
    return text if len(text) <= _MOST_CHARS else text[: _MOST_CHARS - 1] + "…"


def _one(connection: sqlite3.Connection, sql: str) -> tuple[Any, ...]:
    found: tuple[Any, ...] = connection.execute(sql).fetchone()
    return found


def _in_steps(connection: sqlite3.Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    last = -1
    while True:
        found = connection.execute(sql, (last, _STEP)).fetchall()
        if not found:
            return
        yield from found
        last = found[-1][0]


@contextmanager
def _opened(path: str) -> Iterator[sqlite3.Connection]:
    place = os.path.abspath(path)  # noqa: PTH100 - all paths here are text
    try:
        with closing(connect_reading(place)) as connection:
            yield connection
    except sqlite3.Error as exc:
        raise failure(place, "cannot be read", exc) from exc
