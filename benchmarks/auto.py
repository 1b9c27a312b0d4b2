"""How close max_workers="auto" comes to the least time that budget and latency allow.

    python benchmarks/auto.py [--calls 2000] [--limit 500] [--interval 5] [--sigma 0.5] [--runs 1]

Each run: that many one-chat items through lcall with auto workers, against a strict provider in a
process of its own whose latency is lognormal with a median of 1 s. The least time is computed
from the latencies that the provider really drew, in the order of arrival: call i may arrive once
(i // limit) intervals have passed ("budget"), and, in the second figure, only when one of 256
workers is free ("256 workers"). A row without a limit follows: what latency and workers allow.
Judged by the provider's log: no window may hold more than the limit, and no request be refused.
"""

from __future__ import annotations

import argparse
import heapq
import json
import logging
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import lionlite as ll
from lionlite.testing import FakeProvider

logging.disable(logging.CRITICAL)


def serve(settings):
    rng = random.Random(settings.pop("seed"))
    sigma = settings.pop("sigma")
    drawn = []

    def latency():
        drawn.append(rng.lognormvariate(0, sigma))
        return drawn[-1]

    with FakeProvider("ok", latency_s=latency, keep_bodies=False, **settings) as provider:
        print(provider.base_url, flush=True)
        sys.stdin.read()
        report = provider.report()
    refused, most = report.refused_429, report.highest_requests_in_window
    print(json.dumps({"drawn": drawn, "refused": refused, "most": most}))


@contextmanager
def provider_of(settings, said):
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        yield process.stdout.readline().strip()
        process.stdin.close()
        said.update(json.loads(process.stdout.readline()))


def least_s(latencies, *, limit, interval_s, workers):
    """Return when the last reply would come if nothing cost any time."""
    free_s = [0.0] * workers
    starts = []
    for number, latency_s in enumerate(latencies):
        start_s = heapq.heappop(free_s)
        if limit and number >= limit:
            start_s = max(start_s, starts[number - limit] + interval_s)
        starts.append(start_s)
        heapq.heappush(free_s, start_s + latency_s)
    return max(free_s)


def measure(calls, limit, interval_s, sigma, seed):
    most_threads = 0
    said = {}
    settings = {"max_requests": limit, "interval_s": interval_s, "sigma": sigma, "seed": seed}
    with provider_of(settings, said) as base_url, ll.Services.Compatible(
        base_url=base_url,
        model="m",
        token_encoding_name="estimate",
        max_requests=limit,
        interval=interval_s,
    ) as service:

        def chat(number):
            nonlocal most_threads
            most_threads = max(most_threads, threading.active_count())
            return ll.Session(service=service).chat(str(number))

        # The first chat of a process reads files and makes tables.
        ll.Session(service=service).chat("warm up")
        time.sleep(interval_s if limit else 0)
        began_s, cpu_s = time.monotonic(), time.process_time()
        ll.lcall(range(calls), chat)
        wall_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
    latencies = said["drawn"][1:]
    bounds = {"limit": limit, "interval_s": interval_s}
    least = least_s(latencies, workers=calls, **bounds)
    of_256 = least_s(latencies, workers=256, **bounds)
    print(
        f"{f'{limit} per {interval_s:g} s' if limit else 'no limit':>14}{wall_s:>9.2f}{least:>9.2f}"
        f"{wall_s / least:>8.3f}{of_256:>13.2f}{wall_s / of_256:>8.3f}{most_threads:>9}"
        f"{said['most']:>8}{said['refused']:>6}{cpu_s / calls * 1e6:>13,.0f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--interval", type=float, default=5.0)
    parser.add_argument("--sigma", type=float, default=0.5)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", choices=["limit", "free"])
    parser.add_argument("--serve", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
        return
    print(f"{'budget':>14}{'wall s':>9}{'least s':>9}{'ratio':>8}{'256 workers':>13}{'ratio':>8}"
          f"{'threads':>9}{'window':>8}{'429s':>6}{'us CPU/call':>13}")
    for seed in range(args.runs):
        if args.only != "free":
            measure(args.calls, args.limit, args.interval, args.sigma, seed)
        if args.only != "limit":
            measure(args.calls, None, args.interval, args.sigma, seed)


if __name__ == "__main__":
    main()
