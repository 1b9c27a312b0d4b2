"""Real processes on one budget; the provider is a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from member import ESTIMATE
from starvation import Watch, counts_unless_starved
from store_tools import fresh_name

import lionlite
from lionlite.exceptions import BudgetError
from lionlite.limits.rates import Rate

# Children must import the same package, from wherever pytest was started.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(lionlite.__file__).parents[1])}
MEMBER = Path(__file__).with_name("member.py")
PROCESSES, THREADS = 4, 8


class Member:
    """A process that runs member.py."""

    def __init__(self, **options):
        self.process = subprocess.Popen(
            [sys.executable, str(MEMBER), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )

    def until_ready(self):
        assert self.process.stdout.readline() == "ready\n"

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def result(self):
        return json.loads(self.process.communicate(timeout=60)[0])

    def send(self, number):
        os.kill(self.process.pid, number)

    def stop(self):
        """Stop it, and wait until each of its threads stands still."""
        self.send(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def end(self):
        self.process.kill()
        self.process.communicate()


@contextmanager
def members(count, **options):
    """Start *count* members and let them go together."""
    started = [Member(**options) for _ in range(count)]
    try:
        for member in started:
            member.until_ready()
        for member in started:
            member.go()
        yield started
    finally:
        for member in started:
            member.end()


@contextmanager
def provider(requests, tokens, interval_s, charge):
    """Run a strict fake provider; yield its address and a way to its own count."""
    command = [
        *(sys.executable, "-m", "lionlite", "serve", "--until-stdin-closes"),
        *("--max-requests", str(requests), "--max-tokens", str(tokens)),
        *("--interval", str(interval_s), "--latency", "0.05", "--charge", charge),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        base_url = process.stdout.readline().strip()

        def report():
            with urlopen(base_url.removesuffix("/v1") + "/report", timeout=30) as answer:
                return json.loads(answer.read())

        yield base_url, report
        process.stdin.close()


def saturated(store_url, *, interval_s, windows, charge="estimate", requests=60):
    """Let four processes use one budget up for some windows."""
    with Watch(), ExitStack() as stack:
        tokens = requests * ESTIMATE
        base_url, report = stack.enter_context(provider(requests, tokens, interval_s, charge))
        started = stack.enter_context(
            members(
                PROCESSES,
                work="saturate",
                store=store_url,
                budget=fresh_name(),
                limits={"requests": [[requests, interval_s]], "tokens": [[tokens, interval_s]]},
                charge=charge,
                provider=base_url,
                threads=THREADS,
                seconds=interval_s * windows,
            )
        )
        return [member.result() for member in started], report()


def check(results, report, *, requests, interval_s):
    """The claims that no noise can break."""
    sent_s = sorted(instant for result in results for instant in result["sent_s"])
    spans = [after - before for before, after in zip(sent_s, sent_s[requests:], strict=False)]
    granted = [len(result["sent_s"]) for result in results]
    # No window of the instants at which requests had left holds more than allowed.
    assert min(spans) >= interval_s
    assert len(sent_s) > requests
    assert min(granted) >= sum(granted) / PROCESSES / 2
    assert {error for result in results for error in result["errors"]} == {"BudgetClosed"}
    assert report["highest_requests_in_window"] <= requests
    assert report["other_errors"] == 0


def test_four_processes_keep_one_limit_and_share_it_fairly(store_url):
    results, report = saturated(store_url, interval_s=1.2, windows=2.7)

    check(results, report, requests=60, interval_s=1.2)
    # The server may be kept from reading for longer than the guard of 20 ms.
    assert report["refused_429"] <= report["accepted"] / 20


@pytest.mark.soak
@pytest.mark.timeout(120)
@pytest.mark.parametrize("charge", ["estimate", "adjust", "usage"])
@counts_unless_starved
def test_four_processes_meet_no_429_in_windows_of_five_seconds(store_url, charge):
    results, report = saturated(
        store_url, interval_s=5.0, windows=4.2, charge=charge, requests=200
    )

    check(results, report, requests=200, interval_s=5.0)
    assert report["refused_429"] == 0
    assert report["accepted"] >= 200 * 4 * 0.8


def test_a_holder_that_is_killed_frees_its_room_with_its_lease(shared, store_url):
    name, limits = fresh_name(), {"requests": [[3, 0.3]]}
    with members(
        1, work="hold", store=store_url, budget=name, limits=limits, lease_s=1.0
    ) as (holder,):
        held_s = time.monotonic()
        limiter = shared(name, requests=[Rate(3, 0.3)])
        full = limiter.try_reserve({"requests": 1})
        holder.send(signal.SIGKILL)

        with limiter.reserve({"requests": 3}) as reservation:
            waited_s = time.monotonic() - held_s

    assert full is None
    assert reservation.waited_s > 0.3
    assert waited_s < 20


def test_a_process_that_is_stopped_holds_nobody_up(shared, store_url):
    name, limits = fresh_name(), {"requests": [[6, 0.2]], "tokens": [[10**6, 0.2]]}
    with members(
        2, work="saturate", store=store_url, budget=name, limits=limits, threads=2, seconds=20
    ) as (stopped, _):
        limiter = shared(name, requests=[Rate(6, 0.2)], tokens=[Rate(10**6, 0.2)])
        limiter.reserve({"requests": 1}).cancel()
        stop_outside_a_trip(stopped, limiter)
        began_s = time.monotonic()
        for _ in range(20):
            with limiter.reserve({"requests": 1}) as reservation:
                reservation.sent()
                reservation.settle({"requests": 1})

        assert time.monotonic() - began_s < 15


def stop_outside_a_trip(member, limiter):
    """Stop *member*, but not while it holds the lock of an SQLite file.

    Then everybody waits, for a few seconds and a typed error at most: no
    process can take a lock of SQLite away from another.
    """
    for _ in range(8):
        member.stop()
        with suppress(BudgetError):
            limiter.stats()
            return
        member.send(signal.SIGCONT)
        time.sleep(0.01)
    raise AssertionError("it was in a trip each time")


FORKS = """
import json, os, sys, threading, time
from lionlite.limits.rates import Rate
from lionlite.limits.shared import SharedLimiter
from lionlite import scope

