"""A run in one thread, a provider that counts, and a look into the file.

The engine has tests of its own; here a loop does what it promises to a recorder.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

from lionlite import scope
from lionlite.calls.journal.checkpoint import open_checkpoint
from lionlite.value import changed

ROOT = Path(__file__).resolve().parents[2]


class Provider:
    """Answers each prompt with a text that says how often anything was asked."""

    def __init__(self, *, fails_on=()):
        self.asked = []
        self.names = []
        self.fails_on = set(fails_on)
        self._lock = threading.Lock()

    def chat(self, prompt):
        """Do what a service does with a work that remembers."""
        work = scope.current().work
        memory = work.chat(hashlib.sha256(prompt.encode()).digest())
        if memory.reply is not None:
            return memory.reply.decode()
        with self._lock:
            self.asked.append(prompt)
            self.names.append(memory.name)
            count = len(self.asked)
        if prompt in self.fails_on:
            raise ConnectionError(prompt)
        reply = f"{prompt} #{count}"
        memory.keep(reply.encode())
        return reply


def do(record, func, item):
    """Call *func* on *item* as an engine would; return its value, or its error."""
    if record.skip is not None:
        return record.skip[0]
    record.begun()
    with scope.entered(changed(scope.current(), work=record.work)):
        try:
            value = func(item)
        except Exception as error:
            record.failed(error)
            return error
        return record.succeeded(value)


def run(path, items, func, **options):
    """Return the values of a whole run, errors in their places."""
    with open_checkpoint(path, func, **options) as checkpoint:
        results = [
            do(checkpoint.begin(index, item), func, item) for index, item in enumerate(items)
        ]
        if checkpoint.trouble is not None:
            raise checkpoint.trouble
    return results


def rows(path, sql):
    """Return what the file says to any SQLite tool."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def python(code, *arguments, **options):
    """Run *code* in a process of its own, with these tools at hand."""
    folders = [str(ROOT), str(Path(__file__).parent)]
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        text=True,
        timeout=60,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )
