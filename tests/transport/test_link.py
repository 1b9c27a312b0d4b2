"""A link: waiting with and without poll, what a dead peer and a full pipe look like."""

from __future__ import annotations

import errno
import select
import socket
import threading
import time

import pytest

from lionlite.exceptions import ConnectionFailed, DeadlineExceeded
from lionlite.scope import Scope
from lionlite.service.transport.link import Link, broken


@pytest.fixture(params=["poll", "select"])
def pair(request, monkeypatch):
    """A link, and the other end of its connection."""
    if request.param == "select":
        monkeypatch.delattr(select, "poll")
    ours, theirs = socket.socketpair()
    link = Link(ours)
    with theirs:
        yield link, theirs
    link.close()


def soon(seconds=5.0):
    return time.monotonic() + seconds


def test_what_was_sent_is_received(pair):
    link, theirs = pair
    before = link.has_news()
    theirs.sendall(b"one")

    assert (before, link.has_news(), link.receive(soon())) == (False, True, b"one")


def test_the_end_of_the_other_side_is_news_and_no_bytes(pair):
    link, theirs = pair
    theirs.shutdown(socket.SHUT_WR)

    assert (link.has_news(), link.receive(soon())) == (True, b"")


def test_waiting_ends_at_its_instant(pair):
    link, _ = pair
    for wait in (link.receive, lambda end_s: link.send(memoryview(bytes(50_000_000)), end_s)):
        began_s = time.monotonic()
        with pytest.raises(TimeoutError):
            wait(soon(0.1))
        assert 0.1 <= time.monotonic() - began_s < 0.6


def test_more_than_the_pipe_holds_is_sent_as_it_is_taken(pair):
    link, theirs = pair
    taken = []

    def take():
        while sum(map(len, taken)) < 5_000_000:
            taken.append(theirs.recv(1 << 20))

    taker = threading.Thread(target=take)
    taker.start()
    link.send(memoryview(bytes(5_000_000)), soon(20))
    taker.join(10)

    assert sum(map(len, taken)) == 5_000_000


def test_a_wait_without_end_goes_on_until_there_is_something(pair):
    link, theirs = pair
    timer = threading.Timer(0.1, theirs.sendall, [b"late"])
    timer.start()

    assert link.receive(float("inf")) == b"late"
    timer.join()


def test_a_peer_found_dead_by_keepalive_is_a_failure_and_not_our_deadline():
    """Both are a TimeoutError to Python; the system's has a number."""
    dead = TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    failure = broken(dead, "read", Scope())

    assert isinstance(failure, ConnectionFailed)
    with pytest.raises(DeadlineExceeded):
        broken(TimeoutError(), "read", Scope(ends_at_s=time.monotonic() - 1))
