"""How fast and how large the engine of lcall is. Run: python -m benchmarks.calls

Prints the memory that 1,000,000 items from a generator need, values kept,
above the import; then the items per second of a no-op for lcall and icall and,
in the same run with as many threads, for ThreadPoolExecutor.map and for those
of joblib (threading), langchain's batch and dspy.Parallel that are installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import resource
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from lionlite.calls.family import icall, lcall

# ru_maxrss is in KiB on Linux and in bytes on macOS.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def no_op(item):
    return item


def per_second(run, count):
    started_s = time.perf_counter()
    run(count)
    return count / (time.perf_counter() - started_s)


def by_lcall(workers):
    return lambda count: lcall(range(count), no_op, max_workers=workers)


def by_icall(workers):
    return lambda count: sum(1 for _ in icall(range(count), no_op, max_workers=workers))


def by_map(workers):
    def run(count):
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(no_op, range(count)))

    return run


def by_joblib(workers):
    from joblib import Parallel, delayed

    def run(count):
        with Parallel(n_jobs=workers, backend="threading") as parallel:
            parallel(delayed(no_op)(item) for item in range(count))

    return run


def by_langchain(workers):
    from langchain_core.runnables import RunnableLambda

    config = {"max_concurrency": workers}
    return lambda count: RunnableLambda(no_op).batch(list(range(count)), config=config)


def by_dspy(workers):
    import dspy

    def run(count):
        # It draws a bar of its own for every item.
        with contextlib.redirect_stderr(io.StringIO()):
            parallel = dspy.Parallel(num_threads=workers, disable_progress_bar=True)
            parallel([(no_op, dspy.Example(item=n).with_inputs("item")) for n in range(count)])

    return run


PEERS = {
    "joblib": ("joblib Parallel, threading", by_joblib, 20_000),
    "langchain_core": ("langchain batch", by_langchain, 2_000),
    "dspy": ("dspy.Parallel", by_dspy, 2_000),
}


def print_speed(runs, workers):
    rows = {
        f"lcall(max_workers={workers})": (by_lcall(workers), 200_000),
        f"icall(max_workers={workers})": (by_icall(workers), 100_000),
        f"ThreadPoolExecutor({workers}).map": (by_map(workers), 50_000),
    }
    for package, (name, by, count) in PEERS.items():
        if importlib.util.find_spec(package) is None:
            print(f"{name}: not installed")
        else:
            rows[name] = by(workers), count
    seen = {name: [] for name in rows}
    for _ in range(runs):
        for name, (run, count) in rows.items():
            seen[name].append(per_second(run, count))
    for name, rates in seen.items():
        low, middle, high = min(rates), statistics.median(rates), max(rates)
        print(f"{name:32} {middle:>9,.0f} items/s   (of {runs}: {low:,.0f} to {high:,.0f})")


def print_memory(count):
    def peak_mib():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / 2**20

    before = peak_mib()
    values = lcall((index for index in range(count)), no_op, max_workers=8)
    print(f"{len(values):,} items from a generator: {peak_mib() - before:.0f} MiB above import")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--workers", type=int, default=8)
    options = parser.parse_args()
    # First: the peak of the process only ever grows.
    print_memory(1_000_000)
    print_speed(options.runs, options.workers)


if __name__ == "__main__":
    main()
