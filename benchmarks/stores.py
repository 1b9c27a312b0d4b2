"""One budget, four processes: python benchmarks/stores.py estimate adjust usage

For SQLite and Redis, 4 processes x 8 threads against a strict server with the
same limits, in a process of its own, whose log is the judge: windows over the
limit, 429s, use of the limit, each process's share of its fair share; and what
one call costs (reserve, sent, replied, settle), alone in one process.

Redis: LIONLITE_TEST_REDIS, else redis://127.0.0.1:6379/0.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from urllib.request import urlopen

from lionlite.exceptions import LionError
from lionlite.limits.rates import limit
from lionlite.limits.shared import SharedLimiter
from lionlite.service.address import parse_base_url
from lionlite.service.transport.connections import Connections

PROCESSES, THREADS = 4, 8
BODY = json.dumps(
    {"model": "m", "max_tokens": 60, "messages": [{"role": "user", "content": "x" * 40}]}
).encode()
ESTIMATE = 17 + 60  # the server's own count of BODY: 40 / 4 + 4 + 3, and max_tokens
REDIS_URL = os.environ.get("LIONLITE_TEST_REDIS", "redis://127.0.0.1:6379/0")


class Quiet:
    """Wants to know nothing of an exchange."""

    def sent(self):
        pass

    replied = sent


def limits_of(args):
    return {
        "requests": [limit(args.requests, args.interval)],
        "tokens": [limit(args.tokens, args.interval)],
    }


def work(args):
    """One of the processes: threads that call without a pause until time is up."""
    address = parse_base_url(args.provider)
    connections = Connections(address.origin)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address.host_header}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    ).encode()
    limiter = SharedLimiter(
        limits_of(args), store=args.store, budget=args.budget, charge=args.charge
    )
    counts = {"granted": 0, "refused": 0, "failed": 0}
    lock = threading.Lock()

    def loop():
        while True:
            try:
                reservation = limiter.reserve({"requests": 1, "tokens": ESTIMATE})
            except LionError:
                return
            outcome = "granted"
            with reservation:
                try:
                    reply = connections.exchange(memoryview(head + BODY), reservation)
                except LionError:
                    outcome = "failed"
                else:
                    if reply.status == 200:
                        usage = json.loads(reply.body)["usage"]
                        reservation.settle({"tokens": usage["total_tokens"]})
                    else:
                        outcome = "refused"
                        limiter.refused(reservation)
            with lock:
                counts[outcome] += 1

    # The server's threads start with the connections, which is not what is measured.
    models = f"GET /v1/models HTTP/1.1\r\nHost: {address.host_header}\r\n\r\n".encode()
    together = threading.Barrier(THREADS)

    def begin():
        together.wait()
        connections.exchange(memoryview(models), Quiet())
        together.wait()
        loop()

    threads = [threading.Thread(target=begin) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    time.sleep(args.seconds)
    limiter.close()
    for thread in threads:
        thread.join()
    print(json.dumps(counts), flush=True)


def saturated(args, store):
    provider = subprocess.Popen(
        [
            *(sys.executable, "-m", "lionlite", "serve", "--until-stdin-closes"),
            *("--max-requests", str(args.requests), "--max-tokens", str(args.tokens)),
            *("--interval", str(args.interval), "--latency", str(args.latency)),
            *("--charge", args.charge),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    base_url = provider.stdout.readline().strip()
    options = [
        *("--store", store, "--budget", f"bench-{time.monotonic_ns()}", "--provider", base_url),
        *("--requests", str(args.requests), "--tokens", str(args.tokens)),
        *("--interval", str(args.interval), "--seconds", str(args.seconds)),
    ]
    command = [sys.executable, __file__, args.charge, "--worker", *options]
    workers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    counts = [json.loads(worker.communicate()[0]) for worker in workers]
    with urlopen(base_url.removesuffix("/v1") + "/report", timeout=60) as answer:
        report = json.loads(answer.read())
    provider.stdin.close()
    provider.wait()
    return counts, report


def show(name, args, counts, report):
    windows = (report["last_s"] - report["first_s"]) / args.interval
    used = (report["accepted"] - args.requests) / (args.requests * windows)
    over = max(
        report["highest_requests_in_window"] - args.requests,
        report["highest_tokens_in_window"] - args.tokens,
        0,
    )
    total = sum(one["granted"] for one in counts)
    shares = " ".join(f"{one['granted'] * PROCESSES / total:.0%}" for one in counts)
    print(
        f"  {name:6} {args.charge:9} {windows:.1f} windows of {args.interval:g} s:"
        f" over by {over} (0), use {used:.1%} (>= 95%), 429s {report['refused_429']} (0),"
        f" failed {sum(one['failed'] for one in counts)},"
        f" shares of fair share {shares} (>= 50%)",
        flush=True,
    )


def cost_of_a_call(name, store):
    limiter = SharedLimiter(
        {"requests": [limit(10**6, 60)], "tokens": [limit(10**9, 60)]},
        store=store,
        budget=f"bench-{time.monotonic_ns()}",
        charge="adjust",
    )
    times = []
    for _ in range(1_000):
        began = time.perf_counter()
        with limiter.reserve({"requests": 1, "tokens": 1_000}) as reservation:
            reservation.sent()
            reservation.replied()
            reservation.settle({"tokens": 500})
        times.append((time.perf_counter() - began) * 1e3)
    limiter.close()
    times.sort()
    print(
        f"  {name:6} one call alone: median {statistics.median(times):.2f} ms,"
        f" p99 {times[int(len(times) * 0.99)]:.2f} ms",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("charges", nargs="*", default=["estimate"])
    parser.add_argument("--stores", nargs="*", default=["sqlite", "redis"])
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=0)
    parser.add_argument("--interval", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=42.0)
    parser.add_argument("--latency", type=float, default=0.05)
    for name in ("--store", "--budget", "--provider"):
        parser.add_argument(name)
    parser.add_argument("--worker", action="store_true")
    args = parser.parse_args()
    if args.worker:
        args.charge = args.charges[0]
        work(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        urls = {"sqlite": f"sqlite:///{folder}/bench.db", "redis": REDIS_URL}
        print(f"stores: {PROCESSES} processes x {THREADS} threads, {args.requests} requests")
        for name in args.stores:
            cost_of_a_call(name, urls[name])
        for charge in args.charges:
            args.charge = charge
            # So that tokens bind as much as requests where the estimate is charged.
            args.tokens = args.requests * ESTIMATE
            for name in args.stores:
                show(name, args, *saturated(args, urls[name]))


if __name__ == "__main__":
    main()
