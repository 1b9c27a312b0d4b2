"""Limiters in forked children: no leftover lock, nothing given away twice."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time

import pytest

from lionlite.limits.limiter import RateLimiter
from lionlite.limits.rates import limit

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def in_child(work):
    """Fork; run *work* in the child; return its exit status, -9 if it hung."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = int(bool(work()) is False)
        finally:
            os._exit(status)
    ends_at = time.monotonic() + 20
    while time.monotonic() < ends_at:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -9


def used(limiter):
    return limiter.stats().dimensions["tokens"].used


def test_no_child_hangs_when_the_parent_forks_while_busy():
    limiters = [
        RateLimiter({"tokens": [limit(10**9, 60)]}, charge=charge, max_concurrency=2)
        for charge in ("estimate", "adjust", "usage")
    ]
    ends = threading.Event()

    def work():
        while not ends.is_set():
            for limiter in limiters:
                with limiter.reserve({"tokens": 5}) as reservation:
                    reservation.sent()
                    reservation.settle({"tokens": 1})

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()

    def child():
        for limiter in limiters:
            with limiter.reserve({"tokens": 5}) as reservation:
                reservation.sent()
        return True

    try:
        statuses = [in_child(child) for _ in range(20)]
    finally:
        ends.set()
        for thread in threads:
            thread.join(20)

    assert statuses == [0] * 20
    assert [limiter.stats().waiting for limiter in limiters] == [0, 0, 0]


@pytest.mark.parametrize("charge", ["estimate", "adjust", "usage"])
def test_open_calls_count_as_sent_in_the_child_and_hold_no_permit(charge):
    limiter = RateLimiter({"tokens": [limit(100, 0.3)]}, charge=charge, max_concurrency=1)
    with limiter.reserve({"tokens": 60}) as reservation:

        def child():
            before = (used(limiter), limiter.stats().in_flight)
            reservation.cancel()
            after = used(limiter)
            limiter.reserve({"tokens": 60}).cancel()
            return before == (60, 0) and after == 60

        assert in_child(child) == 0
        assert limiter.stats().in_flight == 1


def test_those_who_wait_in_the_parent_do_not_wait_in_the_child():
    limiter = RateLimiter({"tokens": [limit(10, 60)]})
    held = limiter.reserve({"tokens": 10})
    threads = [
        threading.Thread(target=lambda: limiter.reserve({"tokens": 1}).cancel()) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    while limiter.stats().waiting < 3:
        time.sleep(0.001)

    status = in_child(lambda: limiter.stats().waiting == 0)

    assert (status, limiter.stats().waiting) == (0, 3)
    held.cancel()
    for thread in threads:
        thread.join(20)


def test_the_child_is_warned_once_that_it_has_the_whole_budget():
    limiter = RateLimiter({"tokens": [limit(10, 60)]})
    unlimited = RateLimiter({})

    def child():
        messages = []
        handler = logging.Handler()
        handler.emit = lambda record: messages.append(record.getMessage())
        logging.getLogger("lionlite").addHandler(handler)
        for one in (limiter, limiter, unlimited):
            one.reserve({"tokens": 1}).cancel()
        return len(messages) == 1 and "each have the whole budget" in messages[0]

    assert in_child(child) == 0


def test_the_parent_is_not_warned(caplog):
    limiter = RateLimiter({"tokens": [limit(10, 60)]})
    in_child(lambda: True)

    limiter.reserve({"tokens": 1})

    assert caplog.messages == []


def test_a_fork_under_a_held_lock_gives_the_child_a_lock_of_its_own(monkeypatch):
    """A signal handler may fork while its own thread holds the lock."""
    monkeypatch.setattr("lionlite.limits.forks._PATIENCE_S", 0.05)
    limiter = RateLimiter({"tokens": [limit(10, 60)]})

    with limiter.desk.lock:
        status = in_child(lambda: limiter.try_reserve({"tokens": 1}) is not None)

    assert status == 0
    assert limiter.try_reserve({"tokens": 1}) is not None
