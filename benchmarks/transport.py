"""What a chat costs: `Session.chat` beside httpx, the openai SDK, litellm and langchain-openai.

    python benchmarks/transport.py [--quick] [--rows 1@0 32@0 ...] [--only NAME ...] [--rounds N]
                                   [--schemes http https] [--parts calls streams ends] [--no-nginx]
                                   [--one-core]

One run: each client is a process of its own, they take turns (A B C A B C), and every figure is a
median over the rounds; "x ours" is the median of the ratios within each round. The server (nginx
with one worker where it is installed, else cheap_server.py) answers with 900 bytes at once, after
200 ms or after 1 s, over plain HTTP and over TLS. CPU is the client's process, kernel included.

A row is THREADS@MILLISECONDS, a closed loop of threads; "kept" is its calls/s divided by
threads/latency, p99 is what calls took beyond the latency. A client that is not through to each
of its threads 20 s after the start, or hangs, is cut, said so, and left out of that row's later
rounds. Streams: each text says when it was sent, in one write (together) or one a millisecond.
Ends: 32 threads make calls that nobody answers, with 0.5 s each. All takes about 40 minutes,
--quick ten.

Where a core idles, the kernel wakes the server there: on a virtual machine that costs whoever
sends some 12 us, and its own core falls asleep and goes cold meanwhile. --one-core keeps clients
and server on one, so that what is measured is the client.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import select
import socket
import subprocess
import sys

import transport_servers
import transport_worker
from transport_clients import CLIENTS
from transport_figures import (
    CALLS_HEAD,
    OURS,
    STREAM_HEAD,
    Figures,
    calls_line,
    ends_line,
    remark_on,
    stream_line,
    verdict,
)

from lionlite import tokens

ROWS = ["1@0", "32@0", "256@0", "32@200", "256@200", "256@1000", "1000@1000", "2000@1000"]
QUICK_ROWS = ["1@0", "32@0", "256@200"]
SECONDS = {0: 1.2, 200: 3.0, 1000: 6.0}
LARGE_THREADS, LARGE_ROUNDS = 256, 2
"""The large rows are long, and what they show is no matter of a few per cent."""

STREAMS = {"together": "sse-2000-0", "one by one": "sse-500-1000"}
PATIENCE_S = 60.0
DEADLINE_S, END_THREADS = 0.5, 32
PACKAGES = ["httpx", "openai", "litellm", "langchain-openai"]


class Child:
    """The process of one client; started at need, and again after what it did not survive."""

    def __init__(self, name):
        self.name = name
        self.process = None

    def ask(self, job):
        """Return what the client says of *job*; "cut" if it says nothing in time."""
        result = {}
        if self.process is None:
            result = self.start()
        if "missing" not in result:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            result = self.heard(PATIENCE_S + 3 * job.get("seconds", 0))
        if remark_on(result, job.get("threads", 1)):
            self.end()
        return result

    def start(self):
        command = [sys.executable, transport_worker.__file__, self.name]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self.heard(PATIENCE_S)

    def heard(self, seconds):
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return {"cut": f"nothing in {seconds:.0f} s"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"cut": "its process died"}

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


class Bench:
    """One run: the servers, the clients, and what was seen."""

    def __init__(self, servers, names, rounds):
        self.servers = servers
        self.children = {name: Child(name) for name in names}
        self.rounds = rounds
        self.figures = Figures()

    def run_calls(self, scheme, row):
        threads, delay_ms = map(int, row.split("@"))
        after = "at once" if delay_ms == 0 else f"after {delay_ms:,} ms"
        print(f"\n{scheme}, {threads:,} thread{'s' * (threads > 1)}, replies {after}\n{CALLS_HEAD}")
        job = {
            "op": "calls",
            "base_url": self.servers.base_url(scheme, delay_ms),
            "threads": threads,
            "delay_s": delay_ms / 1e3,
            "seconds": SECONDS[delay_ms],
        }
        most = LARGE_ROUNDS if threads >= LARGE_THREADS else self.rounds
        remarks = self.take_turns((scheme, row), self.children, job, min(self.rounds, most))
        for name in self.children:
            print(calls_line(self.figures, (scheme, row, name), remarks.get(name, "")), flush=True)

    def run_streams(self, scheme, kind):
        able = {
            name: child
            for name, child in self.children.items()
            if hasattr(CLIENTS[name], "stream")
        }
        step = STREAMS[kind]
        pieces = step.split("-")[1]
        print(f"\n{scheme}, streams of {pieces} pieces, {kind}\n{STREAM_HEAD}")
        job = {"op": "stream", "base_url": self.servers.odd_url(scheme, step), "streams": 6}
        self.take_turns((scheme, kind), able, job, min(self.rounds, 3))
        for name in able:
            is_timed = kind == "one by one"
            print(stream_line(self.figures, (scheme, kind, name), is_timed=is_timed), flush=True)

    def take_turns(self, place, children, job, rounds):
        """Let each client do *job* once a round; return why some were left out."""
        remarks = {}
        for _ in range(rounds):
            for name, child in children.items():
                if name not in remarks:
                    result = child.ask(job)
                    self.figures.add((*place, name), result)
                    remark = remark_on(result, job.get("threads", 1))
                    if remark:
                        remarks[name] = remark
        return remarks

    def run_ends(self, scheme, calls):
        print()
        with deaf_port() as port:
            faults = {
                "no reply": self.servers.odd_url(scheme, "hang"),
                "half a reply": self.servers.odd_url(scheme, "half"),
            }
            if scheme == "https":
                faults["no handshake"] = f"https://127.0.0.1:{port}/v1"
            for fault, base_url in faults.items():
                job = {
                    "op": "late",
                    "base_url": base_url,
                    "deadline_s": DEADLINE_S,
                    "threads": END_THREADS,
                    "calls": calls,
                }
                result = self.children[OURS].ask(job)
                self.figures.add((scheme, "ends", fault), result)
                print(ends_line(scheme, fault, result), flush=True)

    def close(self):
        for child in self.children.values():
            child.end()


@contextlib.contextmanager
def deaf_port():
    """Yield a port that takes connections and never says a word, not even of TLS."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield listener.getsockname()[1]


