"""One budget under more threads and forks than anyone should have."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
from soak_tools import CHARGES, tell

from lionlite.limits.limiter import RateLimiter
from lionlite.limits.rates import limit

pytestmark = pytest.mark.soak

WAITERS = 512


# Queues -----------------------------------------------------------------------------------


@pytest.mark.parametrize("charge", CHARGES)
def test_512_waiters_are_served_in_the_order_in_which_they_came(charge):
    """Each asks eight times; 1,024 grants a second, so that all wait all the time."""
    limiter = RateLimiter(
        {"requests": [limit(512, 0.5)], "tokens": [limit(10**6, 0.5)]}, charge=charge
    )
    entries = []
    barrier = threading.Barrier(WAITERS + 1)

    def work():
        barrier.wait()
        for _ in range(8):
            with limiter.reserve({"requests": 1, "tokens": 10}) as reservation:
                reservation.sent()
                reservation.replied()
                reservation.settle({"tokens": 5})
                entries.append(reservation.entry)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(WAITERS)]
    for thread in threads:
        thread.start()
    barrier.wait()
    began_s, cpu_s = time.monotonic(), time.process_time()
    for thread in threads:
        thread.join(max(0, began_s + 50 - time.monotonic()))
    cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - began_s

    waited = sorted(
        (entry.joined_at, entry.granted_at) for entry in entries if entry.joined_at >= 0
    )
    longest_s = max(granted - joined for joined, granted in waited) / 1e9
    checks = limiter.desk.budget.ledger.checks / len(entries)
    tell(
        f"{WAITERS} waiters, charge={charge}: {len(entries)} grants in {wall_s:.1f} s, "
        f"{cpu_s / len(entries) * 1e6:.0f} us CPU and {checks:.2f} checks a grant, "
        f"longest wait {longest_s:.2f} s"
    )
    assert len(entries) == 8 * WAITERS
    assert len(waited) > 6 * WAITERS
    granted = [at for _, at in waited]
    assert granted == sorted(granted)
    assert limiter.stats().waiting == 0


# Forks ----------------------------------------------------------------------------------------


def exit_status_of(pid, seconds=20):
    """Return the exit status of the child *pid*, -9 if it hung."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_none_of_200_children_of_a_busy_process_hangs():
    """In each charge mode: the parent's threads hold, wait for and change every lock."""
    limiters = [
        RateLimiter({"tokens": [limit(10**9, 60)]}, charge=charge, max_concurrency=2)
        for charge in CHARGES
    ]
    ends = threading.Event()

    def hammer():
        while not ends.is_set():
            for limiter in limiters:
                with limiter.reserve({"tokens": 5}) as reservation:
                    reservation.sent()
                    reservation.settle({"tokens": 1})

    def child():
        status = 1
        try:
            for limiter in limiters:
                with limiter.reserve({"tokens": 5}) as reservation:
                    reservation.sent()
            status = 0
        finally:
            os._exit(status)

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    statuses = []
    began_s = time.monotonic()
    try:
        for _ in range(200):
            pid = os.fork()
            if pid == 0:
                child()
            statuses.append(exit_status_of(pid))
    finally:
        ends.set()
        for thread in threads:
            thread.join(20)

    tell(f"200 children in {time.monotonic() - began_s:.1f} s")
    assert statuses == [0] * 200
    stats = [limiter.stats() for limiter in limiters]
    assert [(one.waiting, one.in_flight) for one in stats] == [(0, 0)] * 3
