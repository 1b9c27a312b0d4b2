"""The lock of a branch, with real threads."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context

import pytest

from lionlite import Cancelled, ConfigError, DeadlineExceeded, deadline, scope
from lionlite.conversation.turns import TurnLock


@pytest.fixture(autouse=True)
def _threads_change_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_line(lock):
    """How many turns are under way or waited for."""
    return lock.length


def until(condition):
    ends_at_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends_at_s
        time.sleep(0.0005)


@contextmanager
def held(lock):
    """Hold the turn in another thread."""
    is_over = threading.Event()

    def hold():
        with lock.turn():
            is_over.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    until(lambda: in_line(lock) >= 1)
    try:
        yield is_over
    finally:
        is_over.set()
        thread.join(10)
        assert not thread.is_alive()


def is_free(lock):
    """Whether a turn can be had at once."""
    with deadline(2), lock.turn():
        return in_line(lock) == 1


def take_at_once(lock):
    with deadline(0.02), lock.turn():
        pytest.fail("there was no turn to have")


def test_two_turns_are_never_under_way_at_once():
    lock, inside, highest = TurnLock(), [], []
    start = threading.Barrier(16)

    def take_turns():
        start.wait(10)
        for _ in range(100):
            with lock.turn():
                inside.append(1)
                highest.append(len(inside))
                inside.pop()

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(take_turns) for _ in range(16)]:
            future.result(30)

    assert highest == [1] * 1600
    assert is_free(lock)


def test_first_come_first_served():
    lock, served = TurnLock(), []

    def take(number):
        with lock.turn():
            served.append(number)

    with ThreadPoolExecutor(20) as pool:
        with held(lock):
            for number in range(20):
                pool.submit(take, number)
                until(lambda present=number + 2: in_line(lock) == present)
        until(lambda: in_line(lock) == 0)

    assert served == list(range(20))


def test_a_turn_that_fails_is_given_back():
    lock = TurnLock()

    with pytest.raises(RuntimeError, match="boom"), lock.turn():
        raise RuntimeError("boom")

    assert is_free(lock)


def test_a_waiting_thread_obeys_its_deadline():
    lock = TurnLock()

    with held(lock), pytest.raises(DeadlineExceeded, match="during: turn") as caught:
        take_at_once(lock)

    assert caught.value.phase == "turn"
    assert is_free(lock)


def test_a_deadline_that_has_passed_takes_no_turn():
    lock = TurnLock()

    with pytest.raises(DeadlineExceeded), deadline(0), lock.turn():
        pytest.fail("there was no time for a turn")

    assert is_free(lock)


def test_a_deadline_in_the_year_of_the_sun_can_be_waited_for():
    """threading refuses to wait for more than 292 years."""
    lock = TurnLock()

    with held(lock) as is_over, deadline(1e300):
        threading.Timer(0.02, is_over.set).start()
        with lock.turn():
            assert in_line(lock) == 1


def test_a_waiting_thread_is_woken_by_a_cancel():
    lock = TurnLock()

    with held(lock), pytest.raises(Cancelled), scope.cancellable() as token:
        threading.Timer(0.02, token.cancel).start()
        with lock.turn():
            pytest.fail("there was no turn to have")

    assert is_free(lock)


def test_a_cancelled_scope_takes_no_turn():
    lock = TurnLock()

    with pytest.raises(Cancelled), scope.cancellable() as token:
        token.cancel()
        with lock.turn():
            pytest.fail("it was cancelled")

    assert is_free(lock)


def test_those_who_give_up_do_not_stop_those_behind():
    lock, outcomes = TurnLock(), []

    def take(number):
        try:
            with deadline(0.02 if number % 2 else 30), lock.turn():
                outcomes.append(number)
        except DeadlineExceeded:
            outcomes.append(-number)

    with ThreadPoolExecutor(8) as pool:
        with held(lock):
            for number in range(8):
                pool.submit(take, number)
                until(lambda present=number + 1: in_line(lock) + len(outcomes) > present)
            until(lambda: len(outcomes) == 4)
        until(lambda: len(outcomes) == 8)

    assert sorted(outcomes[:4]) == [-7, -5, -3, -1]
    assert outcomes[4:] == [0, 2, 4, 6]


def test_a_turn_given_in_the_moment_of_giving_up_is_not_lost():
    rng = random.Random(1)

    for _ in range(100):
        lock = TurnLock()
        with held(lock) as is_over:
            threading.Timer(rng.uniform(0, 0.002), is_over.set).start()
            try:
                with deadline(rng.uniform(0, 0.002)), lock.turn():
                    pass
            except DeadlineExceeded:
                pass
        assert is_free(lock)


def test_a_turn_within_the_turn_is_refused_with_the_cure():
    lock = TurnLock()

    with lock.turn(), pytest.raises(ConfigError, match=r"middle of a turn.*\.new_branch\(\)"):
        lock.turn()

    assert is_free(lock)


def test_a_pool_thread_of_the_turn_is_within_the_turn():
    """A tool may run in a pool: waiting there for the turn would never end."""
    lock = TurnLock()

    def take():
        with lock.turn():
            pytest.fail("there was no turn to have")

    with ThreadPoolExecutor(1) as pool, lock.turn():
        future = pool.submit(copy_context().run, take)
        with pytest.raises(ConfigError, match="middle of a turn"):
            future.result(10)


def test_what_a_turn_left_behind_may_take_turns_later():
    lock = TurnLock()
    with lock.turn():
        left_behind = copy_context()

    assert left_behind.run(is_free, lock)
    with held(lock), pytest.raises(DeadlineExceeded):
        left_behind.run(take_at_once, lock)


def test_turns_of_two_locks_nest():
    outer, inner = TurnLock(), TurnLock()

    with outer.turn(), inner.turn():
        for lock in (outer, inner):
            with pytest.raises(ConfigError, match="middle of a turn"):
                lock.turn()

    assert is_free(outer)
    assert is_free(inner)


def forked(child):
    """Return whether *child* is true in a forked process; it has 10 s."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        answer = False
        try:
            with deadline(10):
                answer = child()
        finally:
            os._exit(0 if answer else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
class TestAfterAFork:
    def test_the_child_finds_a_turn_of_another_thread_free(self):
        lock = TurnLock()

        with held(lock):
            assert forked(lambda: is_free_in_child(lock))

        assert is_free(lock)

    def test_the_child_of_a_turn_may_take_and_leave_turns(self):
        lock = TurnLock()

        def child():
            turn.__exit__(None, None, None)
            return is_free_in_child(lock)

        turn = lock.turn()
        with turn:
            is_good = forked(child)

        assert is_good

        assert is_free(lock)

    def test_leaving_in_the_child_leaves_the_parents_line_alone(self, monkeypatch):
        lock = TurnLock()

        turn = lock.turn()
        with turn:
            with monkeypatch.context() as in_child:
                in_child.setattr(os, "getpid", lambda: -1)
                turn.__exit__(None, None, None)
            assert in_line(lock) == 1

        assert is_free(lock)

    def test_threads_of_the_child_take_turns(self):
        lock = TurnLock()

        def child():
            served = []

            def take():
                with deadline(5), lock.turn():
                    served.append(1)

            threads = [threading.Thread(target=take) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(5)
            return served == [1] * 8

        with held(lock):
            assert forked(child)


def is_free_in_child(lock):
    for _ in range(2):
        with deadline(2), lock.turn():
            pass
    return True
