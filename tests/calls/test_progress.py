"""Showing how far a run is."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lionlite.calls import progress
from lionlite.calls.family import icall, lcall
from lionlite.calls.progress import Pace, Traffic, clock, progress_from
from lionlite.exceptions import CallError, Interrupted
from lionlite.records import CallRecord, Usage

ROOT = Path(__file__).parents[2]


def listener():
    seen = []
    return seen, lambda done, total: seen.append((done, total))


@pytest.mark.parametrize(
    "call", [lcall, lambda *a, **k: list(icall(*a, **k))], ids=["lcall", "icall"]
)
def test_a_function_hears_what_is_done_and_the_total(call):
    seen, progress = listener()

    call(list(range(50)), str, progress=progress)

    done = [number for number, _ in seen]
    assert done == sorted(set(done))
    assert seen[-1] == (50, 50)


@pytest.mark.parametrize(
    ("items", "total"),
    [
        pytest.param((n for n in range(3)), None, id="generator"),
        pytest.param({1, 2, 3}, 3, id="set"),
        pytest.param("abc", 1, id="one item"),
        pytest.param(range(10**30), None, id="too many to count"),
    ],
)
def test_the_total_is_the_length_where_there_is_one(items, total):
    seen, progress = listener()

    next(icall(items, str, progress=progress))
    lcall([1], str, progress=progress)
    pairs = icall(items, str, progress=progress)
    next(pairs, None)
    pairs.close()

    assert {number for _, number in seen} <= {total, 1}


def test_failed_items_are_done_too():
    seen, progress = listener()

    lcall(range(9), lambda n: 1 // (n % 3), on_error="return", progress=progress)

    assert seen[-1] == (9, 9)


def test_it_is_called_by_the_calling_thread_only():
    threads = set()

    lcall(range(300), str, max_workers=8, progress=lambda *_: threads.add(threading.get_ident()))

    assert threads == {threading.get_ident()}


def test_a_function_that_raises_loses_no_result():
    calls = []

    def progress(done, total):
        calls.append(done)
        raise OSError("no such screen")

    with pytest.raises(
        CallError, match="All items ran, but progress= raised OSError: no such screen"
    ) as caught:
        lcall(range(300), str, max_workers=2, progress=progress)

    assert caught.value.results == [str(number) for number in range(300)]
    assert (len(calls), caught.value.failed) == (1, {})
    assert isinstance(caught.value.__cause__, OSError)


def test_an_item_that_fails_matters_more_than_progress():
    def progress(done, total):
        raise OSError

    with pytest.raises(CallError, match="Index 1: ZeroDivisionError"):
        lcall([1, 0], lambda n: 1 // n, on_error="continue", progress=progress)


def test_keyboard_interrupt_in_it_interrupts_the_run():
    def progress(done, total):
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        lcall(range(3), str, max_workers=1, progress=progress)

    assert caught.value.results[0] == "0"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal_for(monkeypatch):
    """Not a fixture: pytest puts its own stderr in place before each test."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    return sys.stderr


@pytest.fixture
def every_picture(monkeypatch):
    monkeypatch.setattr(progress, "REFRESH_S", 0.0)
    monkeypatch.setattr(progress, "LINE_S", 0.0)


def record(tokens=50, cost=0.5, waited_s=1.0, **more):
    usage = Usage(tokens, tokens)
    return CallRecord("m", usage=usage, cost=cost, waited_s=waited_s, elapsed_s=4.0, **more)


def test_a_function_is_called_at_most_ten_times_a_second():
    seen, progress = listener()

    began_s = time.monotonic()
    lcall(range(500), lambda _: time.sleep(0.001), max_workers=2, progress=progress)

    assert len(seen) <= 2 + (time.monotonic() - began_s) / 0.1
    assert seen[-1] == (500, 500)


def test_true_draws_a_bar_in_a_terminal(monkeypatch):
    terminal = terminal_for(monkeypatch)

    lcall(range(20), str, progress=True)

    assert "20/20" in terminal.getvalue()


def test_a_bar_without_a_total_counts(monkeypatch):
    terminal = terminal_for(monkeypatch)

    lcall(iter(range(20)), str, progress=True)

    assert "20item" in terminal.getvalue()


def test_a_bar_shows_what_the_chats_take(monkeypatch, every_picture):
    terminal, traffic = terminal_for(monkeypatch), Traffic(None)
    bar = progress_from(True, 10, traffic)

    traffic.ended(record())
    traffic.ended(record())
    bar.show(2)
    bar.close()

    last = terminal.getvalue().split("\r")[-1]
    assert "2/10" in last
    assert re.search(r"[\d,]+ tokens/min, 25% waiting for budget, \$1.00", last)


