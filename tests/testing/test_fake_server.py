"""The server under load, under bad clients, and while it closes."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from lionlite.testing import FakeProvider

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()


def address(provider):
    return "127.0.0.1", urlsplit(provider.base_url).port


def head(length=None, extra=""):
    length = len(BODY) if length is None else length
    return f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {length}\r\n{extra}\r\n".encode()


def talk(provider, *pieces):
    """Send bytes on a connection of its own; return all that comes back."""
    with socket.create_connection(address(provider), timeout=10) as client:
        for piece in pieces:
            client.sendall(piece)
            time.sleep(0.01)  # so that the pieces arrive as pieces
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65_536), b""))


def is_cut(client):
    """Whether the other end is gone; a reset is a client not yet accepted."""
    with client, suppress(ConnectionResetError):
        return client.recv(1) == b""
    return True


def in_threads(count, target):
    threads = [threading.Thread(target=target) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def test_64_clients_see_what_the_log_says():
    statuses = []

    def client():
        connection = http.client.HTTPConnection(*address(provider), timeout=10)
        for _ in range(20):
            connection.request("POST", "/v1/chat/completions", BODY)
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()

    with FakeProvider("x", max_requests=40, interval_s=0.1) as provider:
        in_threads(64, client)
    report = provider.report()

    assert Counter(statuses) == {200: report.accepted, 429: report.refused_429}
    assert len(statuses) == len(provider.requests) == 1280
    assert Counter(r.status for r in provider.requests) == Counter(statuses)
    assert report.highest_requests_in_window <= 40 < report.highest_arrivals_in_window
    assert len({request.client_port for request in provider.requests}) == 64


def test_1000_connections_at_once_are_all_served():
    with FakeProvider("x", keep_bodies=False) as provider:
        clients = [socket.create_connection(address(provider), timeout=30) for _ in range(1000)]
        for client in clients:
            client.sendall(head() + BODY)
        answers = Counter(client.recv(15) for client in clients)
        for client in clients:
            client.close()

    assert answers == {b"HTTP/1.1 200 OK": 1000}


def test_requests_may_come_in_pieces_or_piled_up():
    with FakeProvider(["a", "b", "c"]) as provider:
        request = head() + BODY
        answer = talk(provider, request[:10], request[10:90], request[90:] + request + request[:5])

    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert [request.outcome for request in provider.requests] == ["answered", "answered"]


def test_a_client_that_leaves_early_is_no_request():
    with FakeProvider("x") as provider:
        assert talk(provider) == b""
        assert talk(provider, head()[:20]) == b""
        assert talk(provider, head() + BODY[:10]) == b""

    assert provider.requests == ()


def test_a_client_that_leaves_before_the_reply_harms_nobody(capfd):
    with FakeProvider("x", latency_s=0.1) as provider:
        for _ in range(5):
            client = socket.create_connection(address(provider), timeout=10)
            client.sendall(head() + BODY)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        assert provider.wait_for(5)
        answer = talk(provider, head() + BODY)

    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("extra", ["connection: close\r\n", "Connection:  CLOSE\r\n"])
def test_a_client_may_ask_to_close(extra):
    with FakeProvider("x") as provider:
        answer = talk(provider, head(extra=extra) + BODY + head() + BODY)

    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert b"connection: close" in answer


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (head(length="-5"), 400),
        (head(length="9" * 5000), 413),
        (head(length=10**9), 413),
        (head(extra="transfer-encoding: chunked\r\n"), 411),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000, 431),
    ],
    ids=["no HTTP", "no colon", "length", "long length", "large", "chunked", "large head"],
)
def test_what_cannot_be_read_is_refused_and_closed(sent, status):
    with FakeProvider("x") as provider:
        answer = talk(provider, sent)

    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"connection: close" in answer
    assert provider.requests == ()


def test_closing_cuts_what_waits_and_leaves_no_thread():
    before = set(threading.enumerate())
    provider = FakeProvider("x", latency_s=60.0).start()
    clients = [socket.create_connection(address(provider), timeout=10) for _ in range(50)]
    for client in clients[:40]:
        client.sendall(head() + BODY)  # the other ten say nothing
    assert provider.wait_for(40)

    started_s = time.monotonic()
    provider.close()
    took_s = time.monotonic() - started_s

    assert took_s < 1
    assert all(is_cut(client) for client in clients)
    assert set(threading.enumerate()) <= before
    assert {request.outcome for request in provider.requests} == {"waiting"}


def test_nobody_is_let_in_after_closing():
    provider = FakeProvider("x").start()
    provider.close()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address(provider), timeout=5)


def test_a_reply_may_close_the_provider():
    def reply(body):
        provider.close()
        return "never sent"

    provider = FakeProvider(reply).start()
    started_s = time.monotonic()

    assert talk(provider, head() + BODY) == b""
    assert time.monotonic() - started_s < 1


def test_a_reply_that_never_returns_does_not_hold_up_closing():
    stuck = threading.Event()
    provider = FakeProvider(lambda body: str(stuck.wait(20))).start()
    client = socket.create_connection(address(provider), timeout=10)
    client.sendall(head() + BODY)
    assert provider.wait_for(1)

    started_s = time.monotonic()
    provider.close()
    took_s = time.monotonic() - started_s
    stuck.set()
    client.close()

    assert took_s < 1


def test_an_idle_server_goes_on_accepting():
    with FakeProvider("x") as provider:
        time.sleep(0.25)  # past the timeout of accept()

        assert talk(provider, head() + BODY).startswith(b"HTTP/1.1 200 OK")


def test_it_survives_running_out_of_descriptors(monkeypatch):
    real, failures = socket.socket.accept, [OSError(24, "Too many open files")] * 3

    def accept(listener):
        if failures:
            raise failures.pop()
        return real(listener)

    monkeypatch.setattr(socket.socket, "accept", accept)
    with FakeProvider("x") as provider:
        assert talk(provider, head() + BODY).startswith(b"HTTP/1.1 200 OK")

    assert failures == []
