"""Standing in line: cd.throttle and cd.max_concurrency with many threads, cuts and forks."""

from __future__ import annotations

import contextvars
import itertools
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from interrupts import ctrl_c_at

from lionlite import line as line_module
from lionlite.calls.decorators.cd import cd
from lionlite.calls.family import lcall
from lionlite.exceptions import Cancelled, DeadlineExceeded
from lionlite.line import Line
from lionlite.scope import cancellable, deadline

pytestmark = pytest.mark.quick


def standing(line):
    return sum(map(len, line._by_process.values()))


def line_of(decorated, name="line"):
    cells = dict(zip(decorated.__code__.co_freevars, decorated.__closure__, strict=True))
    return cells[name].cell_contents


def until(condition):
    ends_at_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends_at_s
        time.sleep(0.0002)


class Most:
    """Counts how many are inside of it at the same time."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = self.total = 0

    def __enter__(self):
        with self.lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_):
        with self.lock:
            self.now -= 1


# max_concurrency


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_never_more_than_the_limit_run_at_the_same_time(limit):
    most, start = Most(), threading.Barrier(64, timeout=20)

    @cd.max_concurrency(limit)
    def work():
        with most:
            time.sleep(0.0005)

    lcall(range(64), lambda _: (start.wait(), work(), work()), max_workers=64)

    assert most.total == 128
    assert most.most <= limit
    assert standing(line_of(work)) == 0


def test_all_places_are_used():
    meeting = threading.Barrier(5, timeout=10)

    @cd.max_concurrency()
    def work(_):
        return meeting.wait() >= 0

    assert lcall(range(25), work, max_workers=25) == [True] * 25


@contextmanager
def occupied(work, line):
    """Have another thread inside *work* until the end of the `with`."""
    is_free = threading.Event()
    thread = threading.Thread(target=work, args=(is_free,))
    thread.start()
    until(lambda: standing(line) == 1)
    try:
        yield
    finally:
        is_free.set()
        thread.join(10)
        assert not thread.is_alive()


def test_first_come_first_served():
    served = []

    @cd.max_concurrency(1)
    def work(ready, name=None):
        ready.wait(10)
        served.append(name)

    line, ready = line_of(work), threading.Event()
    ready.set()
    threads = []
    with occupied(work, line):
        for name in range(20):
            threads.append(threading.Thread(target=work, args=(ready, name)))
            threads[-1].start()
            until(lambda name=name: standing(line) == name + 2)
    for thread in threads:
        thread.join(10)

    assert served == [None, *range(20)]


def test_an_error_gives_the_place_back():
    @cd.max_concurrency(1)
    def work():
        raise ValueError

    for _ in range(3):
        with pytest.raises(ValueError), deadline(5):
            work()


def test_waiting_ends_with_the_deadline_and_leaves_the_line():
    @cd.max_concurrency(1)
    def work(is_free):
        is_free.wait(10)

    line = line_of(work)
    with occupied(work, line):
        with deadline(0.02), pytest.raises(DeadlineExceeded) as caught:
            work(threading.Event())
        assert standing(line) == 1

    assert caught.value.phase == "max_concurrency"


def test_a_cancel_wakes_all_that_wait_and_those_behind_move_up():
    called = []

    @cd.max_concurrency(1)
    def work(is_free):
        called.append(1)
        is_free.wait(10)

    line, cancelled = line_of(work), []

    def wait_and_be_cut():
        with pytest.raises(Cancelled):
            work(threading.Event())
        cancelled.append(1)

    with occupied(work, line):
        with cancellable() as token:
            threads = [carry(wait_and_be_cut) for _ in range(30)]
            for thread in threads:
                thread.start()
            until(lambda: standing(line) == 31)
            last = threading.Thread(target=lambda: work(set_event()))
            last.start()
            until(lambda: standing(line) == 32)

            token.cancel()

            for thread in threads:
                thread.join(10)
        assert len(cancelled) == 30
        assert standing(line) == 2
    last.join(10)

    assert len(called) == 2


def carry(function):
    """Return a thread that runs *function* in a copy of this context."""
    return threading.Thread(target=contextvars.copy_context().run, args=(function,))


def set_event():
    event = threading.Event()
    event.set()
    return event


def test_a_call_from_within_a_call_does_not_wait_for_itself():
    @cd.max_concurrency(1)
    def depth(number):
        return 1 + depth(number - 1) if number else 0

    with deadline(5):
        assert depth(20) == 20


def test_nor_does_one_from_the_threads_of_a_nested_run():
    @cd.max_concurrency(2)
    def total(number):
        return 1 + sum(lcall([number - 1] * 2, total, max_workers=2)) if number else 1

    with deadline(20):
        assert lcall([3] * 4, total, max_workers=4) == [15] * 4


def test_a_place_held_once_is_not_held_for_ever():
    @cd.max_concurrency(1)
    def work():
        kept.append(contextvars.copy_context())
        return line_of(work).is_held_here()

    kept = []

    assert work()
    assert not kept[0].run(line_of(work).is_held_here)


def test_two_functions_have_places_of_their_own():
    limit = cd.max_concurrency(1)
    inner = limit(lambda: "inner")
    outer = limit(inner)

    with deadline(5):
        assert outer() == "inner"


# throttle


def test_starts_are_a_period_apart_over_all_threads():
    period_s, starts, begin = 0.01, [], threading.Barrier(32, timeout=20)

    @cd.throttle(period_s)
    def work():
        starts.append(time.monotonic())

    lcall(range(32), lambda _: (begin.wait(), work()), max_workers=32)

    # A thread may lose the processor between its start and its note of it: so
    # not each gap, but how long any stretch of them takes at least, with a
    # margin of a switch.
    for first, last in itertools.combinations(sorted(starts)[::4], 2):
        number = sorted(starts).index(last) - sorted(starts).index(first)
        assert last - first >= number * period_s - 0.1
    assert max(starts) - min(starts) >= 31 * period_s - 0.1


def test_in_one_thread_every_gap_is_a_period():
    stamps = []

    @cd.throttle(0.02)
    def work():
        stamps.append(time.monotonic())

    for _ in range(4):
        work()
        time.sleep(random.uniform(0, 0.005))

    gaps = [after - before for before, after in itertools.pairwise(stamps)]
    assert min(gaps) >= 0.02 - 0.001


def test_the_first_call_does_not_wait():
    with deadline(5):
        assert cd.throttle(3_600)(lambda: "done")() == "done"


def test_a_wait_past_the_deadline_is_refused_at_once_and_takes_no_turn():
    func = cd.throttle(3_600)(time.monotonic)
    pace, began_s = line_of(func, "pace"), func()
    free_at_s = pace._free_at_s

    for _ in range(50):
        with deadline(60), pytest.raises(DeadlineExceeded):
            func()

    assert (pace._free_at_s, standing(pace._line)) == (free_at_s, 0)
    assert time.monotonic() - began_s < 30


def test_those_who_are_cancelled_leave_no_gap():
    def try_it():
        try:
            passed.append(func())
        except Cancelled:
            cut.append(1)

    passed, cut = [], []
    func = cd.throttle(0.5)(time.monotonic)
    with cancellable() as token:
        first_s = func()
        threads = [carry(try_it) for _ in range(40)]
        for thread in threads:
            thread.start()
        pace = line_of(func, "pace")
        until(lambda: standing(pace._line) + len(passed) == 40)
        token.cancel()
        for thread in threads:
            thread.join(10)

    # Forty turns would have been twenty seconds.
    assert len(cut) > 0
    assert func() - first_s < 0.5 * (len(passed) + 1) + 5


def test_first_come_first_paced():
    served = []
    func = cd.throttle(0.002)(served.append)
    pace = line_of(func, "pace")
    threads = [threading.Thread(target=func, args=(name,)) for name in range(16)]
    with pace._line.place():
        for name, thread in enumerate(threads):
            thread.start()
            until(lambda name=name: standing(pace._line) == name + 2)
    for thread in threads:
        thread.join(10)

    assert served == list(range(16))


def test_functions_under_one_throttle_share_the_pace():
    throttle = cd.throttle(0.05)
    first, second = throttle(time.monotonic), throttle(time.monotonic)

    began_s = first()
    assert second() - began_s >= 0.05 - 0.001


# Ctrl-C and forks

# The first step of what ends or begins a `with`: it stands outside of what it protects.
OUTSIDE = {"__enter__", "__exit__", "_surely_leave"}
FILES = {line_module.__file__}


@contextmanager
def held(line, *, is_over):
    """Hold a place in another thread until *is_over* says so."""

    def hold():
        with line.place():
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


def free_place(number, line):
    with ctrl_c_at(number, FILES, outside=OUTSIDE), line.place():
        pass


def place_waited_for(number, line):
    is_tried = False
    with held(line, is_over=lambda: is_tried or standing(line) == 2):
        try:
            with ctrl_c_at(number, FILES, outside=OUTSIDE), line.place():
                pass
        finally:
            is_tried = True


def place_given_up(number, line):
    is_tried = False
    with held(line, is_over=lambda: is_tried):
        try:
            with pytest.raises(DeadlineExceeded), deadline(0.0005):
                with ctrl_c_at(number, FILES, outside=OUTSIDE), line.place():
                    pass
        finally:
            is_tried = True


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="not every opcode is traced")
@pytest.mark.parametrize(
    "take", [free_place, place_waited_for, place_given_up], ids=lambda f: f.__name__
)
def test_ctrl_c_at_any_place_loses_no_place(take):
    def try_every_place():
        numbers = itertools.count()
        while True:
            line, number = Line(1, phase="test"), next(numbers)
            try:
                take(number, line)
            except KeyboardInterrupt:
                with deadline(2), line.place():
                    assert standing(line) == 1
            else:
                return number

    # In a thread of its own: what a tracer raises at the end of an `except`
    # block leaves the error there as the thread's current one (CPython 3.11),
    # and all that is raised later would have it as its context.
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(try_every_place).result(60) > 10


def test_ctrl_c_interrupts_waiting_for_a_place():
    @cd.max_concurrency(1)
    def work(is_free):
        is_free.wait(10)

    line = line_of(work)
    with occupied(work, line):

        def press():
            until(lambda: standing(line) == 2)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        presser = threading.Thread(target=press)
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            work(threading.Event())
        presser.join(10)

        assert standing(line) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_waits_for_no_thread_of_its_parent():
    @cd.max_concurrency(1)
    def work(is_free):
        return is_free.wait(10)

    throttled = cd.throttle(0.001)(lambda: True)
    cached = cd.cache(lambda: is_free.wait(10))
    is_free, pace = threading.Event(), line_of(throttled, "pace")
    maker = threading.Thread(target=cached)
    maker.start()
    with occupied(work, line_of(work)), held(pace._line, is_over=is_free.is_set):
        child = os.fork()
        if child == 0:
            try:
                is_free.set()
                with deadline(5):
                    is_well = work(set_event()) and throttled() and cached()
                os._exit(0 if is_well else 1)
            except BaseException:
                os._exit(2)
        status = os.waitpid(child, 0)[1]
        is_free.set()
    maker.join(10)

    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_inside_a_place_leaves_it_to_the_parent():
    line = Line(1, phase="test")
    place = line.place()
    place.__enter__()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        place.__exit__(None, None, None)
        with line.place():
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert standing(line) == 1
    place.__exit__(None, None, None)
    assert standing(line) == 0


def test_places_given_back_leave_nothing_behind():
    work = cd.max_concurrency(1)(lambda: None)
    before = line_module._held.get()

    for _ in range(3):
        work()

    assert line_module._held.get() == before


def test_a_place_whose_giving_back_is_cut_short_is_given_back(monkeypatch):
    line, leave, cuts = Line(1, phase="test"), line_module._Place._leave, ["once"]

    def cut_short(place):
        if cuts:
            raise KeyboardInterrupt(cuts.pop())
        leave(place)

    monkeypatch.setattr(line_module._Place, "_leave", cut_short)
    with pytest.raises(KeyboardInterrupt), line.place():
        pass

    assert standing(line) == 0


class Meddled(list):
    """The places of a line; whoever removes itself is overtaken by *also* before it goes on."""

    also = None

    def remove(self, place):
        super().remove(place)
        also, self.also = self.also, None
        if also is not None:
            also()


def test_of_two_that_leave_at_once_both_let_somebody_in():
    line, places = Line(2, phase="test"), Meddled()
    line._by_process[os.getpid()] = places
    first, second = line.place(), line.place()
    first.__enter__()
    second.__enter__()
    entered = []

    def wait():
        with deadline(60), line.place():
            entered.append(1)
            until(lambda: len(entered) == 2)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: standing(line) == 4 and all(place._woken for place in places[2:]))
    places.also = lambda: second.__exit__(None, None, None)
    first.__exit__(None, None, None)

    until(lambda: entered == [1, 1])
    for thread in threads:
        thread.join(10)
    assert standing(line) == 0


def test_who_is_inside_is_woken_no_more():
    line = Line(1, phase="test")
    first, second = line.place(), line.place()
    first.__enter__()
    thread = threading.Thread(target=second.__enter__)
    thread.start()
    until(lambda: standing(line) == 2 and second._woken)
    first.__exit__(None, None, None)
    thread.join(10)

    assert second._woken is None
