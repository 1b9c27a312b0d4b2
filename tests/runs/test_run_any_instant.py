"""Ctrl-C at random instants of run(), in a child process: nothing is lost or done twice.

The child ends by `os._exit`, as CPython's own thread starting is not safe
against KeyboardInterrupt (see tests/calls/test_any_instant.py).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import pytest

from lionlite.calls import engine
from lionlite.calls.runs.run import last_run, run

ROOT = Path(__file__).parents[2]
WAIT_S = 50  # only a failing test waits so long
ITEMS = 1000


def surprised(work, seconds):
    """Call *work*, with Ctrl-C after *seconds* or never; it may come just after it."""
    is_over, main = threading.Event(), threading.get_ident()

    def send():
        if not is_over.wait(seconds):
            signal.pthread_kill(main, signal.SIGINT)

    sender = threading.Thread(target=send)
    try:
        sender.start()
        try:
            work()
        finally:
            is_over.set()
            sender.join()
    except KeyboardInterrupt:
        sender.join()


def once(items, seconds):
    """Check an interrupted run and what its retry adds; return whether it was interrupted."""
    ran = []

    def func(number):
        ran.append(number)
        return number

    surprised(lambda: run(items, func, max_workers=4), seconds)

    first = last_run()
    if first is None or first.elapsed_s == 0 or not ran or not first.interrupted:
        return False
    finished = [number for number in first.results if number is not None]
    assert finished == sorted(ran), (len(finished), len(ran))
    assert first.retry_failed().results == list(range(ITEMS))
    assert sorted(ran) == list(range(ITEMS))
    return True


def hammer(kind, rounds):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    engine.GRACE_S = WAIT_S  # so that all items come back on a busy machine too
    chance = random.Random(1)
    make = {"range": range, "iterator": lambda number: iter(range(number))}[kind]
    caught = sum(once(make(ITEMS), chance.uniform(0, 0.04)) for _ in range(rounds))
    assert caught > rounds // 10, caught


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
@pytest.mark.parametrize(
    "rounds",
    [
        50,
        pytest.param(400, marks=[pytest.mark.soak, pytest.mark.timeout(300)]),
        pytest.param(1000, marks=[pytest.mark.proof, pytest.mark.timeout(300)]),
    ],
)
@pytest.mark.parametrize("kind", ["range", "iterator"])
def test_ctrl_c_at_any_instant_leaves_a_run_that_can_go_on(kind, rounds):
    child = subprocess.run(
        [sys.executable, __file__, kind, str(rounds)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )

    # What Python says of a KeyboardInterrupt inside a callback is no failure.
    assert child.returncode == 0, child.stderr


if __name__ == "__main__":
    try:
        hammer(sys.argv[1], int(sys.argv[2]))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