limiter = SharedLimiter(
    {"requests": [Rate(100_000, 3600)]}, store=sys.argv[1], budget=sys.argv[2]
)
stop, calls = threading.Event(), []

def busy():
    while not stop.is_set():
        with limiter.reserve({"requests": 1}) as reservation:
            reservation.sent()
            reservation.settle({"requests": 1})
        calls.append(1)

threads = [threading.Thread(target=busy) for _ in range(4)]
for thread in threads:
    thread.start()
held = limiter.reserve({"requests": 1})
codes = []
for _ in range(int(sys.argv[3])):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            held.settle({"requests": 1})
            with scope.deadline(20), limiter.reserve({"requests": 1}) as reservation:
                reservation.sent()
            code = 0
        finally:
            os._exit(code)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.set()
for thread in threads:
    thread.join()
held.cancel()
print(json.dumps([codes, len(calls), limiter.stats().dimensions["requests"].used]))
"""


def forked(store_url, count):
    done = subprocess.run(
        [sys.executable, "-c", FORKS, store_url, fresh_name(), str(count)],
        capture_output=True,
        text=True,
        timeout=100,
        env=ENVIRONMENT,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_a_fork_while_threads_are_busy_leaves_both_whole(store_url):
    codes, calls, used = forked(store_url, 10)

    assert codes == [0] * 10
    # Every call of parent and children, and not the one that was given back.
    assert used == calls + 10


@pytest.mark.soak
@pytest.mark.timeout(120)
def test_two_hundred_forks_while_threads_are_busy_hang_never(store_url):
    codes, calls, used = forked(store_url, 200)

    assert codes == [0] * 200
    assert used == calls + 200
