"""Ctrl-C while a turn is taken, waited for or given back loses no turn."""

from __future__ import annotations

import itertools
import signal
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from interrupts import ctrl_c_at

from lionlite import DeadlineExceeded, deadline, line
from lionlite.conversation import turns
from lionlite.conversation.turns import TurnLock

# The first step of what ends or begins a `with`: it stands outside of what it protects.
OUTSIDE = {"__enter__", "__exit__", "_surely_leave"}
FILES = {line.__file__, turns.__file__}


def waiting(lock):
    return lock.length


def until(condition):
    ends_at_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends_at_s
        time.sleep(0.0002)


@contextmanager
def held(lock, *, is_over):
    """Hold the turn in another thread until *is_over* says so."""

    def hold():
        with lock.turn():
            is_in.set()
            until(is_over)

    is_in = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    assert is_in.wait(10)
    try:
        yield
    finally:
        thread.join(10)
        assert not thread.is_alive()


def free_turn(number, lock):
    with ctrl_c_at(number, FILES, outside=OUTSIDE), lock.turn():
        pass


def turn_waited_for(number, lock):
    is_tried = False
    with held(lock, is_over=lambda: is_tried or waiting(lock) == 2):
        try:
            with ctrl_c_at(number, FILES, outside=OUTSIDE), lock.turn():
                pass
        finally:
            is_tried = True


def turn_given_up(number, lock):
    is_tried = False
    with held(lock, is_over=lambda: is_tried):
        try:
            with (
                pytest.raises(DeadlineExceeded),
                deadline(0.0005),
                ctrl_c_at(number, FILES, outside=OUTSIDE),
                lock.turn(),
            ):
                pass
        finally:
            is_tried = True


def turn_handed_on(number, lock):
    is_served = threading.Event()

    def take():
        with lock.turn():
            is_served.set()

    thread = threading.Thread(target=take)
    try:
        with ctrl_c_at(number, FILES, outside=OUTSIDE), lock.turn():
            thread.start()
            until(lambda: waiting(lock) == 2)
    finally:
        if thread.ident is not None:
            assert is_served.wait(2)
            thread.join(10)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="not every opcode is traced")
@pytest.mark.parametrize(
    "take", [free_turn, turn_waited_for, turn_given_up, turn_handed_on], ids=lambda f: f.__name__
)
def test_ctrl_c_at_any_place_loses_no_turn(take):
    for number in itertools.count():
        lock = TurnLock()
        try:
            take(number, lock)
        except KeyboardInterrupt:
            with deadline(2), lock.turn():
                assert waiting(lock) == 1
        else:
            break

    assert number > 10


def test_a_turn_whose_giving_back_is_cut_short_is_given_back(monkeypatch):
    lock, leave, cuts = TurnLock(), line._Place._leave, ["once"]

    def cut_short(turn):
        if cuts:
            raise KeyboardInterrupt(cuts.pop())
        leave(turn)

    monkeypatch.setattr(line._Place, "_leave", cut_short)

    with pytest.raises(KeyboardInterrupt), lock.turn():
        pass

    assert waiting(lock) == 0


def test_a_waiting_main_thread_can_be_interrupted():
    lock, main, is_tried = TurnLock(), threading.main_thread().ident, False

    def press_ctrl_c():
        until(lambda: waiting(lock) == 2)
        time.sleep(0.05)  # a signal just before the system call would not end it
        signal.pthread_kill(main, signal.SIGINT)

    with held(lock, is_over=lambda: is_tried):
        thread = threading.Thread(target=press_ctrl_c)
        thread.start()
        with pytest.raises(KeyboardInterrupt), deadline(10), lock.turn():
            pytest.fail("there was no turn to have")
        thread.join(10)
        is_tried = True

    with deadline(2), lock.turn():
        assert waiting(lock) == 1
