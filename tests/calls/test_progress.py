"""Showing how far a run is."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lionlite.calls.family import icall, lcall
from lionlite.exceptions import CallError, Interrupted

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


def test_true_draws_a_bar(capsys):
    lcall(range(20), str, progress=True)

    assert "20/20" in capsys.readouterr().err


def test_a_bar_without_a_total_counts(capsys):
    lcall(iter(range(20)), str, progress=True)

    assert "20item" in capsys.readouterr().err


def test_false_draws_nothing(capsys):
    lcall(range(20), str, progress=False)

    assert capsys.readouterr() == ("", "")


def test_tqdm_is_imported_only_for_a_bar():
    code = (
        "import sys; from lionlite.calls.family import lcall;"
        "lcall([1], str); lcall([1], str, progress=lambda d, t: None);"
        "sys.exit('tqdm' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
