"""A provider that refuses everybody, and one whose limits nobody told us."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from soak_tools import CHARGES, SMALL, chat, chat_all, say, server_of, tell

import lionlite as ll
from lionlite.limits.gate import RAMP_S, RAMP_STEP_S

pytestmark = pytest.mark.soak

OUTAGE_S = 3.5
RETRY_AFTER_S = 2
THREADS = 64
CALLS = 64 * 12


def test_after_an_outage_one_probe_goes_alone_and_the_others_follow_in_a_ramp():
    """Charge mode estimate, no limit but the outage: 429 and Retry-After 2 s for 3.5 s."""
    outage = (200, OUTAGE_S, RETRY_AFTER_S)
    with server_of(latency_s=0.05, outage=outage) as server:
        with server.service(max_requests=100_000) as service:
            wrong = chat_all(service, [SMALL] * CALLS, THREADS)
            stats = service.stats()

    say(f"{THREADS} threads through an outage, charge=estimate", server.report)
    # Nobody is lost, and nobody asks without need.
    refused = [one for one in server.log if one["status"] == 429]
    assert (wrong, stats.calls, stats.failed) == (0, CALLS, 0)
    assert (stats.rate_limited, stats.attempts) == (len(refused), CALLS + len(refused))
    assert len(server.log) == stats.attempts
    # The herd was on its way; after it comes one probe a pause, alone until it is answered.
    *herd, probe = refused
    later = [one for one in server.log if one["arrival_s"] > probe["arrival_s"]]
    tell(f"a herd of {len(herd)}, a refused probe {gap_s(herd[-1], probe):.2f} s after it, "
         f"one that passed {gap_s(probe, later[0]):.2f} s later, then {len(later) - 1}")
    assert 1 <= len(herd) <= THREADS
    assert gap_s(herd[-1], probe) >= RETRY_AFTER_S
    assert gap_s(probe, later[0]) >= RETRY_AFTER_S
    # Then they come as the ramp lets them: the n-th not before its step.
    for number, one in enumerate(later[1:], start=1):
        assert gap_s(later[0], one) >= min(RAMP_STEP_S * math.log2(number), RAMP_S)


def gap_s(first, second):
    """Return the seconds from the reply to one request to the arrival of another."""
    return second["arrival_s"] - first["finished_s"]


def answers_of(service, calls, threads):
    """Return (right answers, calls that were refused by our own budget)."""

    def one(number):
        try:
            with ll.deadline(3):
                return chat(service, number, SMALL)
        except ll.BudgetTimeout as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        said = list(pool.map(one, range(calls)))
    late = sum(isinstance(answer, ll.BudgetTimeout) for answer in said)
    return said.count(True), late


LIMITS = [
    {"max_requests": 30},
    {"max_tokens": 30 * 38},
    {"max_requests": 30, "max_tokens": 60 * 38},
]


@pytest.mark.parametrize("charge", CHARGES)
@pytest.mark.parametrize("limits", LIMITS, ids=["requests", "tokens", "both"])
def test_once_a_reply_told_the_limit_64_threads_keep_it(charge, limits):
    """The service is told neither the limits nor the charge mode, and starts with one call."""
    with server_of(charge=charge, interval_s=60, latency_s=0.02, **limits) as server:
        with server.service() as service:
            assert chat(service, 0, SMALL)
            right, late = answers_of(service, 99, 64)

    say(f"64 threads that learn {limits}, charge={charge}", server.report)
    assert right + late == 99
    assert server.report["refused_429"] == 0
    assert server.report["accepted"] == 1 + right
    assert right >= 25


def test_a_cold_burst_is_refused_no_more_often_than_it_has_calls():
    """Charge mode estimate: 64 threads ask before any reply has told the limit."""
    with server_of(max_requests=30, interval_s=60, latency_s=0.02) as server:
        with server.service() as service:
            right, late = answers_of(service, 300, 64)

    say("64 threads in a cold burst, charge=estimate", server.report)
    assert right + late == 300
    assert server.report["accepted"] == right == 30
    assert server.report["refused_429"] <= 64
