"""What the limiter costs: python benchmarks/limiter_micro.py

One call, as reserve and settle and with sent and replied between them, against
one stock pyrate-limiter `try_acquire(weight=1)`, in turn in one run; memory at a full window;
checks per grant with 512 waiters; and from a refund to the grant it frees.
"""

from __future__ import annotations

import logging
import statistics
import threading
import time
import tracemalloc

import pyrate_limiter

from lionlite.limits.budget import Budget
from lionlite.limits.entries import Entry
from lionlite.limits.ledger import LedgerBucket
from lionlite.limits.limiter import RateLimiter
from lionlite.limits.rates import limit

logging.disable(logging.CRITICAL)

ROUNDS = 15
CALLS = 2_000


def microseconds(call, calls=CALLS):
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls * 1e6


def stock():
    limiter = pyrate_limiter.Limiter(pyrate_limiter.Rate(10**9, 60_000))
    return lambda: limiter.try_acquire(weight=1, blocking=False)


def ours(weight, charge, *, marks):
    limiter = RateLimiter(
        {"requests": [limit(10**9, 60)], "tokens": [limit(10**15, 60)]}, charge=charge
    )
    costs = {"requests": 1, "tokens": weight}

    def call():
        with limiter.reserve(costs) as reservation:
            if marks:
                reservation.sent()
                reservation.replied()
            reservation.settle({"tokens": weight // 2})

    return call


def cost_of_a_call(*, marks):
    what = "reserve + sent + replied + settle" if marks else "reserve + settle"
    print(f"{what}, us, median of {ROUNDS} rounds of {CALLS}")
    for charge in ("estimate", "adjust", "usage"):
        for weight in (1, 1_000, 100_000):
            base, own = stock(), ours(weight, charge, marks=marks)
            pairs = [(microseconds(base), microseconds(own)) for _ in range(ROUNDS)]
            theirs = statistics.median(one for one, _ in pairs)
            mine = statistics.median(two for _, two in pairs)
            ratio = statistics.median(two / one for one, two in pairs)
            print(
                f"  {charge:9} weight {weight:>7,}: {mine:6.2f}"
                f"  stock weight 1: {theirs:6.2f}  ratio {ratio:.2f}"
            )


def memory_of_a_full_window():
    now = [1.0]
    limiter = RateLimiter(
        {"requests": [limit(30_000, 60)], "tokens": [limit(150_000_000, 60)]}, clock=lambda: now[0]
    )
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(10_000):
        now[0] += 59 / 10_000
        with limiter.reserve({"requests": 1, "tokens": 15_000}) as reservation:
            reservation.sent()
            reservation.settle({"tokens": 15_000})
    held, peak = (one - before for one in tracemalloc.get_traced_memory())
    tracemalloc.stop()
    used = limiter.stats().dimensions["tokens"].used
    print(
        f"memory at {used:,} tokens of 10,000 calls: {held / 2**20:.2f} MiB,"
        f" peak {peak / 2**20:.2f} MiB (<= 2)"
    )


def checks_per_grant(name, weight_of, most):
    """512 waiters on a manual clock, each sent and answered as it is granted."""
    now = [1.0]
    ledger = LedgerBucket(
        {"requests": [limit(10**6, 1)], "tokens": [limit(20_000, 1)]}, clock=lambda: now[0]
    )
    budget = Budget(ledger)
    made = 0

    def join():
        nonlocal made
        made += 1
        entry = Entry({"requests": 1, "tokens": weight_of(made)})
        if budget.admit(entry):
            served.append(entry)
        else:
            served.extend(budget.join(entry, float("inf")))

    served: list[Entry] = []
    while len(budget.queue) < 512:
        join()
    ledger.checks = granted = 0
    while granted < 5_000:
        while served:
            entry = served.pop()
            granted += 1
            now[0] += 0.0002
            served.extend(budget.sent(entry))
            now[0] += 0.0002
            served.extend(budget.replied(entry))
            served.extend(budget.settle(entry, entry.costs))
            join()
        now[0] = max(now[0], budget.look_at / 1e9) + 1e-6
        served.extend(budget.pump())
    print(f"checks per grant, 512 waiters, {name}: {ledger.checks / granted:.2f} (<= {most})")


def refund_to_grant():
    limiter = RateLimiter({"tokens": [limit(1_000, 3600)]}, charge="adjust")
    delays = []
    held = limiter.reserve({"tokens": 1_000})
    for _ in range(500):
        granted = []

        def wait(granted=granted):
            reservation = limiter.reserve({"tokens": 1_000})
            granted.append((time.perf_counter(), reservation))

        thread = threading.Thread(target=wait)
        thread.start()
        while limiter.stats().waiting == 0:
            time.sleep(0.0005)
        began = time.perf_counter()
        held.settle({"tokens": 0})
        thread.join()
        at, held = granted[0]
        delays.append((at - began) * 1e3)
    delays.sort()
    print(
        f"refund to grant, ms: median {statistics.median(delays):.2f},"
        f" p99 {delays[int(len(delays) * 0.99)]:.2f} (<= 5)"
    )


if __name__ == "__main__":
    cost_of_a_call(marks=False)
    cost_of_a_call(marks=True)
    memory_of_a_full_window()
    checks_per_grant("equal weights", lambda _: 100, 2)
    checks_per_grant("mixed weights", lambda n: 8_000 if n % 4 == 0 else 50 + n % 97, 18)
    refund_to_grant()
