"""How much of a limit is used when more is asked for all the time, and what that costs.

    python benchmarks/saturated.py [--windows 11] [--modes estimate adjust usage] [--only REAL]

Real: threads that chat without pause against a strict provider in a process of its own, with
the client's very limits, in 5 s windows; its log is the judge. Manual: the same budget on a
manual clock in 60 s windows, 64 waiters, no thread and no socket. Tokens bind, and a call uses
all that was reserved for it. "small": no call above 1 % of the limit. "half": the same, but half
of each reservation stays unused, as far as the mode gives it back; until it does, it is nobody's.
"large": one call of 40 % of the limit in four.

use = (granted - limit) / (limit x (last - first) / interval), as the provider charges it: the
first window may be filled at once, and nothing more is free. "over" counts the windows that
hold more than the limit. The CPU is the client's, HTTP included where there is any.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import logging
import math
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import lionlite as ll
from lionlite.limits.budget import Budget
from lionlite.limits.entries import Entry
from lionlite.limits.ledger import LedgerBucket
from lionlite.limits.rates import Rate
from lionlite.testing import FakeProvider

logging.disable(logging.CRITICAL)

MODES = ["estimate", "adjust", "usage"]
MAX_TOKENS = 90_000
MAX_REQUESTS = 1_000  # not reached: tokens bind
REAL_S, MANUAL_S = 5.0, 60.0
LATENCY_S = 0.02
SMALL = [400, 700, 150, 900, 333]
SIZES = {"small": SMALL, "half": SMALL, "large": [36_000, 3_000, 3_000, 3_000]}
SHARES = {"small": 1.0, "half": 0.5, "large": 1.0}
"""How much of its reservation a call uses."""

MUST = {
    ("manual", "small"): ">= 99%",
    ("manual", "large"): ">= 95%",
    ("real", "small"): ">= 97%",
    ("real", "large"): ">= 95%",
}

PROMPT_CHARS = 40
INPUT_TOKENS = 18  # what lionlite counts for such a prompt; the provider counts 17


# Real ----------------------------------------------------------------------------------


def answer(body):
    return "." * (4 * int(body["messages"][-1]["content"]))


def serve(settings):
    with FakeProvider(answer, keep_bodies=False, **settings) as provider:
        print(provider.base_url, flush=True)
        sys.stdin.read()
    for one in provider.requests:
        if one.path.endswith("/completions"):
            log = [one.arrival_s, one.is_admitted, one.charged_at_s, one.charged_tokens]
            print(json.dumps(log))


@contextmanager
def server_of(charge, log):
    settings = {
        "max_requests": MAX_REQUESTS,
        "max_tokens": MAX_TOKENS,
        "interval_s": REAL_S,
        "latency_s": LATENCY_S,
        "charge": charge,
    }
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
        log.extend(json.loads(line) for line in process.stdout)


def real(charge, kind, *, threads, windows):
    """Return (charges of tokens, arrivals let in, refusals, CPU seconds)."""
    log = []
    # Shared without a lock: a step of a cycle runs under the interpreter's own.
    next_size = itertools.cycle(SIZES[kind]).__next__
    with server_of(charge, log) as base_url, ll.Services.Compatible(
        base_url=base_url,
        model="m",
        token_encoding_name="estimate",
        max_requests=MAX_REQUESTS,
        max_tokens=MAX_TOKENS,
        interval=REAL_S,
        charge=charge,
    ) as service:

        def work():
            try:
                while not ends.is_set():
                    cap = next_size() - INPUT_TOKENS
                    prompt = str(int(cap * SHARES[kind])).ljust(PROMPT_CHARS)
                    ll.Session(service=service).chat(prompt, max_tokens=cap)
            except ll.Cancelled:
                return

        ends = threading.Event()
        pool = [threading.Thread(target=work) for _ in range(threads)]
        cpu_s = time.process_time()
        for thread in pool:
            thread.start()
        time.sleep(windows * REAL_S + 1)
        cpu_s = time.process_time() - cpu_s
        ends.set()
        service.cancel()
        for thread in pool:
            thread.join()
    ends_s = min(at for at, *_ in log) + windows * REAL_S
    accepted = [one for one in log if one[1] and one[0] <= ends_s]
    charges = sorted((at, tokens) for _, _, at, tokens in accepted if at <= ends_s)
    arrivals = sorted((at, 1) for at, *_ in accepted)
    return charges, arrivals, sum(not one[1] for one in log), cpu_s


# On a manual clock -----------------------------------------------------------------------


class Simulation:
    """A budget with 64 waiters, whose calls take the same time each."""

    def __init__(self, charge, kind):
        self.charge, self.kind = charge, kind
        self.now_s = 1_000.0
        limits = {"requests": MAX_REQUESTS, "tokens": MAX_TOKENS}
        ledger = LedgerBucket(
            {name: [Rate(limit, MANUAL_S)] for name, limit in limits.items()},
            charge=charge,
            clock=lambda: self.now_s,
        )
        self.budget = Budget(ledger)
        self.events, self.charges, self.arrivals = [], [], []
        self.serials = itertools.count()

    def run(self, windows):
        sizes = itertools.cycle(SIZES[self.kind])
        ends_s = self.now_s + windows * MANUAL_S
        while self.now_s < ends_s:
            while len(self.budget.queue) < 64:
                self.join(Entry({"requests": 1, "tokens": next(sizes)}))
            due_s = (self.budget.look_at + 1) / 1e9
            if self.events and self.events[0][0] <= due_s:
                at_s, _, happen, entry = heapq.heappop(self.events)
                self.now_s = max(self.now_s, at_s)
                happen(entry)
            else:
                self.now_s = max(self.now_s, due_s)
                self.begin(self.budget.pump())

    def join(self, entry):
        is_in = self.budget.admit(entry)
        self.begin([entry] if is_in else self.budget.join(entry, math.inf))

    def begin(self, entries):
        # On the wire after 2 ms, there after 10 ms, answered after 30 ms and the latency.
        for entry in entries:
            self.plan(0.002, lambda entry: self.begin(self.budget.sent(entry)), entry)
            self.plan(0.01, self.arrive, entry)
            self.plan(0.03 + LATENCY_S, self.answer, entry)

    def plan(self, delay_s, happen, entry):
        event = self.now_s + delay_s, next(self.serials), happen, entry
        heapq.heappush(self.events, event)

    def arrive(self, entry):
        self.arrivals.append((self.now_s, 1))
        if self.charge != "usage":
            is_kept = self.charge == "estimate"
            tokens = entry.costs["tokens"] if is_kept else self.used_by(entry)
            self.charges.append((self.now_s, tokens))

    def answer(self, entry):
        if self.charge == "usage":
            self.charges.append((self.now_s, self.used_by(entry)))
        self.begin(self.budget.replied(entry))
        self.begin(self.budget.settle(entry, {"tokens": self.used_by(entry)}))

    def used_by(self, entry):
        return int(entry.costs["tokens"] * SHARES[self.kind])


def manual(charge, kind, *, windows):
    """Return the same as `real`, of a budget without threads."""
    simulation = Simulation(charge, kind)
    cpu_s = time.process_time()
    simulation.run(windows)
    return simulation.charges, simulation.arrivals, 0, time.process_time() - cpu_s


# The table ---------------------------------------------------------------------------------


def use_of(charges, limit, interval_s):
    granted = sum(cost for _, cost in charges)
    return (granted - limit) / (limit * (charges[-1][0] - charges[0][0]) / interval_s)


def windows_over(charges, limit, interval_s):
    """Count the charges at whose instant the window that ends there holds too much."""
    over = held = oldest = 0
    for at_s, cost in charges:
        held += cost
        while at_s - charges[oldest][0] >= interval_s:
            held -= charges[oldest][1]
            oldest += 1
        over += held > limit
    return over


def show(name, outcome, interval_s, must):
    charges, arrivals, refused, cpu_s = outcome
    over = windows_over(charges, MAX_TOKENS, interval_s)
    over += windows_over(arrivals, MAX_REQUESTS, interval_s)
    windows = (charges[-1][0] - charges[0][0]) / interval_s
    use = use_of(charges, MAX_TOKENS, interval_s)
    print(
        f"{name:<34}{len(arrivals):>8,}{windows:>9.1f}{over:>6}{refused:>6}"
        f"{use:>9.2%}{must:>8}{cpu_s / len(arrivals) * 1e6:>14,.0f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", type=int, default=11)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--only", choices=["REAL", "MANUAL"])
    parser.add_argument("--serve", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
        return
    print(f"{'case':<34}{'granted':>8}{'windows':>9}{'over':>6}{'429s':>6}{'use':>9}"
          f"{'must':>8}{'us CPU/grant':>14}")
    for kind, mode in itertools.product(SIZES, args.modes) if args.only != "REAL" else ():
        outcome = manual(mode, kind, windows=2 * args.windows)
        must = MUST.get(("manual", kind), "")
        show(f"manual clock 60 s, {kind}, {mode}", outcome, MANUAL_S, must)
    cases = [(64, "small"), (16, "small"), (64, "half"), (64, "large")]
    for (threads, kind), mode in itertools.product(cases, args.modes):
        if args.only == "MANUAL":
            break
        outcome = real(mode, kind, threads=threads, windows=args.windows)
        must = MUST.get(("real", kind), "")
        show(f"{threads} threads 5 s, {kind}, {mode}", outcome, REAL_S, must)


if __name__ == "__main__":
    main()
