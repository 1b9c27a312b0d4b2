"""Ctrl-C: everything finished comes back, and Python can end."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
WAIT_S = 20  # only a failing test waits so long

PREAMBLE = """
    import os, signal, sys, threading, time
    from lionlite.calls import engine
    from lionlite.calls.family import icall, lcall
    from lionlite.exceptions import Cancelled, Interrupted
    from lionlite.scope import current, sleep

    # Even where the tests run in the background of a shell, which ignores SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def say(*words):
        print(*words, flush=True)

    all_run = threading.Barrier(4, action=lambda: say("ready"))
"""


class Child:
    """A Python process whose main thread gets real SIGINTs."""

    def __init__(self, code):
        code = textwrap.dedent(PREAMBLE) + textwrap.dedent(code)
        command = [sys.executable, "-u", "-c", code]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def line(self):
        return self.process.stdout.readline().strip()

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def end(self):
        out, err = self.process.communicate(timeout=WAIT_S)
        return out.splitlines(), err, self.process.returncode


def after_ctrl_c(code):
    child = Child(code)
    assert child.line() == "ready"
    child.interrupt()
    out, err, status = child.end()
    assert (err, status) == ("", 0)
    return out


def test_everything_finished_is_in_the_results():
    out = after_ctrl_c("""
        def func(number):
            if number < 40:
                return number
            all_run.wait()
            sleep(600, phase="turn")

        try:
            lcall(range(1000), func, max_workers=4)
        except Interrupted as error:
            say(error.results == list(range(40)) + [None] * (len(error.results) - 40))
            say(error.failed, isinstance(error, KeyboardInterrupt))
            say(error)
    """)

    assert out[:2] == ["True", "{} True"]
    assert out[2].startswith("Interrupted: 40 of ")


def test_errors_that_came_before_are_in_failed():
    out = after_ctrl_c("""
        def func(number):
            if number == 1:
                raise OSError("before")
            if number > 1:
                all_run.wait()
                sleep(600, phase="turn")
            return number

        try:
            lcall(range(1000), func, max_workers=4, on_error="return")
        except Interrupted as error:
            say(error.results[:3], error.failed)
    """)

    assert out == ["[0, None, None] {1: OSError('before')}"]


def test_an_item_that_does_not_listen_is_left_behind_and_named():
    out = after_ctrl_c("""
        leave = threading.Event()

        def func(number):
            all_run.wait()
            if number:
                sleep(600, phase="turn")
            leave.wait()

        try:
            lcall(range(4), func)
        except Interrupted as error:
            say(error)
        leave.set()
    """)

    assert "1 still run; Python waits for them at exit." in out[0]


def test_a_second_ctrl_c_does_not_wait_for_the_items():
    child = Child("""
        engine.GRACE_S = 600
        leave = threading.Event()

        def func(number):
            with current().token.woken_by(lambda: say("told")):
                all_run.wait()
                leave.wait()

        try:
            lcall(range(4), func)
        except Interrupted as error:
            say("interrupted")
        leave.set()
    """)
    assert child.line() == "ready"
    child.interrupt()
    assert [child.line() for _ in range(4)] == ["told"] * 4

    child.interrupt()

    assert child.end() == (["interrupted"], "", 0)


def test_it_is_heard_while_the_input_blocks():
    out = after_ctrl_c("""
        def numbers():
            yield from range(3)
            while len(done) < 3:
                time.sleep(0.001)
            say("ready")
            time.sleep(600)

        done = []

        def func(number):
            done.append(number)
            return number

        try:
            lcall(numbers(), func)
        except Interrupted as error:
            say(error.results)
    """)

    assert out == ["[0, 1, 2]"]


def test_nested_calls_come_back_too():
    out = after_ctrl_c("""
        def inner(number):
            all_run.wait()
            sleep(600, phase="turn")

        def outer(number):
            return number if number < 2 else lcall(range(2), inner)

        try:
            lcall(range(4), outer, max_workers=2)
        except Interrupted as error:
            say(error.results, error.failed, "still run" in str(error))
    """)

    assert out == ["[0, 1, None, None] {} False"]


def test_icall_yields_what_finished_and_then_raises():
    out = after_ctrl_c("""
        def func(number):
            if number >= 10:
                all_run.wait()
                sleep(600, phase="turn")
            return number

        seen = []
        try:
            for index, value in icall(range(1000), func, max_workers=4):
                seen.append(value)
        except Interrupted as error:
            say(sorted(seen), error.results)
    """)

    assert out == ["[0, 1, 2, 3, 4, 5, 6, 7, 8, 9] []"]


def test_a_program_that_is_stuck_at_exit_ends_with_another_ctrl_c():
    """Python waits for the threads of an executor; `func` never listens."""
    child = Child("""
        def func(number):
            all_run.wait()
            threading.Event().wait()

        try:
            lcall(range(4), func)
        except Interrupted as error:
            say("interrupted")
        threading._register_atexit(say, "exiting")
    """)
    assert child.line() == "ready"
    child.interrupt()
    assert [child.line(), child.line()] == ["interrupted", "exiting"]

    child.interrupt()

    assert child.end()[2] == 0
