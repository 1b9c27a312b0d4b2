"""Grace, SIGTERM, the way to go on, and many chats in flight at Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

from lionlite.calls.family import icall, lcall
from lionlite.exceptions import Interrupted

ROOT = Path(__file__).parents[2]
WAIT_S = 30  # only a failing test waits so long

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")

PREAMBLE = """
    import signal, sys, threading, time
    from lionlite.calls.family import icall, lcall
    from lionlite.exceptions import Interrupted
    from lionlite.scope import sleep

    # Even where the tests run in the background of a shell, which ignores SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def say(*words):
        print(*words, flush=True)

    all_run = threading.Barrier(4, action=lambda: say("ready"))
"""


class Child:
    """A Python process whose main thread gets real signals."""

    def __init__(self, code, *args):
        code = textwrap.dedent(PREAMBLE) + textwrap.dedent(code)
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", code, *args],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self):
        return self.process.stdout.readline().strip()

    def end(self):
        out, err = self.process.communicate(timeout=WAIT_S)
        assert (err, self.process.returncode) == ("", 0)
        return out.splitlines()


def after(signum, code, *args):
    child = Child(code, *args)
    assert child.line() == "ready"
    child.process.send_signal(signum)
    return child.end()


SLOW = """
    def func(number):
        if number < 4:
            return number
        all_run.wait()
        sleep(0.3, phase="turn")
        return number
"""


def test_items_in_flight_may_finish_within_the_grace():
    out = after(signal.SIGINT, SLOW + """
    try:
        lcall(range(1000), func, max_workers=4, grace=60)
    except Interrupted as error:
        say(error.results[:9], len([v for v in error.results if v is not None]))
    """)

    assert out == ["[0, 1, 2, 3, 4, 5, 6, 7, None] 8"]


def test_items_are_cut_when_the_grace_is_over():
    out = after(signal.SIGINT, """
    def func(number):
        all_run.wait()
        sleep(600 if number else 0.02, phase="turn")
        return number

    try:
        lcall(range(4), func, max_workers=4, grace=0.5)
    except Interrupted as error:
        say(error.results, "still run" in str(error))
    """)

    assert out == ["[0, None, None, None] False"]


def test_a_second_ctrl_c_ends_the_grace():
    child = Child("""
    def func(number):
        all_run.wait()
        sleep(600, phase="turn")

    try:
        lcall(range(4), func, max_workers=4, grace=600)
    except Interrupted as error:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        say(error.results)
    """)
    assert child.line() == "ready"
    child.process.send_signal(signal.SIGINT)
    # On a busy machine the second may come before the first was raised, and be one with it.
    for _ in range(WAIT_S):
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(1)
            break
        child.process.send_signal(signal.SIGINT)

    assert child.end() == ["[None, None, None, None]"]


@pytest.mark.parametrize("call", ["lcall", "list(icall"])
def test_sigterm_means_the_same_when_asked(call):
    close = ")" if "(" in call else ""
    out = after(signal.SIGTERM, SLOW + f"""
    before = signal.getsignal(signal.SIGTERM)
    try:
        {call}(range(1000), func, max_workers=4, sigterm=True){close}
    except Interrupted as error:
        say(error.results[:5])
    say(signal.getsignal(signal.SIGTERM) == before)
    """)

    assert out == ["[0, 1, 2, 3, None]" if call == "lcall" else "[]", "True"]


def test_sigterm_kills_when_not_asked():
    child = Child(SLOW + """
    lcall(range(1000), func, max_workers=4)
    """)
    assert child.line() == "ready"
    child.process.terminate()
    child.process.communicate(timeout=WAIT_S)

    assert child.process.returncode == -signal.SIGTERM


def test_the_handler_of_before_is_put_back():
    def mine(*_):
        raise NotImplementedError

    before = signal.signal(signal.SIGTERM, mine)
    try:
        seen = lcall([1], lambda _: signal.getsignal(signal.SIGTERM), sigterm=True)
        pairs = icall([1], str, sigterm=True)
        after_creation = signal.getsignal(signal.SIGTERM)
        next(pairs)
        pairs.close()
        at_end = signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert seen == [signal.default_int_handler]
    assert (after_creation, at_end) == (mine, mine)


def test_a_handler_that_python_cannot_put_back_becomes_the_systems(monkeypatch):
    real = signal.signal
    monkeypatch.setattr(signal, "signal", lambda *args: real(*args) and None)
    before = signal.getsignal(signal.SIGTERM)

    try:
        lcall([1], str, sigterm=True)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        real(signal.SIGTERM, before)


def test_the_message_names_the_call_that_goes_on(tmp_path):
    def func(number):
        if number == 3:
            raise KeyboardInterrupt
        return number

    path = tmp_path / "run.db"
    with pytest.raises(Interrupted) as caught:
        lcall(range(9), func, max_workers=1, checkpoint=path)

    assert f"The same call with checkpoint={str(path)!r} goes on from here." in str(caught.value)
    assert lcall(range(9), str, max_workers=1, checkpoint=path) == list("012345678")


HELD = """
    import lionlite as ll

    held, count = threading.Semaphore(0), 256
    def answer(body):
        number = int(body["messages"][-1]["content"])
        if number >= 100:
            held.release()
            closing.wait(600)
        return str(number)

    closing = threading.Event()
    with ll.testing.FakeProvider(answer) as provider, provider.service() as service:
        def chat(number):
            return ll.Session(service=service).chat(str(number))

        def watch():
            for _ in range(count):
                held.acquire()
            say("ready")

        threading.Thread(target=watch).start()
        pressed = []
        def note(*args):
            pressed.append(time.monotonic())
            signal.default_int_handler(*args)
        signal.signal(signal.SIGINT, note)
        try:
            lcall(range(2000), chat, max_workers=count)
        except Interrupted as error:
            back_s = time.monotonic() - pressed[0]
            done = [value for value in error.results if value is not None]
            say(done == [str(number) for number in range(100)], error.failed, back_s)
        closing.set()
"""


def test_256_chats_in_flight_are_cut_at_once():
    [line] = after(signal.SIGINT, HELD)

    said, back_s = line.rsplit(" ", 1)
    assert said == "True {}"
    print(f"Ctrl-C with 256 chats in flight: back after {float(back_s):.2f} s")
    assert float(back_s) < 5  # 1 s is what it must take on a quiet machine
