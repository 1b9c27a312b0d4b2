"""Ctrl-C at random instants, in a child process: Python may not survive it.

CPython's own thread starting is not safe against KeyboardInterrupt: about once
in 20,000 it leaves a lock of the executor taken, and then Python's exit waits
for ever (until another Ctrl-C). So the child ends by `os._exit`.
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
from lionlite.calls.family import icall, lcall
from lionlite.exceptions import Interrupted
from lionlite.scope import Scope, current

ROOT = Path(__file__).parents[2]
WAIT_S = 50  # only a failing test waits so long


class Surprise:
    """Raises KeyboardInterrupt in the main thread at some instant inside the `with`."""

    def __init__(self, seconds):
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.send, args=(seconds, threading.get_ident()))

    def send(self, seconds, target):
        if not self.is_over.wait(seconds):
            signal.pthread_kill(target, signal.SIGINT)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()


def surprised(work, seconds):
    """Return what *work* raised when surprised, None if it came too late."""
    try:
        with Surprise(seconds):
            work()
    except KeyboardInterrupt as error:
        return error
    return None


def remembering(ran):
    def func(number):
        ran.append(number)
        return number

    return func


def hammer_lcall(seconds):
    """Check that all that ran is in the results; return whether it was interrupted."""
    ran = []

    error = surprised(lambda: lcall(iter(range(2000)), remembering(ran), max_workers=4), seconds)

    # A plain KeyboardInterrupt came before the call or after it.
    if not isinstance(error, Interrupted):
        return False
    assert [number for number in error.results if number is not None] == sorted(ran)
    return True


def hammer_icall(seconds):
    """Check that all that ran was yielded, once; return whether it was interrupted."""
    ran, seen = [], []

    def work():
        pairs = icall(iter(range(1000)), remembering(ran), max_workers=4)
        seen.extend(index for index, _ in pairs)

    error = surprised(work, seconds)

    assert len(set(seen)) == len(seen)
    # A plain KeyboardInterrupt came while a pair was taken.
    if not isinstance(error, Interrupted):
        return False
    assert sorted(seen) == sorted(ran)
    return True


def hammer(once, rounds):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    engine.GRACE_S = WAIT_S  # so that all items come back on a busy machine too
    chance = random.Random(1)
    caught = sum(once(chance.uniform(0, 0.02)) for _ in range(rounds))
    assert caught > rounds // 10
    assert current() == Scope()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
@pytest.mark.parametrize(
    "rounds",
    [
        150,
        pytest.param(1000, marks=[pytest.mark.soak, pytest.mark.timeout(300)]),
        pytest.param(3000, marks=[pytest.mark.proof, pytest.mark.timeout(300)]),
        pytest.param(40_000, marks=[pytest.mark.proof, pytest.mark.timeout(3600)]),
    ],
)
@pytest.mark.parametrize("once", ["hammer_lcall", "hammer_icall"])
def test_ctrl_c_at_any_instant_neither_loses_nor_repeats_a_value(once, rounds):
    child = subprocess.run(
        [sys.executable, __file__, once, str(rounds)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )

    # What Python says of a KeyboardInterrupt inside a callback is no failure.
    assert child.returncode == 0, child.stderr


if __name__ == "__main__":
    try:
        hammer(globals()[sys.argv[1]], int(sys.argv[2]))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