def how_tokens_are_counted():
    counter = tokens.TokenCounter("o200k_base", may_download=False)
    if counter.wait_until_loaded(30):
        return "tokens counted with o200k_base"
    return "tokens ESTIMATED: o200k_base is not in tiktoken's cache (TIKTOKEN_CACHE_DIR)"


def version(package):
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} not installed"


def print_head(servers, rounds):
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    cores = f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores"
    print(
        f"Python {platform.python_version()}, {cores}, load average {loads}; "
        f"server: {servers.kind}; {rounds} rounds, {LARGE_ROUNDS} from {LARGE_THREADS} threads on\n"
        f"{', '.join(map(version, PACKAGES))}; {how_tokens_are_counted()}"
    )
    if servers.authority is None:
        print("no openssl here: no TLS rows")


def parsed():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help=f"only {' '.join(QUICK_ROWS)}")
    parser.add_argument("--rows", nargs="+", metavar="THREADS@MS", help=f"of {' '.join(ROWS)}")
    parser.add_argument("--only", nargs="+", choices=list(CLIENTS))
    parser.add_argument("--schemes", nargs="+", choices=["http", "https"])
    parser.add_argument("--parts", nargs="+", choices=["calls", "streams", "ends"])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--one-core", action="store_true", help="clients and server share one")
    parser.add_argument("--no-nginx", action="store_true", help="use cheap_server.py")
    args = parser.parse_args()
    args.rows = args.rows or (QUICK_ROWS if args.quick else ROWS)
    args.only = args.only or list(CLIENTS)
    args.parts = args.parts or ["calls", "streams", "ends"]
    args.rounds = args.rounds or (3 if args.quick else 5)
    return args


def main():
    args = parsed()
    if args.one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with transport_servers.serving(may_use_nginx=not args.no_nginx) as servers:
        schemes = [one for one in servers.schemes if one in (args.schemes or servers.schemes)]
        if servers.authority is not None:
            # lionlite, httpx and all that is built on it, and the ssl module read it.
            os.environ["SSL_CERT_FILE"] = servers.authority
        print_head(servers, args.rounds)
        bench = Bench(servers, args.only, args.rounds)
        with contextlib.closing(bench):
            for scheme in schemes:
                run_all(bench, scheme, args)
    print("\n" + "\n".join(verdict(bench.figures, schemes)))


def run_all(bench, scheme, args):
    if "calls" in args.parts:
        for row in args.rows:
            bench.run_calls(scheme, row)
    if "streams" in args.parts:
        for kind in STREAMS:
            bench.run_streams(scheme, kind)
    if "ends" in args.parts and OURS in args.only:
        bench.run_ends(scheme, calls=8 if args.quick else 32)


if __name__ == "__main__":
    main()
