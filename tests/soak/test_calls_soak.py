"""Mapping calls in the long run: the auto rule against a real budget, and nothing left behind."""

from __future__ import annotations

import gc
import random
import threading
import time
from pathlib import Path

import pytest
from soak_tools import SMALL, chat, server_of, tell

from lionlite.calls import exit as exiting
from lionlite.calls import workers
from lionlite.calls.family import icall, lcall
from lionlite.exceptions import CallError, Cancelled
from lionlite.scope import cancellable, current, sleep

pytestmark = pytest.mark.soak

CALLS, LIMIT, INTERVAL_S, LATENCY_S = 2_000, 500, 5.0, 1.0
FILES = Path("/proc/self/fd")


@pytest.mark.timeout(120)
def test_auto_workers_use_the_whole_budget():
    """The least is three intervals and one latency; benchmarks/auto.py has the figures."""
    budget = {"max_requests": LIMIT, "interval_s": INTERVAL_S}
    with server_of(latency_s=LATENCY_S, **budget) as server:
        with server.service(max_requests=LIMIT, interval=INTERVAL_S) as service:
            began_s = time.monotonic()
            rights = lcall(range(CALLS), lambda number: chat(service, number, SMALL))
            wall_s = time.monotonic() - began_s

    least_s = (CALLS / LIMIT - 1) * INTERVAL_S + LATENCY_S
    tell(f"{CALLS} calls, auto workers: {wall_s:.2f} s, at least {least_s:.2f} s; {server.report}")
    assert all(rights)
    assert server.report["highest_requests_in_window"] <= LIMIT
    # Half as much again for a machine that does something else as well.
    assert wall_s < 1.5 * least_s


def pretend_to_chat(rng):
    """Do what a chat does: wait for the budget, then for the reply, and sometimes fail."""
    work = current().work
    work.waits("budget")
    try:
        sleep(rng.choice([0, 0, 0.002]), phase="budget")
    finally:
        work.goes_on("budget")
    work.waits("reply")
    try:
        sleep(rng.uniform(0, 0.02), phase="read")
    finally:
        work.goes_on("reply")
    if rng.random() < 0.02:
        raise ValueError


def cancelled_at_some_instant(seed):
    """Run nested calls under a token that is cancelled meanwhile; return how it ended."""
    rng = random.Random(seed)

    def inner(_):
        pretend_to_chat(rng)

    def outer(number):
        lcall(range(number % 7), inner, retries=number % 2)
        pretend_to_chat(rng)
        return number

    with cancellable() as token:
        timer = threading.Timer(rng.uniform(0, 0.3), token.cancel)
        timer.start()
        try:
            for index, value in icall(iter(range(200)), outer, on_error="return"):
                assert isinstance(value, CallError | ValueError) or value == index
                if rng.random() < 0.002:
                    return "left"
        except Cancelled:
            return "cancelled"
        finally:
            timer.cancel()
    return "done"


@pytest.mark.timeout(200)
@pytest.mark.skipif(not FILES.exists(), reason="counts open files as Linux does")
def test_hundreds_of_runs_cancelled_anywhere_leave_nothing_behind():
    lcall(range(10), str)
    files, threads = len(list(FILES.iterdir())), threading.active_count()

    ends = [cancelled_at_some_instant(seed) for seed in range(150)]

    patience_s = time.monotonic() + 20
    while threading.active_count() > threads and time.monotonic() < patience_s:
        time.sleep(0.05)
    gc.collect()
    tell(f"ended: {({end: ends.count(end) for end in set(ends)})}")
    assert {"cancelled", "left"} <= set(ends)
    assert threading.active_count() == threads
    assert len(list(FILES.iterdir())) == files
    assert (workers._census.threads, exiting._live) == (0, {})
