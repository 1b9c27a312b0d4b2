"""A clock that moves only when it is told to."""

from __future__ import annotations

import math
import threading

import pytest

from lionlite.exceptions import ConfigError
from lionlite.testing import ManualClock

pytestmark = pytest.mark.quick


def test_it_stands_still_until_moved():
    clock = ManualClock(5.0)
    assert (clock(), clock.now_s()) == (5.0, 5.0)

    clock.advance(2.5)

    assert (clock(), clock.slept_s) == (7.5, [])


def test_sleeping_moves_it_and_is_remembered():
    clock = ManualClock()

    clock.sleep(60)
    clock.sleep(0)

    assert (clock(), clock.slept_s) == (60.0, [60.0, 0.0])


def test_it_can_jump_back():
    clock = ManualClock(100.0)

    clock.set(40)

    assert repr(clock) == "ManualClock(now_s=40.0)"


def test_the_list_of_sleeps_is_a_copy():
    clock = ManualClock()
    clock.slept_s.append(1.0)

    assert clock.slept_s == []


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "1", True], ids=repr)
@pytest.mark.parametrize("move", ["advance", "sleep"])
def test_it_refuses_to_move_by_nonsense(move, seconds):
    with pytest.raises(ConfigError, match=r"seconds=.* is no length of time"):
        getattr(ManualClock(), move)(seconds)


def test_it_refuses_instants_that_are_none():
    with pytest.raises(ConfigError, match="start_s=nan"):
        ManualClock(math.nan)
    with pytest.raises(ConfigError, match="now_s=inf"):
        ManualClock().set(math.inf)


def test_threads_lose_no_sleep():
    clock = ManualClock()

    def sleep_often():
        for _ in range(500):
            clock.sleep(1)

    threads = [threading.Thread(target=sleep_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (clock(), len(clock.slept_s)) == (4000.0, 4000)
