"""Forks and threads at work with an SQLite file, and signals in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from store_tools import fresh_name

import lionlite
from lionlite import deadline
from lionlite.exceptions import BudgetError
from lionlite.limits.rates import Rate

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

PARENT = Path(lionlite.__file__).parent.parent

FORKS_AT_ONCE = """
import json, os, sys, threading
from lionlite.limits.rates import Rate
from lionlite.limits.shared import SharedLimiter

limiter = SharedLimiter({"requests": [Rate(10**6, 60)]}, store=sys.argv[1], budget=sys.argv[2])
limiter.reserve({"requests": 1}).cancel()
stop, codes = threading.Event(), []

def busy():
    while not stop.is_set():
        limiter.reserve({"requests": 1}).cancel()

def files():
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    for name in os.listdir(folder):
        try:
            yield os.readlink(f"{folder}/{name}")
        except OSError:
            pass

def fork():
    for _ in range(int(sys.argv[3])):
        child = os.fork()
        if child == 0:
            os._exit(any(".db" in name for name in files()))
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

users = [threading.Thread(target=busy) for _ in range(2)]
forkers = [threading.Thread(target=fork) for _ in range(3)]
for thread in users + forkers:
    thread.start()
for thread in forkers:
    thread.join()
stop.set()
for thread in users:
    thread.join()
print(json.dumps(codes))
"""


def test_threads_that_fork_at_once_carry_no_file_into_a_child(sqlite_url):
    done = subprocess.run(
        [sys.executable, "-c", FORKS_AT_ONCE, sqlite_url, fresh_name(), "30"],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "PYTHONPATH": str(PARENT)},
    )

    assert done.stderr == ""
    assert json.loads(done.stdout) == [0] * 90


class SoftLimitError(Exception):
    """What a signal handler raises: as Celery's SoftTimeLimitExceeded, no KeyboardInterrupt."""


@pytest.fixture
def soft_limit():
    """Makes a signal handler raise after so many seconds of work; pytest needs SIGALRM."""

    def on_alarm(*_):
        raise SoftLimitError

    before = signal.signal(signal.SIGVTALRM, on_alarm)
    yield lambda seconds: signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


def test_a_signal_in_a_trip_shuts_nobody_out_and_leaves_nobody_inside(on_sqlite, soft_limit):
    limiter = on_sqlite(requests=[Rate(10**6, 60)])
    limiter.reserve({"requests": 1}).cancel()
    until_s, rounds, others = time.monotonic() + 2, 0, []

    def other():
        with deadline(5):
            limiter.reserve({"requests": 1}).cancel()
        others.append(1)

    while time.monotonic() < until_s:
        rounds += 1
        with suppress(SoftLimitError):
            soft_limit(0.0005 + (rounds * 37 % 100) * 3e-5)
            # Not for ever: what comes while the collector runs is swallowed.
            for _ in range(1_000):
                limiter.stats()
        thread = threading.Thread(target=other, daemon=True)
        thread.start()
        thread.join(5)

        assert len(others) == rounds
        assert not limiter._store._doorway._inside


def test_a_trip_gives_up_at_its_deadline_when_a_fork_takes_too_long(on_sqlite, monkeypatch):
    limiter = on_sqlite(requests=[Rate(10, 60)])
    limiter.reserve({"requests": 1}).cancel()
    monkeypatch.setattr("lionlite.limits.stores.doorway._shut_until_s", time.monotonic() + 60)
    began_s = time.monotonic()

    with deadline(0.1), pytest.raises(BudgetError, match="a fork of this process takes too long"):
        limiter.reserve({"requests": 1})

    assert time.monotonic() - began_s < 5


def test_a_fork_whose_last_hook_was_cut_short_shuts_nobody_out_for_ever(on_sqlite, monkeypatch):
    limiter = on_sqlite(requests=[Rate(10, 60)])
    monkeypatch.setattr("lionlite.limits.stores.doorway._shut_until_s", time.monotonic() + 0.1)

    with deadline(5):
        limiter.reserve({"requests": 1}).cancel()

    assert limiter.stats().granted == 1
