"""max_workers="auto": as many threads as the chats of a run can use."""

from __future__ import annotations

import os
import threading
import time

import pytest

import lionlite as ll
from lionlite.calls import workers
from lionlite.calls.family import icall, lcall
from lionlite.calls.workers import QUIET, Crowd, most_threads
from lionlite.records import CallRecord
from lionlite.scope import Scope, current, entered
from lionlite.testing import FakeProvider

pytestmark = pytest.mark.quick

WAIT_S = 20  # only a failing test waits so long


class Replies:
    """Lets items wait as a chat waits for its reply, until *count* of them do."""

    def __init__(self, count):
        self.together = threading.Barrier(count)

    def chat(self, item):
        work = current().work
        work.waits("reply")
        try:
            self.together.wait(WAIT_S)
        finally:
            work.goes_on("reply")
        return item


class Gauge:
    """How many items run at once, and how many at most."""

    def __init__(self):
        self.running, self.most = [], []

    def __enter__(self):
        self.running.append(1)
        self.most.append(len(self.running))

    def __exit__(self, *_):
        self.running.pop()


def test_functions_that_do_not_chat_get_as_many_threads_as_an_executor_has():
    gauge, all_there = Gauge(), threading.Barrier(QUIET)

    def func(number):
        with gauge:
            if number < QUIET:
                all_there.wait(WAIT_S)
            time.sleep(0.001)

    lcall(range(10 * QUIET), func)

    assert max(gauge.most) == QUIET == min(32, os.cpu_count() + 4)


@pytest.mark.parametrize("call", [lcall, lambda *a: [v for _, v in sorted(icall(*a))]])
def test_a_thread_that_waits_for_its_reply_does_not_count(call):
    """More items than are read ahead, so the input is read on while nothing ends."""
    items = list(range(400))

    assert call(iter(items), Replies(400).chat) == items


def test_real_chats_all_run_at_once():
    together = threading.Barrier(100)

    def answer(_):
        together.wait(WAIT_S)
        return "ok"

    with FakeProvider(answer) as provider, provider.service() as service:
        answers = lcall(range(100), lambda n: ll.Session(service=service).chat(str(n)))

    assert answers == ["ok"] * 100


def test_no_thread_is_added_while_a_chat_waits_for_the_budget():
    granted, gauge = threading.Event(), Gauge()

    def func(number):
        with gauge:
            work = current().work
            work.waits("budget")
            assert granted.wait(WAIT_S) or number
            work.goes_on("budget")

    timer = threading.Timer(0.2, granted.set)
    timer.start()
    lcall(range(2), func)

    # A second worker may have been on its way when the first began to wait.
    assert max(gauge.most) <= 2
    assert Crowd(None).admits(0)


def test_the_rule():
    crowd = Crowd(None)

    quiet = [crowd.admits(QUIET - 1), crowd.admits(QUIET)]
    crowd.waits("reply")
    chatting = [crowd.admits(QUIET), crowd.admits(QUIET + 1)]
    crowd.waits("budget")
    at_budget = [crowd.admits(0), crowd.admits(QUIET)]
    crowd.goes_on("budget")
    crowd.goes_on("reply")

    assert (quiet, chatting, at_budget) == ([True, False], [True, False], [False, False])
    assert [crowd.admits(QUIET - 1), crowd.admits(QUIET)] == [True, False]


def test_threads_come_again_when_the_budget_has_granted():
    """The first waits for the budget; then all wait for their replies, at once."""
    first, replies = [], Replies(60)

    def func(number):
        if number == 0:
            first.append(number)
            current().work.waits("budget")
            time.sleep(0.05)
            current().work.goes_on("budget")
        return replies.chat(number)

    assert lcall(range(60), func) == list(range(60))


def test_all_runs_together_keep_the_bound(monkeypatch):
    monkeypatch.setattr(workers, "MOST_THREADS", 3 * QUIET)
    gauge = Gauge()

    def chat(_):
        with gauge:
            current().work.waits("reply")
            time.sleep(0.05)
            current().work.goes_on("reply")

    lcall(range(3), lambda _: lcall(range(200), chat), max_workers=3)

    # Each run has its first few in any case, and may just have sent for one more.
    assert 2 * QUIET < max(gauge.most) <= (3 + 3) * QUIET + 3
    assert workers._census.threads == 0


@pytest.mark.parametrize(
    ("files", "threads"),
    [(1024, 768), (256, 192), (2, QUIET), (1_000_000, 1024), (-1, 1024)],
    ids=["Linux", "macOS", "hardly any", "many", "no limit"],
)
def test_the_bound_leaves_files_to_others(monkeypatch, files, threads):
    monkeypatch.setattr(workers.resource, "getrlimit", lambda _: (files, files))

    assert most_threads() == threads


def test_a_number_of_threads_is_kept_whatever_waits():
    gauge = Gauge()

    def func(_):
        assert current().work is None
        with gauge:
            time.sleep(0.001)

    lcall(range(100), func, max_workers=3)

    assert max(gauge.most) == 3


class Ear:
    """A `Work` that notes what it is told."""

    remembers = True

    def __init__(self):
        self.heard = []

    def chat(self, request):
        self.heard.append(request)
        return request

    def waits(self, what):
        self.heard.append(f"waits {what}")

    def goes_on(self, what):
        self.heard.append(f"goes on {what}")

    def ended(self, record):
        self.heard.append(record.model)


def test_a_run_tells_the_work_around_everything():
    ear = Ear()

    def func(_):
        work = current().work
        assert work.remembers
        work.waits("reply")
        work.goes_on("reply")
        work.ended(CallRecord("m"))
        return work.chat(b"request")

    with entered(Scope(work=ear)):
        assert lcall([1], func) == [b"request"]

    assert ear.heard == ["waits reply", "goes on reply", "m", b"request"]


def test_a_run_alone_remembers_nothing():
    crowd = Crowd(None)

    assert not crowd.remembers
    with pytest.raises(LookupError, match="No chat of this run is remembered"):
        crowd.chat(b"request")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_neither_starts_threads_nor_waits_for_locks():
    """Other threads of the run hold its locks all the time."""

    def func(number):
        if number % 50 == 7:
            child = os.fork()
            if child == 0:  # pragma: no cover - in the child
                work = current().work
                work.waits("budget")
                work.goes_on("budget")
                work.waits("reply")
                work.goes_on("reply")
                os._exit(0 if lcall(range(9), str) == list("012345678") else 1)
            return os.waitpid(child, 0)[1]
        current().work.waits("reply")
        current().work.goes_on("reply")
        return 0

    assert sum(lcall(range(300), func)) == 0
