"""What a signal handler raises, at any place, leaves the budget whole and nobody asleep."""

from __future__ import annotations

import itertools
import math
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from interrupts import ctrl_c_at

from lionlite import scope
from lionlite.exceptions import BudgetClosed, RequestTooLarge
from lionlite.limits import accounts, budget, desk, limiter, reservation, windows
from lionlite.limits.alarm import Alarm
from lionlite.limits.desk import Desk
from lionlite.limits.entries import Entry
from lionlite.limits.ledger import LedgerBucket
from lionlite.limits.limiter import RateLimiter
from lionlite.limits.rates import Rate
from lionlite.line import PULSE_S

FILES = {module.__file__ for module in (limiter, reservation, desk, budget, accounts, windows)}
# The first step of what begins or ends a `with`, and of what puts right what was cut
# short: it stands outside of what it protects.
OUTSIDE = {"__enter__", "__exit__", "_withdraw"}

needs_opcodes = pytest.mark.skipif(sys.version_info >= (3, 13), reason="not every opcode is traced")


class TimeLimitError(Exception):
    """As a task queue raises it in SIGALRM or SIGUSR1."""


class StopNow(KeyboardInterrupt):
    """As a program raises it to tell one Ctrl-C from another."""


def cut_everywhere(life):
    """Call *life* with the number of each place in turn, as long as it says that it was cut."""
    # In a thread of its own: what a tracer raises stays its context (CPython 3.11).
    with ThreadPoolExecutor(1) as pool:
        places = pool.submit(lambda: sum(1 for _ in itertools.takewhile(life, itertools.count())))
        return places.result(55)


@needs_opcodes
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, StopNow, SystemExit, TimeoutError, TimeLimitError]
)
def test_the_account_is_right_whatever_a_signal_handler_raises(clock, error):
    rates = {"requests": [Rate(10**6, 60)], "tokens": [Rate(10**8, 60), Rate(10**9, 3600)]}
    limiter_ = RateLimiter(rates, charge="adjust", clock=clock)

    def is_cut_at(number):
        came = False
        try:
            with (
                ctrl_c_at(number, FILES, outside=OUTSIDE, error=error),
                limiter_.reserve({"requests": 1, "tokens": 100}) as held,
            ):
                held.sent()
                held.replied()
                held.settle({"tokens": 50})
        except error:
            came = True
        clock.advance(4_000)
        stats = limiter_.stats()
        left = {name: one.used for name, one in stats.dimensions.items()}
        assert (stats.in_flight, left) == (0, {"requests": 0, "tokens": 0}), number
        return came

    assert cut_everywhere(is_cut_at) > 20


class Cut:
    """A function that a signal cuts short the first time, before or after it has done its work."""

    def __init__(self, function, *, is_done):
        self._function = function
        self._is_done = is_done
        self._is_first = True

    def __call__(self, *args):
        is_cut, self._is_first = self._is_first, False
        if not is_cut or self._is_done:
            self._function(*args)
        if is_cut:
            raise TimeLimitError


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_grant_that_a_signal_cuts_short_is_as_if_it_had_never_been(monkeypatch, clock, is_done):
    limiter_ = RateLimiter({"tokens": [Rate(10, 60), Rate(20, 3_600)]}, clock=clock)
    window = limiter_.desk.budget.ledger.windows[-1]
    monkeypatch.setattr(windows.Window, "charge", Cut(window.charge, is_done=is_done))

    with pytest.raises(TimeLimitError):
        limiter_.reserve({"tokens": 5})

    assert limiter_.stats().dimensions["tokens"].rates[-1].used == 0
    assert limiter_.stats().in_flight == 0


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("way", ["give_back", "settle"])
def test_an_end_that_a_signal_cuts_short_is_an_end(monkeypatch, clock, way, is_done):
    limiter_ = RateLimiter({"tokens": [Rate(10, 60)]}, clock=clock)
    monkeypatch.setattr(limiter_.desk, way, Cut(getattr(limiter_.desk, way), is_done=is_done))

    with pytest.raises(TimeLimitError), limiter_.reserve({"tokens": 5}) as held:
        if way == "settle":
            held.sent()

    assert limiter_.stats().in_flight == 0


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_way_out_of_the_queue_that_a_signal_cuts_short_is_a_way_out(monkeypatch, is_done):
    limiter_ = RateLimiter({"tokens": [Rate(10, 60)]}, charge="adjust")
    limiter_.reserve({"tokens": 5})
    monkeypatch.setattr(limiter_.desk, "leave", Cut(limiter_.desk.leave, is_done=is_done))

    with scope.deadline(0.01), pytest.raises(TimeLimitError):
        limiter_.reserve({"tokens": 10})

    assert limiter_.stats().waiting == 0


