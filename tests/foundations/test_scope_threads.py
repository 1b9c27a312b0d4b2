"""Cancelling from other threads, and scopes in forked children."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from lionlite.exceptions import Cancelled
from lionlite.scope import CancelToken, cancellable, current, deadline, entered, sleep


def in_child(function):
    """Return the exit status of *function* run in a forked child, 99 if it hung."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        try:
            function()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status)


def test_a_sleep_is_woken_by_a_cancel_from_another_thread():
    with cancellable() as token:
        canceller = threading.Timer(0.05, token.cancel)
        canceller.start()
        began_s = time.monotonic()

        with pytest.raises(Cancelled):
            sleep(30, phase="backoff")

    canceller.join()
    assert time.monotonic() - began_s < 5


def test_one_cancel_wakes_every_thread_below_it():
    ready = threading.Barrier(17)
    outcomes = []

    def work(token):
        with entered(current()), cancellable() as own:
            both = CancelToken(token, own)
            with both.woken_by(woken.set):
                ready.wait()
                woken.wait(30)
                outcomes.append(both.is_cancelled)

    token, woken = CancelToken(), threading.Event()
    threads = [threading.Thread(target=work, args=(token,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    ready.wait()

    token.cancel()
    for thread in threads:
        thread.join(30)

    assert outcomes == [True] * 16


def test_once_a_waker_has_left_no_cancel_still_runs_it():
    """A waker that closes over a socket must not hit the descriptor's next owner."""
    for _ in range(300):
        token = CancelToken()
        left = threading.Event()
        late = []
        together = threading.Barrier(2)

        def cancel(token=token, together=together):
            together.wait()
            token.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        with token.woken_by(lambda left=left, late=late: late.append(left.is_set())):
            together.wait()
        left.set()
        thread.join()

        assert True not in late


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_can_use_a_token_whose_lock_was_held():
    token = CancelToken()
    in_waker, release = threading.Event(), threading.Event()

    def hold():
        in_waker.set()
        release.wait(30)

    with token.woken_by(hold):
        holder = threading.Thread(target=token.cancel)
        holder.start()
        in_waker.wait()

        def use():
            with CancelToken(token).woken_by(lambda: None):
                token.cancel()

        status = in_child(use)
        release.set()
        holder.join()

    assert status == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_keeps_the_deadline_and_can_be_cancelled_alone():
    with deadline(60) as here, cancellable() as token:

        def use():
            if current().ends_at_s != here.ends_at_s:
                os._exit(2)
            token.cancel()
            if not current().token.is_cancelled:
                os._exit(3)

        status = in_child(use)

        assert (status, token.is_cancelled) == (0, False)
