"""Odd values, odd inputs, odd threads and processes, and limits of the system."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from lionlite.calls.family import icall, lcall
from lionlite.exceptions import CallError

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[2]
WAIT_S = 30  # only a failing test waits so long

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


def same(item):
    return item


class Heavy:
    """Can neither be pickled, nor compared, nor shown."""

    def __reduce__(self):
        raise TypeError

    __eq__ = __repr__ = __bool__ = __reduce__
    __hash__ = None


def test_values_are_never_looked_at():
    things = [Heavy(), threading.Lock(), lambda: 1, (n for n in "ab")] * 50

    values = lcall(iter(things), same, max_workers=4)

    assert all(value is thing for value, thing in zip(values, things, strict=True))


class QuerySet:
    """A Django QuerySet by its shape: lazy, sliceable, and its len() is a query."""

    def __init__(self, rows):
        self.rows, self.queries = rows, []

    def __iter__(self):
        self.queries.append("select")
        return iter(self.rows)

    def __len__(self):
        self.queries.append("count")
        return len(self.rows)

    def __getitem__(self, place):
        self.queries.append(f"select {place}")
        return self.rows[place]


@pytest.mark.parametrize("call", [lcall, lambda *a: [v for _, v in sorted(icall(*a))]])
def test_a_queryset_costs_one_query(call):
    rows = QuerySet(list(range(300)))

    assert call(rows, same) == list(range(300))
    assert rows.queries == ["select"]


def test_the_iterator_of_a_cursor_ends_with_its_run():
    connection = sqlite3.connect(":memory:")
    cursor = connection.execute(
        "with recursive n(i) as (values(0) union all select i + 1 from n) select i from n"
    )

    for _, (number,) in icall(cursor, same, max_workers=4):
        if number > 500:
            break

    connection.close()  # raises if another thread had it
    assert number > 500


def test_a_dict_that_changes_size_meanwhile_is_an_error_with_all_that_finished():
    numbers = dict.fromkeys(range(1000))

    def grow(number):
        numbers[f"{number} again"] = None
        return number

    with pytest.raises(CallError, match="RuntimeError: dictionary changed size") as caught:
        lcall(numbers.keys(), grow, max_workers=2)

    assert [n for n in caught.value.results if n is not None] == [
        index for index, n in enumerate(caught.value.results) if n is not None
    ]


def test_items_are_passed_as_they_are_and_may_be_changed_in_place():
    rows = [{"n": n} for n in range(500)]

    lcall(rows, lambda row: row.update(done=True), max_workers=8)

    assert rows == [{"n": n, "done": True} for n in range(500)]


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("workers", [1, 2, "auto"])
def test_nested_calls_end_on_few_workers(depth, workers):
    def func(number, left):
        if left == 0:
            return 1
        return sum(lcall(range(3), lambda n: func(n, left - 1), max_workers=workers))

    assert func(0, depth) == 3**depth


def test_an_error_deep_inside_nested_calls_comes_out_with_all_results():
    def inner(number):
        return 1 // number

    def outer(number):
        return lcall([number, 1], inner, max_workers=2, on_error="continue")

    with pytest.raises(CallError) as caught:
        lcall([1, 0, 2], outer, max_workers=2, on_error="continue")

    assert caught.value.results == [[1, 1], None, [0, 1]]
    assert caught.value.failed[1].results == [None, 1]


def in_a_thread(work):
    out = []

    def run():
        try:
            out.append(work())
        except BaseException as error:
            out.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(WAIT_S)
    return out[0]


def test_any_thread_may_call():
    assert in_a_thread(lambda: lcall(range(300), same)) == list(range(300))
    assert in_a_thread(lambda: sorted(icall(range(300), same))) == [(n, n) for n in range(300)]
    error = in_a_thread(lambda: lcall([1, 0], lambda n: 1 // n, on_error="continue"))
    assert (error.results, list(error.failed)) == ([1, None], [1])


def test_a_generator_opened_in_one_thread_may_be_closed_in_another():
    ended = []

    def numbers():
        try:
            yield from range(10**6)
        finally:
            ended.append(True)

    pairs = icall(numbers(), same)
    next(pairs)

    assert in_a_thread(pairs.close) is None
    assert ended == [True]


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_forked_in_the_middle_of_a_run_can_run_its_own():
    stop = threading.Event()

    def endless():
        number = 0
        while not stop.is_set():
            yield number
            number += 1

    busy = threading.Thread(target=lambda: [None for _ in icall(endless(), same, max_workers=8)])
    busy.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:  # pragma: no cover - in the child
                os._exit(0 if lcall(range(50), same) == list(range(50)) else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        busy.join(WAIT_S)


def squares(count):
    return lcall(range(count), lambda n: n * n, max_workers=4)


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_items_may_use_processes_of_their_own():
    context = multiprocessing.get_context("fork")

    def func(count):
        with context.Pool(1) as pool:
            return pool.apply(squares, (count,))

    assert lcall([3, 4], func, max_workers=2) == [[0, 1, 4], [0, 1, 4, 9]]


def ended(code):
    code = textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux does")
def test_a_machine_without_threads_left_does_the_items_with_those_there_are():
    """The stacks of more threads than a few do not fit into the memory that is allowed."""
    out = ended("""
        import resource, threading
        from lionlite.calls.family import lcall

        threading.stack_size(64 * 2**20)
        held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + 400 * 2**20,) * 2)
        names = set()

        def func(number):
            names.add(threading.current_thread().name)
            threading.Event().wait(0.005)
            return number

        print(lcall(range(200), func, max_workers=64) == list(range(200)), len(names) < 8)
    """)

    assert out == ["True True"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
def test_chats_that_find_no_file_left_fail_alone():
    out = ended("""
        import resource
        import lionlite as ll
        from lionlite.demo import Settings, child_provider

        many = Settings(max_requests=10**6, max_tokens=10**9)
        with child_provider(many) as base_url, ll.Services.Compatible(
            base_url=base_url, model="calculator", token_encoding_name="estimate", max_retries=0
        ) as service:
            def chat(number):
                session = ll.Session("You are a calculator.", service=service)
                return session.chat("sum the absolute values", context=[number, -number])

            chat(0)
            resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
            values = ll.lcall(range(300), chat, max_workers=100, on_error="return")
            good = [str(2 * n) == value for n, value in enumerate(values)]
            errors = [type(value).__name__ for value in values if isinstance(value, Exception)]
            print(len(values), 0 < sum(good) == len(values) - len(errors), set(errors))
            # Left to itself, a run has no more threads than there are files for.
            print(ll.lcall(range(300), chat) == [str(2 * n) for n in range(300)])
    """)

    assert out == ["300 True {'ConnectionFailed'}", "True"]