def test_without_a_terminal_it_is_plain_lines(capsys):
    lcall(range(20), str, progress=True)

    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"lionlite: 20 of 20 items, 0:0\d, [\d,.]+ items/s\n", err)


def test_a_line_tells_what_the_chats_take_and_what_is_left(capsys, every_picture):
    traffic = Traffic(None)
    lines = progress_from(True, 4_000, traffic)

    traffic.ended(record())
    lines.show(1_000)

    line = capsys.readouterr().err
    taken = r"items/s, [\d,]+ tokens/min, 25% waiting for budget, \$0.50, \d+:\d\d left"
    assert line.startswith("lionlite: 1,000 of 4,000 items, 0:00, ")
    assert re.search(taken, line)


def test_lines_come_every_few_seconds_only(capsys):
    lines = progress_from(True, None)

    for done in range(1000):
        lines.show(done)

    assert capsys.readouterr().err == ""


def test_a_log_that_is_closed_ends_no_run(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    sys.stderr.close()
    assert lcall([1], str, progress=True) == ["1"]

    monkeypatch.setattr(sys, "stderr", None)
    assert lcall([1], str, progress=True) == ["1"]


def test_traffic_is_told_by_many_threads():
    traffic = Traffic(None)

    lcall(range(800), lambda _: traffic.ended(record()), max_workers=16)

    assert (traffic.tokens, traffic.cost, traffic.waiting_share) == (80_000, 400.0, 0.25)


def test_replayed_answers_cost_nothing_now():
    traffic = Traffic(None)

    traffic.ended(record(is_replayed=True))

    assert (traffic.tokens, traffic.cost, traffic.waiting_share) == (0, None, None)


class Outer:
    """The work around: it hears everything."""

    remembers = True

    def __init__(self):
        self.heard = []

    def chat(self, request):
        return request

    def waits(self, what):
        self.heard.append(("waits", what))

    def goes_on(self, what):
        self.heard.append(("goes on", what))

    def ended(self, record):
        self.heard.append(record)


def test_traffic_tells_the_work_around():
    outer = Outer()
    traffic = Traffic(outer)

    traffic.waits("budget")
    traffic.goes_on("budget")
    traffic.ended(record())

    assert outer.heard == [("waits", "budget"), ("goes on", "budget"), record()]
    assert (traffic.remembers, traffic.chat(b"x")) == (True, b"x")


def test_traffic_alone_remembers_nothing():
    traffic = Traffic(None)
    traffic.waits("reply")
    traffic.goes_on("reply")

    assert not traffic.remembers
    with pytest.raises(LookupError):
        traffic.chat(b"x")


def test_a_rate_is_that_of_the_last_minute():
    pace = Pace(0.0)

    first = pace.per_second(600, 60.0)
    for second in range(61, 131):
        pace.per_second(600, second)

    assert (first, pace.per_second(600, 131.0), Pace(5.0).per_second(0, 5.0)) == (10.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_times_read_like_a_clock(seconds, text):
    assert clock(seconds) == text


NOTEBOOK = """
import sys, types, io
class Kernel:
    config = {"IPKernelApp": 1}
ipython = types.ModuleType("IPython"); ipython.get_ipython = Kernel
sys.modules["IPython"] = ipython; sys.modules["ipykernel"] = types.ModuleType("ipykernel")
sys.stderr = io.StringIO()
from lionlite.calls.progress import progress_from
shown = progress_from(True, 5)
shown.show(5); shown.close()
sys.exit(0 if "5 of 5 items" in sys.stderr.getvalue() else 1)
"""


def test_a_notebook_that_has_no_widgets_gets_lines():
    command = [sys.executable, "-W", "ignore", "-c", NOTEBOOK]

    assert subprocess.run(command, cwd=ROOT).returncode == 0


def test_false_draws_nothing(capsys):
    lcall(range(20), str, progress=False)

    assert capsys.readouterr() == ("", "")


def test_tqdm_is_imported_only_for_a_bar():
    code = (
        "import sys; from lionlite.calls.family import lcall;"
        "lcall([1], str); lcall([1], str, progress=lambda d, t: None);"
        "lcall([1], str, progress=True);"
        "sys.exit('tqdm' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE)

    assert done.returncode == 0
