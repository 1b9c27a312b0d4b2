"""The lock that a forked child finds free."""

from __future__ import annotations

import os
import threading

import pytest

from lionlite.locks import ProcessLock


@pytest.mark.quick
def test_one_thread_at_a_time_holds_it():
    lock = ProcessLock()
    entered = threading.Event()

    def enter():
        with lock.inner:
            entered.set()

    with lock.inner:
        thread = threading.Thread(target=enter, daemon=True)
        thread.start()
        assert not entered.wait(0.05)
    thread.join(5)

    assert entered.is_set()


def test_a_child_finds_it_free_though_a_thread_of_the_parent_holds_it():
    lock = ProcessLock()
    held, leave = threading.Event(), threading.Event()

    def hold():
        with lock.inner:
            held.set()
            leave.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(5)

    child = os.fork()
    if child == 0:
        with lock.inner:
            os._exit(7)
    _, status = os.waitpid(child, 0)
    leave.set()
    thread.join(5)

    assert os.waitstatus_to_exitcode(status) == 7
