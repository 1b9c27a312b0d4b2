"""Ctrl-C at every place of what a service offers beside calls leaves it as good as before."""

from __future__ import annotations

import functools
import gc
import itertools
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from interrupts import ctrl_c_at

from lionlite import Cancelled, scope
from lionlite.service import service
from lionlite.testing import FakeProvider

MESSAGES = [{"role": "user", "content": "hi"}]
FILES = {module.__file__ for module in (scope, service)}


def places(interrupted_at):
    """Return how many places there are; *interrupted_at* says whether it was one.

    In a thread of its own: what a tracer raises stays its context (CPython 3.11).
    """
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(lambda: next(n for n in itertools.count() if not interrupted_at(n)))
        return found.result(50)


def storm(work, seconds):
    """Do *work* again and again, cut short at random; return how often it was."""

    def cut(_number, _frame):
        # Only once: the next one begins with the next round.
        raise KeyboardInterrupt

    cuts, ends_at_s = 0, time.monotonic() + seconds
    # What the collector runs swallows what is raised in it.
    gc.disable()
    before = signal.signal(signal.SIGVTALRM, cut)
    try:
        while time.monotonic() < ends_at_s:
            try:
                signal.setitimer(signal.ITIMER_VIRTUAL, random.uniform(1e-6, 3e-4))
                while time.monotonic() < ends_at_s:
                    work()
            except KeyboardInterrupt:
                cuts += 1
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        gc.enable()
    return cuts


def test_ctrl_c_in_stats_leaves_no_lock_held():
    with FakeProvider() as provider, provider.service() as idle:
        assert storm(idle.stats, seconds=1) > 50
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(idle.stats).result(10).calls == 0


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="not every opcode is traced")
def test_what_ctrl_c_left_of_a_cancel_the_next_one_ends():
    def interrupted_at(number):
        came, tokens = False, [scope.CancelToken() for _ in range(3)]
        provided._tokens.extendleft(tokens)
        woken = []
        first, second = (functools.partial(woken.append, n) for n in range(2))
        with tokens[0].woken_by(first), tokens[1].woken_by(second):
            try:
                with ctrl_c_at(number, FILES, outside=()):
                    provided.cancel()
            except KeyboardInterrupt:
                came = True
                provided.cancel()
        assert {0, 1} <= set(woken), number
        assert all(token.is_cancelled for token in tokens), number
        assert len(provided._tokens) == 1
        assert not provided._tokens[-1].is_cancelled
        return came

    with FakeProvider() as provider, provider.service() as provided:
        assert places(interrupted_at) > 10
        assert provided.send(MESSAGES).text == "ok"


def test_cancels_at_the_same_time_end_all_calls_before_them_and_none_after():
    gate = threading.Barrier(8)

    def cancel():
        gate.wait(10)
        for _ in range(50):
            provided.cancel()

    with FakeProvider(latency_s=30) as provider, provider.service() as provided:
        with ThreadPoolExecutor(9) as pool:
            call = pool.submit(provided.send, MESSAGES)
            while not provider.requests:
                assert not call.done()
            for ended in [pool.submit(cancel) for _ in range(8)]:
                ended.result(20)
            with pytest.raises(Cancelled):
                call.result(5)
        assert len(provided._tokens) == 1
        assert not provided._tokens[-1].is_cancelled