# Who waits ------------------------------------------------------------------------


@pytest.mark.parametrize(("thread", "longest_s"), [("main", PULSE_S), ("another", math.inf)])
def test_the_main_thread_looks_for_signals_while_it_waits(monkeypatch, thread, longest_s):
    """What comes between Python's last look and the system call is seen when the nap ends."""
    naps_s = []
    limiter_ = RateLimiter({"requests": [Rate(1, 3_600)]}, max_concurrency=1)
    limiter_.reserve({"requests": 1})

    def nap(_alarm, seconds):
        naps_s.append(seconds)
        limiter_.close()

    def wait():
        with pytest.raises(BudgetClosed), scope.entered(scope.Scope(work=Quiet())):
            limiter_.reserve({"requests": 1})

    monkeypatch.setattr(Alarm, "wait", nap)
    if thread == "main":
        wait()
    else:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(wait).result(10)

    assert naps_s == [longest_s]


class Quiet:
    """The work of a run, which shows its waits itself."""


class Bell:
    """The alarm of a thread that sleeps until it is rung."""

    def __init__(self):
        self.is_rung = False

    def ring(self):
        self.is_rung = True


def sleepers_at(budget_, count):
    """Have *count* wait at a desk, in vain; return it and them."""
    desk_ = Desk(budget_)
    entries = [Entry({"tokens": 90}) for _ in range(count)]
    for entry in entries:
        entry.alarm = Bell()
        desk_.join(entry, math.inf)
    return desk_, entries


def full_budget(clock):
    budget_ = budget.Budget(LedgerBucket({"tokens": [Rate(100, 3_600)]}, clock=clock))
    assert budget_.admit(Entry({"tokens": 100}))
    return budget_


class Struck(Bell):
    """An alarm at whose first ring Ctrl-C comes."""

    is_struck = False

    def ring(self):
        if not self.is_struck:
            self.is_struck = True
            raise KeyboardInterrupt
        super().ring()


@pytest.mark.parametrize("place", range(3))
def test_ctrl_c_at_a_ring_of_close_leaves_nobody_asleep(clock, place):
    """Four of six threads waited for ever, and a second close() did not wake them."""
    desk_, entries = sleepers_at(full_budget(clock), 3)
    entries[place].alarm = Struck()

    with pytest.raises(KeyboardInterrupt):
        desk_.close()

    assert [entry.alarm.is_rung for entry in entries] == [True] * 3


@needs_opcodes
@pytest.mark.parametrize("is_repeated", [False, True], ids=["once", "and again"])
@pytest.mark.parametrize(
    ("refuse", "failure"),
    [
        (lambda desk_: desk_.close(), BudgetClosed),
        (lambda desk_: desk_.set_rates("tokens", [Rate(50, 3_600)]), RequestTooLarge),
    ],
    ids=["close", "set_rates"],
)
def test_whoever_is_refused_is_told_wherever_ctrl_c_comes(clock, refuse, failure, is_repeated):
    def is_cut_at(number):
        desk_, entries = sleepers_at(full_budget(clock), 3)
        came = False
        try:
            with ctrl_c_at(number, FILES | {__file__}, outside=OUTSIDE):
                refuse(desk_)
        except KeyboardInterrupt:
            came = True
        if is_repeated:
            refuse(desk_)
        told = [isinstance(one.failure, failure) and one.alarm.is_rung for one in entries]
        # Cut before it began, and not asked again, it has refused nobody.
        is_undone = not is_repeated and list(desk_.budget.queue) == entries
        assert all(told) or (is_undone and not any(told)), number
        return came

    assert cut_everywhere(is_cut_at) > 20
