"""A process that is a member of a shared budget: python member.py '{"store": ...}'

Not a test: test_processes.py starts it. It prints "ready", waits for a line on
its standard input, and prints what it did as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from lionlite import scope
from lionlite.exceptions import LionError
from lionlite.limits.rates import Rate
from lionlite.limits.shared import SharedLimiter
from lionlite.service.address import parse_base_url
from lionlite.service.transport.connections import Connections

BODY = json.dumps(
    {"model": "m", "max_tokens": 60, "messages": [{"role": "user", "content": "x" * 40}]}
).encode()
ESTIMATE = 17 + 60  # as the fake provider counts BODY: 40 / 4 + 4 + 3, and max_tokens


class Quiet:
    """Wants to know nothing of an exchange."""

    def sent(self):
        pass

    replied = sent


class Noted:
    """Notes when the request had left, before the reservation is told."""

    def __init__(self, reservation, sent_s):
        self.reservation, self.sent_s = reservation, sent_s

    def sent(self):
        self.sent_s.append(time.monotonic())
        self.reservation.sent()

    def replied(self):
        self.reservation.replied()


class Provider:
    """The way to a fake provider; without one, calls are answered at once."""

    def __init__(self, base_url):
        self.address = parse_base_url(base_url) if base_url else None
        if self.address:
            self.connections = Connections(self.address.origin)

    def call(self, milestones):
        if self.address is None:
            milestones.sent()
            time.sleep(0.002)
            milestones.replied()
            return 200, {}
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self.address.host_header}\r\n"
        reply = self._exchange(f"{head}Content-Length: {len(BODY)}\r\n\r\n", milestones, BODY)
        used = json.loads(reply.body).get("usage", {}).get("total_tokens")
        return reply.status, {"tokens": used} if used else {}

    def warm(self):
        """Open a connection: what a server's threads take to start is not the budget's."""
        if self.address is not None:
            head = f"GET /v1/models HTTP/1.1\r\nHost: {self.address.host_header}\r\n\r\n"
            self._exchange(head, Quiet(), b"")

    def _exchange(self, head, milestones, body):
        return self.connections.exchange(memoryview(head.encode() + body), milestones)


def limiter_of(options):
    return SharedLimiter(
        {name: [Rate(*rate) for rate in rates] for name, rates in options["limits"].items()},
        store=options["store"],
        budget=options["budget"],
        charge=options.get("charge", "estimate"),
    )


def saturate(options):
    """Call without a pause from several threads until time is up."""
    limiter, provider = limiter_of(options), Provider(options.get("provider"))
    threads = options.get("threads", 8)
    together = threading.Barrier(threads + 1)
    sent_s, statuses, errors = [], [], []

    def loop():
        together.wait()
        provider.warm()
        together.wait()
        together.wait()
        while True:
            try:
                reservation = limiter.reserve({"requests": 1, "tokens": ESTIMATE})
            except LionError as error:
                errors.append(type(error).__name__)
                return
            with reservation:
                status, actual = provider.call(Noted(reservation, sent_s))
                statuses.append(status)
                if status == 200:
                    reservation.settle(actual)
                else:
                    limiter.refused(reservation)

    for _ in range(threads):
        threading.Thread(target=loop, daemon=True).start()
    together.wait()
    together.wait()
    ready()
    together.wait()
    time.sleep(options["seconds"])
    limiter.close()
    time.sleep(0.2)
    return {"sent_s": sent_s, "statuses": statuses, "errors": errors}


def hold(options):
    """Take everything with a deadline, send nothing, and wait to be killed."""
    limiter = limiter_of(options)
    with scope.deadline(options["lease_s"]):
        held = limiter.reserve({"requests": options["limits"]["requests"][0][0]})
    ready()
    time.sleep(60)
    return {"held": held.costs}


def ready():
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    chosen = json.loads(sys.argv[1])
    work = {"saturate": saturate, "hold": hold}[chosen["work"]]
    print(json.dumps(work(chosen)), flush=True)
