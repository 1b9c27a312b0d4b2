"""One client of benchmarks/transport.py, in a process of its own: does jobs, says their cost.

    python benchmarks/transport_worker.py NAME

Reads one job a line from standard input, as JSON, and answers with one line of JSON: "calls"
(threads in a closed loop), "stream" or "late" (calls that must end at their deadline). A job that
leaves threads behind ends the process, so that they cannot spoil the next one.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import threading
import time
from collections import Counter

from transport_clients import CLIENTS

WARM_UP_CAP_S = 20.0

# A closed loop of threads -----------------------------------------------------------------


class Worker:
    """One thread that calls until it is told to stop; *ends* and *took* in seconds."""

    def __init__(self, call, starts_in_s, loop):
        self.ends, self.took, self.errors = [], [], []
        self.thread = threading.Thread(
            target=self.run, args=(call, starts_in_s, loop), daemon=True
        )

    def run(self, call, starts_in_s, loop):
        if loop.wait(starts_in_s):
            return
        while not loop.is_set():
            began_s = time.monotonic()
            try:
                call()
            except Exception as error:
                self.errors.append((time.monotonic(), type(error).__name__))
                loop.wait(0.05)
            else:
                ended_s = time.monotonic()
                self.ends.append(ended_s)
                self.took.append(ended_s - began_s)

    @property
    def is_warm(self):
        return bool(self.ends or self.errors)


def calls(client, job):
    """Let *threads* call for *seconds*, once each has been answered; say what it cost."""
    threads, delay_s = job["threads"], job["delay_s"]
    # One after the other: the phases stay spread, as they are in a long job.
    spread_s = max(delay_s, 0.002 * threads)
    stop = threading.Event()
    workers = [
        Worker(client.call, spread_s * number / threads, stop) for number in range(threads)
    ]
    for worker in workers:
        worker.thread.start()
    gives_up_s = time.monotonic() + spread_s + delay_s + WARM_UP_CAP_S
    while not all(worker.is_warm for worker in workers) and time.monotonic() < gives_up_s:
        time.sleep(0.02)
    time.sleep(0.2)
    warm = sum(worker.is_warm for worker in workers)
    began_s, cpu_s = time.monotonic(), time.process_time()
    time.sleep(job["seconds"])
    ended_s, cpu_s = time.monotonic(), time.process_time() - cpu_s
    stop.set()
    ends_s = time.monotonic() + delay_s + 5
    for worker in workers:
        worker.thread.join(max(0, ends_s - time.monotonic()))
    result = seen(workers, began_s, ended_s, cpu_s, delay_s)
    result["warm"] = warm
    result["is_stuck"] = any(worker.thread.is_alive() for worker in workers)
    return result


def seen(workers, began_s, ended_s, cpu_s, delay_s):
    took, errors, per_s = [], Counter(), 0.0
    for worker in workers:
        inside = [n for n, at in enumerate(worker.ends) if began_s <= at <= ended_s]
        took += [worker.took[n] for n in inside]
        errors.update(name for at, name in worker.errors if at <= ended_s)
        if len(inside) > 1:
            # Between its own first and last: no edge of the window counts.
            last_s = max(worker.ends[inside[-1]], ended_s - max(delay_s, 0.1))
            per_s += (len(inside) - 1) / (last_s - worker.ends[inside[0]])
    if not took:
        return {"calls": 0, "errors": dict(errors), "per_s": 0.0}
    return {
        "calls": len(took),
        "errors": dict(errors),
        "cpu_us": cpu_s / len(took) * 1e6,
        "per_s": per_s,
        "share": per_s * delay_s / len(workers),
        "p99_ms": (percentile(took, 0.99) - delay_s) * 1e3,
    }


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# Streams and ends -------------------------------------------------------------------------


def stream(client, job):
    """Read *streams* streams; say how late texts came, and the CPU of each."""
    if not hasattr(client, "stream"):
        return {"missing": "no stream"}
    for _ in client.stream():
        pass  # connect
    firsts, all_late, pieces = [], [], 0
    cpu_s = time.process_time()
    for _ in range(job["streams"]):
        late = [time.monotonic() - float(text) for text in client.stream()]
        firsts.append(late[0])
        all_late += late
        pieces += len(late)
    cpu_s = time.process_time() - cpu_s
    return {
        "pieces": pieces,
        "cpu_us": cpu_s / pieces * 1e6,
        "first_ms": statistics.median(firsts) * 1e3,
        "first_p99_ms": percentile(firsts, 0.99) * 1e3,
        "piece_ms": statistics.median(all_late) * 1e3,
    }


def late(client, job):
    """Make calls that cannot be answered; say how long after their deadline they ended."""
    took, ends = [], Counter()

    def work():
        for _ in range(job["calls"]):
            began_s = time.monotonic()
            try:
                client.call_until(job["deadline_s"])
                ends["no error"] += 1
            except Exception as error:
                ends[type(error).__name__] += 1
            took.append(time.monotonic() - began_s - job["deadline_s"])

    threads = [threading.Thread(target=work, daemon=True) for _ in range(job["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "calls": len(took),
        "ends": dict(ends),
        "p50_ms": statistics.median(took) * 1e3,
        "p99_ms": percentile(took, 0.99) * 1e3,
        "most_ms": max(took) * 1e3,
    }


JOBS = {"calls": calls, "stream": stream, "late": late}


def main():
    make = CLIENTS[sys.argv[1]]
    try:
        importlib.import_module(make.needs)
    except ImportError as error:
        print(json.dumps({"missing": f"not installed ({error.name})"}), flush=True)
        return
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        client = make(job["base_url"])
        try:
            result = JOBS[job["op"]](client, job)
        except Exception as error:
            result = {"failed": f"{type(error).__name__}: {error}"[:200]}
        print(json.dumps(result), flush=True)
        if result.get("is_stuck") or "failed" in result:
            os._exit(0)
        client.close()


if __name__ == "__main__":
    main()
