"""2,000 chats over 64 threads against a healthy server in a process of its own: errors, speed.

    python benchmarks/healthy.py [calls] [threads]
"""

from __future__ import annotations

import sys
import time

import lionlite as ll
from lionlite.demo import Settings, child_provider


def main():
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    settings = Settings(max_requests=10**9, max_tokens=10**12, interval_s=60, latency_s=0)
    with child_provider(settings) as base_url, ll.Services.Compatible(
        base_url=base_url,
        model="calculator",
        token_encoding_name="estimate",
        max_requests=10**9,
        max_tokens=10**12,
    ) as service:

        def chat(number):
            session = ll.Session("You are a calculator.", service=service)
            return session.chat("sum the absolute values", context=[number, -number])

        began_s, cpu_s = time.monotonic(), time.process_time()
        answers = ll.lcall(range(calls), chat, max_workers=threads, on_error="return")
        wall_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
        wrong = sum(answer != str(2 * number) for number, answer in enumerate(answers))
        stats = service.stats()
    print(
        f"{calls:,} calls, {threads} threads: {wrong} errors or wrong answers, "
        f"{stats.retries} retries, {calls / wall_s:,.0f} calls/s, "
        f"{cpu_s / calls * 1e6:.0f} us CPU a call"
    )


if __name__ == "__main__":
    main()
