"""Reaching a host: name lookup, several addresses, deadlines, cancelling, forks."""

from __future__ import annotations

import os
import socket
import threading

import pytest
from wire_tools import black_hole, cancelled_after, ends_at, in_child, needs_fork

from lionlite.exceptions import ConnectionFailed
from lionlite.service.transport import connect
from lionlite.service.transport.connect import Origin


def reach(host, port):
    return connect.connect(Origin(host, port, is_tls=False))


def names(monkeypatch, *found, error=None):
    """Make every host name mean *found*, or fail with *error*."""

    def getaddrinfo(host, port, **_):
        if error is not None:
            raise error
        return [(family, socket.SOCK_STREAM, 6, "", address) for family, address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_refused_connection_is_a_failure_that_may_pass():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}: Connection refused") as caught:
        reach("127.0.0.1", port)

    assert caught.value.retryable


def test_ipv6_addresses_are_reached():
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listener:
        address = listener.getsockname()[:2]

        with reach(*address) as sock:
            assert sock.getpeername()[:2] == address


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (socket.gaierror(-2, "Name or service not known"), "Cannot find the host 'host.invalid'"),
        (UnicodeError("label too long"), "Cannot find the host .* label too long"),
        (None, "the name has no address"),
    ],
    ids=["unknown", "unspeakable", "no address"],
)
def test_a_host_that_is_not_found_is_a_failure(monkeypatch, error, problem):
    names(monkeypatch, error=error)

    with pytest.raises(ConnectionFailed, match=problem):
        reach("host.invalid", 80)


def test_no_more_threads_for_the_lookup_is_a_failure_and_no_hang(monkeypatch):
    def start(self):
        msg = "can't start new thread"
        raise RuntimeError(msg)

    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", start)
        with pytest.raises(ConnectionFailed, match="can't start new thread"):
            connect.resolve("host.invalid", 80)

    names(monkeypatch, (socket.AF_INET, ("127.0.0.1", 80)))
    assert connect.resolve("host.invalid", 80) == [(socket.AF_INET, ("127.0.0.1", 80))]


def test_an_address_that_fails_gives_way_to_the_next(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener, black_hole() as hole:
        good = listener.getsockname()
        monkeypatch.setattr(connect, "MAX_ADDRESS_S", 0.1)
        names(
            monkeypatch,
            (9_999, ("no such family",)),
            (socket.AF_INET, ("127.0.0.1", hole)),
            (socket.AF_INET, good),
        )

        with reach("three.invalid", 80) as sock:
            assert sock.getpeername() == good


def test_a_lookup_that_hangs_ends_at_the_deadline_and_is_shared(monkeypatch):
    calls, release = [], threading.Event()

    def getaddrinfo(host, port, **_):
        calls.append(host)
        release.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    for _ in range(2):
        with ends_at(0.1, "connect"):
            connect.resolve("slow.invalid", 80)
    with cancelled_after(0.1):
        connect.resolve("slow.invalid", 80)
    release.set()

    assert calls == ["slow.invalid"]


def test_a_black_hole_ends_at_the_deadline():
    with black_hole() as port, ends_at(0.3, "connect"):
        reach("127.0.0.1", port)


def test_a_cancel_wakes_a_connect():
    with black_hole() as port, cancelled_after(0.1):
        reach("127.0.0.1", port)


@needs_fork
def test_a_child_looks_up_for_itself_while_the_parent_hangs(monkeypatch):
    parent, release = os.getpid(), threading.Event()

    def getaddrinfo(host, port, **_):
        if os.getpid() == parent:
            release.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with ends_at(0.05, "connect"):
        connect.resolve("slow.invalid", 80)

    with connect._lookups_lock:
        status = in_child(lambda: len(connect.resolve("slow.invalid", 80)))
    release.set()

    assert status == 1
