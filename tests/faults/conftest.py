"""All rows of the table, played at once: most of them only wait."""

from __future__ import annotations

import io
import logging
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest
from fault_table import ROWS, TABLE
from fault_tools import open_files, play

from lionlite.service import retry
from lionlite.testing.faults.body import gzip_bomb

PLAYERS = 8


@attrs.frozen
class Run:
    """All rows that this session of pytest asks for.

    Attributes:
        played: What came of each row: fault and verb.
        logged: Everything that was logged meanwhile, from DEBUG on.
        leaked_files: Descriptors that are open afterwards and were not before.
    """

    played: dict
    logged: str
    leaked_files: int


@pytest.fixture(scope="session")
def run(request):
    rows = set(_rows_asked_for(request.session.items))
    gzip_bomb()  # takes a while, once
    with pytest.MonkeyPatch.context() as patch, captured_logs() as log:
        patch.setattr(retry, "BASE_S", 0.0)
        play("status_500", "chat", timeout_s=20)
        before = open_files()
        with ThreadPoolExecutor(PLAYERS) as pool:
            played = dict(pool.map(one, sorted(rows)))
        leaked = open_files() - before
    return Run(played, log.getvalue(), leaked)


def _rows_asked_for(items):
    """Yield the rows of the selected tests; a test over all rows wants them all."""
    for item in items:
        if "run" not in getattr(item, "fixturenames", ()):
            continue
        row = item.callspec.params.get("row") if hasattr(item, "callspec") else None
        yield from ROWS if row is None else [row]


def one(row):
    name, verb = row
    return row, play(name, verb, timeout_s=TABLE[verb][name].timeout_s)


class captured_logs:  # noqa: N801 - reads as a statement
    """Everything that is logged inside the `with`, of all loggers, from DEBUG on."""

    def __enter__(self):
        text = io.StringIO()
        self._handler = logging.StreamHandler(text)
        self._handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))
        self._loggers = [logging.getLogger(name) for name in (None, "httpx", "httpcore")]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.DEBUG)
        self._loggers[0].addHandler(self._handler)
        return text

    def __exit__(self, *_):
        self._loggers[0].removeHandler(self._handler)
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)


@pytest.fixture
def logged():
    with captured_logs() as text:
        yield text
