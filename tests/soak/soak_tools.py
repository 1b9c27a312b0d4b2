"""A strict provider and its clients, each in a process of its own.

    python soak_tools.py serve '{...}'    FakeProvider until standard input ends; then its log
    python soak_tools.py chat '{...}'     a job of chats; then what became of it

The log is the judge: every arrival with its instant on the machine's one
monotonic clock, whether it was let in, and what it was charged.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import attrs
from starvation import Watch, starved_for

from lionlite import Services, Session
from lionlite.testing import FakeProvider, Fault

CHARGES = ["estimate", "adjust", "usage"]
INTERVAL_S = 5.0
MAX_REQUESTS = 100
SMALL, LARGE = 20, 380
"""Tokens that an answer is capped at; each uses half of them."""

PROMPT_CHARS = 40
"""All prompts are equally long, so that no lesson makes a reservation too small."""


def max_tokens_for(charge):
    """Return a limit that 100 small calls keep far below, and the job fills three times over."""
    return 12_000 if charge == "estimate" else 6_800


def caps_of_job():
    """Return the caps of calls that fill the requests first, then requests and tokens."""
    mixed = [SMALL] * 40 + [LARGE] * 80
    random.Random(7).shuffle(mixed)
    return [SMALL] * 120 + mixed


# The provider -------------------------------------------------------------------------


@attrs.define
class Server:
    """A provider that runs; *log* and *report* are filled when it has ended."""

    base_url: str
    report: dict = attrs.field(factory=dict)
    log: list = attrs.field(factory=list)

    def service(self, **options):
        return Services.Compatible(
            base_url=self.base_url, model="m", token_encoding_name="estimate", **options
        )

    def limited_service(self, charge):
        return self.service(
            max_requests=MAX_REQUESTS,
            max_tokens=max_tokens_for(charge),
            interval=INTERVAL_S,
            charge=charge,
        )


@contextmanager
def server_of(**settings):
    """Run `FakeProvider(**settings)`; *outage* is of (after, seconds, retry_after_s)."""
    with spawned("serve", settings, stdin=subprocess.PIPE) as process:
        server = Server(process.stdout.readline().strip())
        assert server.base_url.startswith("http://")
        yield server
        process.stdin.close()
        said = json.loads(process.stdout.read())
        server.report, server.log = said["report"], said["log"]
        starved_for(said["starved_s"])


def limited_server(charge, latency_s=0.02):
    return server_of(
        max_requests=MAX_REQUESTS,
        max_tokens=max_tokens_for(charge),
        interval_s=INTERVAL_S,
        charge=charge,
        latency_s=latency_s,
    )


@contextmanager
def spawned(role, settings, **options):
    command = [sys.executable, str(Path(__file__)), role, json.dumps(settings)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, **options)
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def serve(settings):
    outage = settings.pop("outage", None)
    reply = answer if outage is None else Outage(*outage)
    with Watch() as watch, FakeProvider(reply, keep_bodies=False, **settings) as provider:
        tell(provider.base_url)
        sys.stdin.read()
    log = [attrs.asdict(request) for request in provider.requests]
    report = attrs.asdict(provider.report())
    tell(json.dumps({"report": report, "log": log, "starved_s": watch.worst_s}))


def answer(body):
    number, cap = body["messages"][-1]["content"].split()
    return number.ljust(4 * (int(cap) // 2), ".")


class Outage:
    """After some calls, refuses everybody for a while, and asks for a pause."""

    def __init__(self, after, seconds, retry_after_s):
        self.after, self.seconds = after, seconds
        self.refusal = Fault.status(429, headers={"retry-after": str(retry_after_s)})
        self.serials = itertools.count()
        self.lock = threading.Lock()  # guards ends_s
        self.ends_s = None

    def __call__(self, body):
        with self.lock:
            if self.ends_s is None and next(self.serials) >= self.after:
                self.ends_s = time.monotonic() + self.seconds
            is_over = self.ends_s is None or time.monotonic() >= self.ends_s
        return answer(body) if is_over else self.refusal


# The clients ---------------------------------------------------------------------------


def chat(service, number, cap):
    """Say *number* in a session of its own; return whether the answer is right."""
    prompt = f"{number} {cap}".ljust(PROMPT_CHARS)
    said = Session(service=service).chat(prompt, max_tokens=cap)
    return said == answer({"messages": [{"content": prompt}]})


def chat_all(service, caps, threads):
    """Make a chat for each cap, *threads* at a time; return how many were not right."""
    with ThreadPoolExecutor(threads) as pool:
        rights = pool.map(lambda job: chat(service, *job), enumerate(caps))
        return sum(not right for right in rights)


def run_client(settings):
    server = Server(settings["base_url"])
    with server.limited_service(settings["charge"]) as service:
        wrong = chat_all(service, caps_of_job(), settings["threads"])
        stats = service.stats()
    tell(json.dumps({"wrong": wrong, "calls": stats.calls, "rate_limited": stats.rate_limited}))


# The verdict -----------------------------------------------------------------------------


def say(what, report):
    """Tell the figures of a run; `pytest -rP` shows them."""
    tell(
        f"{what}: {report['accepted']} accepted, {report['refused_429']} x 429; in a window at "
        f"most {report['highest_arrivals_in_window']} arrivals, "
        f"{report['highest_requests_in_window']} of {report['max_requests']} requests, "
        f"{report['highest_tokens_in_window']} of {report['max_tokens']} tokens; "
        f"{windows_of(report):.2f} windows"
    )


def windows_of(report):
    return (report["last_s"] - report["first_s"]) / report["interval_s"]


def tell(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    {"serve": serve, "chat": run_client}[sys.argv[1]](json.loads(sys.argv[2]))

