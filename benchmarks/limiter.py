"""The same saturated job under lionlite's budget and under its peers', judged by a strict server.

    python benchmarks/limiter.py [--requests 100] [--tokens 20000] [--interval 5] [--windows 4]
                                 [--threads 16 64] [--only NAME ...]

Every limiter is given the server's own limits. N threads take a permit and send, over a plain
http.client connection each, until the time is over. The server (a process of its own) refuses
what exceeds its sliding window, and its log is the judge: a refused call used up nothing there.
Each call asks for 20 to 380 tokens, so both limits matter; peers that know only requests, or
cannot take both at once, are run as their users run them. "use" is (granted - limit) / (limit x
(last - first) / interval) of the dimension that was used most; the CPU is the client's, HTTP
included, the same for all.
"""

from __future__ import annotations

import argparse
import functools
import http.client
import json
import random
import threading
import time
from urllib.request import ProxyHandler, build_opener

from lionlite import demo
from lionlite.limits.limiter import RateLimiter
from lionlite.limits.rates import limit

PROMPT_TOKENS = 8  # what the server counts for the message below


def lionlite_limiter(args):
    limiter = RateLimiter(
        {
            "requests": [limit(args.requests, args.interval)],
            "tokens": [limit(args.tokens, args.interval)],
        },
        charge="estimate",
    )

    def call(send, tokens):
        with limiter.reserve({"requests": 1, "tokens": tokens}) as reservation:
            send(sent=reservation.sent, replied=reservation.replied)
            reservation.settle({"tokens": tokens})

    return call


def stock_pyrate(args):
    from pyrate_limiter import InMemoryBucket, Limiter, Rate

    interval_ms = int(args.interval * 1000)
    requests = Limiter(InMemoryBucket([Rate(args.requests, interval_ms)]))
    tokens_limiter = Limiter(InMemoryBucket([Rate(args.tokens, interval_ms)]))

    def call(send, tokens):
        requests.try_acquire("r", weight=1)
        tokens_limiter.try_acquire("t", weight=tokens)
        send()

    return call


def langchain_core(args):
    from langchain_core.rate_limiters import InMemoryRateLimiter

    limiter = InMemoryRateLimiter(
        requests_per_second=args.requests / args.interval, max_bucket_size=args.requests
    )

    def call(send, _tokens):
        limiter.acquire()
        send()

    return call


def limits_moving_window(args):
    from limits import RateLimitItemPerSecond
    from limits.storage import MemoryStorage
    from limits.strategies import MovingWindowRateLimiter

    window = MovingWindowRateLimiter(MemoryStorage())
    requests = RateLimitItemPerSecond(args.requests, int(args.interval))
    tokens_item = RateLimitItemPerSecond(args.tokens, int(args.interval))

    def wait_for(item, key, cost):
        # It has no waiting of its own: its users sleep and ask again.
        while not window.hit(item, key, cost=cost):
            time.sleep(0.01)

    def call(send, tokens):
        wait_for(requests, "r", 1)
        wait_for(tokens_item, "t", tokens)
        send()

    return call


def throttled_py(args):
    from datetime import timedelta

    from throttled import Throttled, rate_limiter

    def made(limit_, key):
        quota = rate_limiter.per_duration(timedelta(seconds=args.interval), limit_)
        return Throttled(key=key, using="sliding_window", quota=quota, timeout=3600)

    requests, tokens_limiter = made(args.requests, "r"), made(args.tokens, "t")

    def call(send, tokens):
        requests.limit(cost=1)
        tokens_limiter.limit(cost=tokens)
        send()

    return call


CASES = {
    "lionlite": lionlite_limiter,
    "pyrate-limiter": stock_pyrate,
    "langchain-core": langchain_core,
    "limits": limits_moving_window,
    "throttled-py": throttled_py,
}


class Client:
    """One plain keep-alive connection."""

    def __init__(self, base_url):
        self.connection = http.client.HTTPConnection(base_url.split("/")[2])

    def post(self, tokens, sent=None, replied=None):
        body = json.dumps(
            {
                "model": "m",
                "messages": [{"role": "user", "content": "x"}],
                "max_tokens": tokens - PROMPT_TOKENS,
            }
        )
        self.connection.request(
            "POST", "/v1/chat/completions", body, {"Content-Type": "application/json"}
        )
        if sent:
            sent()
        reply = self.connection.getresponse()
        if replied:
            replied()
        reply.read()


def run(make, args, threads):
    settings = demo.Settings(
        max_requests=args.requests,
        max_tokens=args.tokens,
        interval_s=args.interval,
        latency_s=0.02,
    )
    with demo.child_provider(settings) as base_url:
        call = make(args)
        ends_s = time.monotonic() + args.interval * args.windows
        cpu_s = time.process_time()

        def work(seed):
            rng = random.Random(seed)
            client = Client(base_url)
            while time.monotonic() < ends_s:
                tokens = rng.randint(20, 380)
                call(functools.partial(client.post, tokens), tokens)

        pool = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(threads)]
        for thread in pool:
            thread.start()
        time.sleep(max(0, ends_s - time.monotonic()))
        cpu_s = time.process_time() - cpu_s
        address = base_url.removesuffix("/v1") + "/report"
        with build_opener(ProxyHandler({})).open(address, timeout=30) as answer:
            report = json.loads(answer.read())
        for thread in pool:
            thread.join(args.interval * 2)
    return report, cpu_s


def use_of(granted, allowed, report):
    windows = (report["last_s"] - report["first_s"]) / report["interval_s"]
    return max(0, granted - allowed) / (allowed * windows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--interval", type=float, default=5.0)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--threads", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    args = parser.parse_args()
    print(
        f"{args.requests} requests and {args.tokens:,} tokens per {args.interval:g} s, "
        f"{args.windows} windows"
    )
    print(f"{'limiter':<16}{'threads':>8}{'served':>8}{'use':>8}{'worst window':>14}{'429s':>7}"
          f"{'us CPU/call':>13}")
    for threads in args.threads:
        for name in args.only:
            try:
                report, cpu_s = run(CASES[name], args, threads)
            except ImportError as error:
                print(f"{name:<16} not installed ({error.name})")
                continue
            used_tokens = report["input_tokens"] + report["accepted"] * 192
            use = max(
                use_of(report["accepted"], args.requests, report),
                use_of(used_tokens, args.tokens, report),
            )
            worst = report["highest_arrivals_in_window"]
            calls = report["accepted"] + report["refused_429"]
            print(
                f"{name:<16}{threads:>8}{report['accepted']:>8}{use:>8.1%}"
                f"{worst:>8} of {args.requests:<3}{report['refused_429']:>6}"
                f"{cpu_s / calls * 1e6:>13.0f}"
            )


if __name__ == "__main__":
    main()
