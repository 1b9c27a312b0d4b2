"""Real threads against a strict provider at the same limit: its log is the judge."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from soak_tools import (
    CHARGES,
    LARGE,
    MAX_REQUESTS,
    caps_of_job,
    chat_all,
    limited_server,
    max_tokens_for,
    say,
    spawned,
    windows_of,
)
from starvation import counts_unless_starved

pytestmark = [pytest.mark.soak, pytest.mark.timeout(120)]

CALLS = len(caps_of_job())


def verdict(report):
    """Return what must be so of every run that was never refused."""
    return {
        "refused": report["refused_429"],
        "accepted": report["accepted"],
        "requests over": max(0, report["highest_arrivals_in_window"] - report["max_requests"]),
        "tokens over": max(0, report["highest_tokens_in_window"] - report["max_tokens"]),
    }


CLEAN = {"refused": 0, "accepted": CALLS, "requests over": 0, "tokens over": 0}


# Refused never, over never -------------------------------------------------------------------


@pytest.mark.parametrize("charge", CHARGES)
@counts_unless_starved
def test_64_threads_are_never_refused_where_requests_and_tokens_bind(charge):
    with limited_server(charge) as server, server.limited_service(charge) as service:
        wrong = chat_all(service, caps_of_job(), 64)

    say(f"64 threads, charge={charge}", server.report)
    assert wrong == 0
    assert verdict(server.report) == CLEAN
    assert windows_of(server.report) >= 3
    assert server.report["highest_requests_in_window"] == MAX_REQUESTS
    assert server.report["highest_tokens_in_window"] > max_tokens_for(charge) - 2 * LARGE


@counts_unless_starved
def test_a_single_thread_is_never_refused_in_any_charge_mode():
    with ExitStack() as stack:
        servers = [stack.enter_context(limited_server(charge)) for charge in CHARGES]
        services = [
            stack.enter_context(server.limited_service(charge))
            for server, charge in zip(servers, CHARGES, strict=True)
        ]
        with ThreadPoolExecutor(3) as pool:
            wrong = list(pool.map(lambda service: chat_all(service, caps_of_job(), 1), services))

    for charge, server in zip(CHARGES, servers, strict=True):
        say(f"1 thread, charge={charge}", server.report)
    assert wrong == [0, 0, 0]
    assert [verdict(server.report) for server in servers] == [CLEAN] * 3
    assert min(windows_of(server.report) for server in servers) >= 3


# On a machine that has no time ----------------------------------------------------------------


def burn(seconds):
    ends_s = time.monotonic() + seconds
    while time.monotonic() < ends_s:
        pass


@contextmanager
def burners(count, seconds):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=burn, args=(seconds,)) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


@pytest.mark.parametrize("charge", CHARGES)
def test_64_threads_on_a_starved_machine_are_all_answered_within_the_limit(charge):
    """Arrivals may come later than any bound there, so a refusal is no fault; it is printed."""
    with limited_server(charge) as server, server.limited_service(charge) as service:
        with burners(3, 90):
            wrong = chat_all(service, caps_of_job(), 64)

    say(f"64 threads and 3 burners, charge={charge}", server.report)
    over = {name: verdict(server.report)[name] for name in ("accepted", "tokens over")}
    assert wrong == 0
    assert over == {"accepted": CALLS, "tokens over": 0}
    assert server.report["highest_requests_in_window"] <= MAX_REQUESTS


# Stopped by the system ---------------------------------------------------------------------------


def stop_now_and_then(process, seed):
    """Stop *process* at random instants for 0.5 to 3 s, until it has ended; return how often."""
    rng = random.Random(seed)
    stops = 0
    while process.poll() is None:
        time.sleep(rng.uniform(0.3, 3.0))
        process.send_signal(signal.SIGSTOP)
        time.sleep(rng.uniform(0.5, 3.0))
        process.send_signal(signal.SIGCONT)
        stops += 1
    return stops


@counts_unless_starved
def test_a_client_that_is_stopped_at_random_is_never_over_in_any_charge_mode():
    with ExitStack() as stack:
        servers = [stack.enter_context(limited_server(charge)) for charge in CHARGES]
        clients = [
            stack.enter_context(
                spawned("chat", {"base_url": server.base_url, "charge": charge, "threads": 64})
            )
            for server, charge in zip(servers, CHARGES, strict=True)
        ]
        with ThreadPoolExecutor(3) as pool:
            stops = list(pool.map(stop_now_and_then, clients, range(3)))
        outcomes = [json.loads(client.stdout.read()) for client in clients]

    for charge, server, count in zip(CHARGES, servers, stops, strict=True):
        say(f"64 threads stopped {count} times, charge={charge}", server.report)
    assert outcomes == [{"wrong": 0, "calls": CALLS, "rate_limited": 0}] * 3
    assert [verdict(server.report) for server in servers] == [CLEAN] * 3
    assert min(stops) >= 3
