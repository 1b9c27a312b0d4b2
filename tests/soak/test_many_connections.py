"""Connections in the long run: nothing is lost, nothing stays open, nothing grows."""

from __future__ import annotations

import select
import shutil
from pathlib import Path

import pytest
from connection_jobs import done
from soak_tools import tell

pytestmark = pytest.mark.skipif(
    not hasattr(select, "epoll") or not Path("/proc/self/fd").is_dir(),
    reason="the server and the counting of sockets are Linux's",
)

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl, which makes the certificates, is not here"
)


def counts(soak, proof):
    """Run with *soak* calls in CI, and with *proof* by hand."""
    return pytest.mark.parametrize(
        "calls",
        [
            pytest.param(soak, marks=[pytest.mark.soak, pytest.mark.timeout(180)]),
            pytest.param(proof, marks=[pytest.mark.proof, pytest.mark.timeout(3600)]),
        ],
    )


def assert_flat(said, calls, threads):
    """A socket a thread at most, no more threads than before, no trace of each call in memory."""
    before, after = said["before"], said["after"]
    assert after["sockets"] <= threads
    assert after["threads"] <= before["threads"]
    # An object kept of each call would be a block for each; an idle connection has about 60.
    connections = max(0, after["sockets"] - before["sockets"])
    assert after["blocks"] - before["blocks"] < calls / 10 + 600 + 100 * connections
    assert after["rss_mib"] - before["rss_mib"] < 32
    assert (after["in_flight"], after["waiting"]) == (0, 0)


def growth(said):
    before, after = said["before"], said["after"]
    return ", ".join(
        f"{name} {before[name]:,.0f} -> {after[name]:,.0f}"
        for name in ("sockets", "threads", "blocks", "rss_mib")
    )


@counts(20_000, 200_000)
def test_256_threads_and_a_healthy_server_lose_nothing_and_leave_nothing(calls):
    said = done("healthy_http", calls=calls, threads=256)

    tell(
        f"{calls:,} calls, 256 threads: {said['calls_per_s']:,.0f} calls/s, "
        f"{said['cpu_us']:.0f} us CPU a call; {growth(said)}"
    )
    assert said["ends"] == {"ok": calls}
    assert said["retries"] == 0
    assert_flat(said, calls // 2, 256)
    # No connection was thrown away: there are never more than threads.
    assert said["server"]["accepted"] <= 256 + 8
    assert said["server"]["open"] == 0
    assert said["closed"]["sockets"] == 0


@needs_openssl
@pytest.mark.parametrize("threads", [1, 64])
@counts(2_000, 20_000)
def test_tls_loses_nothing_and_leaves_nothing(tmp_path, threads, calls):
    said = done("healthy", tmp_path, calls=calls, threads=threads)

    tell(
        f"TLS, {calls:,} calls, {threads} threads: {said['calls_per_s']:,.0f} calls/s, "
        f"{said['cpu_us']:.0f} us CPU a call; {growth(said)}"
    )
    assert said["ends"] == {"ok": calls}
    assert said["retries"] == 0
    assert_flat(said, calls // 2, threads)
    assert said["closed"]["sockets"] == 0


@counts(200, 1_000)
def test_after_timeouts_the_next_call_is_served_at_once(calls):
    """32 calls may be under way at a time: each timeout gives back its place and its socket."""
    said = done("timeouts", calls=calls, threads=32)

    tell(
        f"{calls:,} timeouts: p99 {said['late_p99_s'] * 1e3:.0f} ms after the deadline, the next "
        f"call took {said['next'][1] * 1e3:.0f} ms; {growth(said)}"
    )
    assert said["ends"] == {"DeadlineExceeded": calls}
    assert said["late_p99_s"] < 0.5
    assert said["next"][0] == "ok"
    assert said["next"][1] < 0.5
    assert said["at_once"] == {"ok": 32}
    assert_flat(said, calls, 32)
    assert said["server"]["open"] <= 32


@counts(2_000, 10_000)
def test_streams_left_early_leave_nothing_open(calls):
    """By `with`, by an error, or just dropped; 32 may be open at a time."""
    said = done("streams", calls=calls, threads=32)

    tell(f"{calls:,} streams left early; {growth(said)}; server {said['server']}")
    assert said["ends"] == {"left": calls}
    assert said["next"] == "ok"
    assert_flat(said, calls, 32)
    # Each was closed, not drained: a new connection for the next one.
    assert said["server"]["accepted"] >= calls
    # One healthy connection is idle; the streams are gone, and the provider knows it.
    assert said["server"]["open"] <= 1
    assert said["closed"]["open"] == 0
