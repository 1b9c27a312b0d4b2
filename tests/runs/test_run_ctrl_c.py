"""Ctrl-C during run(): a run comes back, with everything finished and the way on."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PREAMBLE = """
    import signal, sys, threading, time
    from lionlite.calls.runs.run import last_run, run
    from lionlite.scope import sleep

    # Even where the tests run in the background of a shell, which ignores SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    all_run = threading.Barrier(4, action=lambda: print("ready", flush=True))

    def func(number):
        if number >= 40:
            all_run.wait()
            sleep(600, phase="turn")
        return number
"""


def after_ctrl_c(code):
    script = textwrap.dedent(PREAMBLE) + textwrap.dedent(code)
    child = subprocess.Popen(
        [sys.executable, "-u", "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=20)
    assert (err, child.returncode) == ("", 0)
    return out.splitlines()


def test_a_run_returns_interrupted_with_everything_finished():
    out = after_ctrl_c("""
        began = time.monotonic()
        result = run(range(1000), func, max_workers=4)
        print(result.interrupted, result.results[:41] == [*range(40), None])
        print({outcome.status for outcome in result[40:]}, result.errors, last_run() is result)
    """)

    assert out == ["True True", "{'unfinished'} {} True"]


def test_the_repr_says_the_line_that_resumes_it(tmp_path):
    path = str(tmp_path / "run.db")

    out = after_ctrl_c(f"""
        result = run(range(1000), func, max_workers=4, checkpoint={path!r})
        print(repr(result))
    """)

    assert "stopped  Interrupted by Ctrl-C." in out
    assert f"later: run(items, func, checkpoint={path!r})." in "\n".join(out)


@pytest.mark.parametrize("items", ["range(60)", "(n for n in range(60))"])
def test_retry_failed_runs_the_rest(items):
    out = after_ctrl_c(f"""
        result = run({items}, func, max_workers=4)
        all_run.wait = lambda: None
        sleep = lambda *_, **__: None
        print(result.retry_failed().results == list(range(60)))
    """)

    assert out == ["True"]
