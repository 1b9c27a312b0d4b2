"""What the tests of the stores share: a hand-moved clock, a shelf in memory, a Redis of our own."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager, suppress

import pytest

from lionlite.limits.stores.book import Book
from lionlite.limits.stores.head import Head
from lionlite.limits.stores.opening import open_store
from lionlite.limits.stores.protocol import Deed

REDIS_URL = os.environ.get("LIONLITE_TEST_REDIS", "redis://127.0.0.1:6379/0")

_names = itertools.count()


def fresh_name():
    """Return a budget's name that nobody else uses, in whatever process."""
    return f"test-{os.getpid()}-{next(_names)}-{time.monotonic_ns()}"


class Clock:
    """Microseconds that stand still until a test moves them."""

    def __init__(self, now=1_000_000_000):
        self.now = now

    def __call__(self):
        return self.now


class MemoryShelf:
    """Slots and entries in dicts."""

    def __init__(self):
        self.rates = {}
        self.kept = {}

    def slots(self, rate):
        return sorted(self.rates.get(rate, {}).items())

    def add(self, rate, slot, units):
        slots = self.rates.setdefault(rate, {})
        slots[slot] = slots.get(slot, 0) + units

    def drop_before(self, rate, slot):
        slots = self.rates.get(rate, {})
        return sum(slots.pop(one) for one in [one for one in slots if one < slot])

    def entry(self, name):
        return self.kept.get(name)

    def put(self, name, entry):
        self.kept[name] = entry

    def drop(self, name):
        self.kept.pop(name, None)

    def entries(self):
        return sorted(self.kept.items())


class MemoryBudget:
    """One budget without any store: each verb is a transaction on dicts."""

    def __init__(self, terms, clock):
        self.terms = terms
        self.clock = clock
        self.shelf = MemoryShelf()
        self.head = Head(text=terms.text, epoch="e", used=[0] * len(terms.rates))

    def do(self, verb, *args):
        book = Book(self.terms, self.head, self.shelf, self.clock())
        return getattr(book, verb)(*args)


class Asker:
    """Does verbs on one budget of a store, as one member would."""

    def __init__(self, store, terms, budget="b"):
        self.store = store
        self.terms = terms
        self.budget = budget
        self.epoch = ""
        self.version = 0

    def do(self, verb, *args):
        deed = Deed(self.budget, self.terms, self.epoch, self.version, verb, args)
        answer = self.store.trip(deed, 5.0)
        if len(answer) > 2:
            self.epoch, self.version = answer[1], answer[2]
        return answer

    def enter(self, fresh, lost=None, owed=None, known=("", 0)):
        nothing = (0,) * len(self.terms.rates)
        return self.do("enter", fresh, *known, lost or nothing, owed or nothing)


def redis_or_skip(url=REDIS_URL):
    """Return the address of a Redis server that answers, or skip the test."""
    redis = pytest.importorskip("redis")
    client = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
    try:
        client.ping()
    except redis.RedisError as exc:
        pytest.skip(f"no Redis at {url} (set LIONLITE_TEST_REDIS): {type(exc).__name__}")
    finally:
        client.close()
    return url


class OwnRedis:
    """A Redis server on a free port that the test may stop and start."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process = None

    def start(self):
        command = [
            *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--save", "", "--dir", str(self.folder)),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until_s = time.monotonic() + 10
        while time.monotonic() < until_s:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError("redis-server did not start")

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def own_redis(folder):
    """Run a Redis server for one test, or skip the test."""
    pytest.importorskip("redis")
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = OwnRedis(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def store_at(url, clock=None):
    """Return the store at *url*, on *clock* if there is one."""
    store = open_store(url)
    if clock is not None:
        store._clock = clock
    return store
