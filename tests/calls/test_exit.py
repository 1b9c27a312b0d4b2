"""The end of Python while runs are under way: nobody waits for replies."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WAIT_S = 30  # only a failing test waits so long

PREAMBLE = """
    import os, sys, threading, time
    from lionlite.calls import exit as exiting
    from lionlite.calls.family import icall, lcall
    from lionlite.exceptions import Cancelled
    from lionlite.scope import sleep

    def say(*words):
        print(*words, flush=True)

    all_run = threading.Barrier(5)

    def reply(number):
        all_run.wait()
        sleep(600, phase="read")
"""


def ended(code):
    """Run *code* to its end; return what it said on stdout and on stderr."""
    code = textwrap.dedent(PREAMBLE) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


def test_a_run_of_another_thread_is_cancelled():
    out, err = ended("""
        def job():
            try:
                lcall(range(1000), reply, max_workers=4)
            except Cancelled as error:
                say(type(error).__name__)

        threading.Thread(target=job).start()
        all_run.wait()
    """)

    assert (out, err) == (["Cancelled"], "")


def test_items_that_do_not_chat_are_not_all_done_first():
    """Without a hook of ours, Python would run all 1,000 of them."""
    out, err = ended("""
        done = []

        def func(number):
            done.append(number)
            if number == 9:
                all_run.set()
            time.sleep(0.02)

        all_run = threading.Event()
        threading._register_atexit(lambda: None)
        threading.Thread(target=lcall, args=(range(1000), func), kwargs={"max_workers": 2}).start()
        all_run.wait()

        import atexit
        atexit.register(lambda: say(len(done) < 500))
    """)

    assert out == ["True"]
    assert "Cancelled" in err  # the thread's own traceback


def test_an_iterator_that_was_left_standing_does_not_hold_python_back():
    out, err = ended("""
        waits = threading.Event()

        def func(number):
            if number == 0:
                waits.wait()
                return number
            waits.set()
            sleep(600, phase="read")

        pairs = icall(range(2), func, max_workers=2)
        say(next(pairs))
    """)

    assert (out, err) == (["(0, 0)"], "")


def test_a_function_that_does_not_listen_is_named():
    out, err = ended("""
        leave = threading.Event()

        def deaf(number):
            all_run.wait()
            leave.wait()

        def job():
            try:
                lcall(range(4), deaf, max_workers=4)
            except Cancelled:
                say("cancelled")

        threading.Thread(target=job).start()
        all_run.wait()
        # Long after our own hook has looked.
        threading.Timer(2.0, leave.set).start()
    """)

    assert out == ["cancelled"]
    assert err == (
        "lionlite: Python waits for 4 running items of __main__.deaf(), which does not end when "
        "told (the oldest since 1 s). Ctrl-C ends without them.\n"
    )


@pytest.mark.parametrize("stderr", ["None", "open(os.devnull)"], ids=["none", "broken"])
def test_nothing_breaks_where_nobody_reads_stderr(stderr):
    out, _ = ended(f"""
        leave = threading.Event()

        def deaf(number):
            all_run.wait()
            leave.wait()

        threading.excepthook = lambda args: say(args.exc_type.__name__)
        threading.Thread(target=lcall, args=(range(4), deaf)).start()
        all_run.wait()
        sys.stderr = {stderr}
        threading.Timer(1.0, leave.set).start()
    """)

    assert out == ["Cancelled"]


def test_a_call_made_while_python_exits_says_that_it_gets_no_thread():
    out, err = ended("""
        from lionlite.exceptions import LionError

        def job():
            time.sleep(0.3)
            try:
                lcall(range(4), str)
            except LionError as error:
                say(type(error).__name__)

        threading.Thread(target=job).start()
    """)

    assert (out, err) == (["CallError"], "")


def test_runs_that_are_over_are_forgotten():
    out, _ = ended("""
        lcall(range(10), str)
        list(icall(range(10), str))
        pairs = icall(range(1000), str)
        next(pairs)
        say(len(exiting._live))
        pairs.close()
        say(len(exiting._live))
    """)

    assert out == ["1", "0"]


def test_a_forked_child_has_no_runs_of_its_parent():
    out, _ = ended("""
        import warnings
        warnings.simplefilter("ignore")
        pairs = icall(range(1000), str)
        next(pairs)
        child = os.fork()
        if child == 0:
            say(len(exiting._live))
            os._exit(0)
        os.waitpid(child, 0)
        pairs.close()
    """)

    assert out == ["0"]


def test_the_end_comes_at_once():
    began_s = time.monotonic()
    ended("""
        threading.excepthook = lambda args: None
        threading.Thread(target=lcall, args=(range(4), reply)).start()
        all_run.wait()
    """)

    assert time.monotonic() - began_s < 10  # of which starting Python is most
