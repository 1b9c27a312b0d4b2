"""A client of the user's as the way: httpx and httpx2, best effort, and no key in any error."""

from __future__ import annotations

import gzip
import re
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from wire_tools import (
    Milestones,
    RawServer,
    drip,
    echo,
    exchange,
    hang,
    once,
    opened,
    receive,
    request,
    wait_until,
)

from lionlite.exceptions import (
    Cancelled,
    ConfigError,
    ConnectionFailed,
    DeadlineExceeded,
    ResponseError,
    ResponseTooLarge,
)
from lionlite.scope import cancellable, deadline
from lionlite.service.secret import Secret
from lionlite.service.transport import streamed
from lionlite.service.transport.connect import Origin
from lionlite.service.transport.way import way_to

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
KEY = "sk-CANARY-51c0"
WITH_KEY = memoryview(
    b"POST /v1/x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n"
    b"Accept-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}"
)


@pytest.fixture(params=["httpx", "httpx2"])
def web(request):
    """The package of the client."""
    return pytest.importorskip(request.param)


def way(server, client):
    origin = Origin("127.0.0.1", server.port, is_tls=False)
    return way_to(origin, proxy=None, http_client=client, env={})


def test_calls_and_streams_go_through_the_clients_connections(web):
    with RawServer(echo) as server, web.Client() as client:
        through, milestones = way(server, client), Milestones()

        replies = [through.exchange(request(), milestones) for _ in range(2)]
        streamed_body = b"".join(opened(through).chunks())
        through.close()

        assert [(reply.status, reply.body) for reply in replies] == [(200, b"01")] * 2
        assert replies[0].headers == {"content-length": "2"}
        assert (streamed_body, len(server.accepted)) == (b"01", 1)
        assert (milestones.seen, through.idle_count) == (["sent", "replied"] * 2, 0)
        assert not client.is_closed


def test_the_clients_own_headers_and_auth_do_not_override_ours(web):
    seen = []

    def serve(sock, number):
        seen.append(sock.recv(65_536).lower())
        sock.sendall(b"HTTP/1.1 307 Go\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n")

    headers = {"Authorization": "Bearer other", "Accept-Encoding": "br", "X-Own": "1"}
    with RawServer(serve) as server:
        client = web.Client(headers=headers, auth=("me", "other"), follow_redirects=True)
        with client:
            reply = way(server, client).exchange(WITH_KEY, Milestones())

    (wire,) = seen
    assert reply.status == 307
    assert wire.startswith(b"post /v1/x http/1.1\r\n")
    assert f"\r\nauthorization: bearer {KEY.lower()}\r\n".encode() in wire
    assert b"\r\naccept-encoding: identity\r\n" in wire
    assert b"\r\nx-own: 1\r\n" in wire
    assert b"other" not in wire


@pytest.mark.parametrize(
    "client", [object(), httpx, httpx.Client, httpx.AsyncClient(), "client", 7], ids=repr
)
def test_a_client_of_another_kind_is_refused(client):
    with pytest.raises(ConfigError, match=r"http_client= takes an httpx\.Client or httpx2"):
        way_to(Origin("h", 443, is_tls=True), proxy=None, http_client=client, env={})


def test_a_client_and_a_proxy_exclude_each_other():
    with httpx.Client() as client, pytest.raises(ConfigError, match="exclude each other") as caught:
        proxy = Secret("http://u:CANARY@p")
        way_to(Origin("h", 443, is_tls=True), proxy=proxy, http_client=client, env={})

    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("serve", "error", "problem"),
    [
        (once(), ConnectionFailed, r"http_client failed: RemoteProtocolError"),
        (once(reset=True), ConnectionFailed, r"ReadError \(Connection reset by peer\)"),
        (once(CHUNKED + b"2\r\nab\r\n"), ConnectionFailed, "RemoteProtocolError"),
        (
            once(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\nx"),
            ResponseError,
            "encoded as 'br'",
        ),
    ],
    ids=["closed", "reset", "cut", "coding"],
)
def test_what_fails_in_the_client_is_an_error_of_ours(web, serve, error, problem):
    with RawServer(serve) as server, web.Client() as client:
        # In a thread of its own: in the main one a test that raises out of a tracer may
        # have left an error behind (CPython 3.11), which would be the context of ours.
        with ThreadPoolExecutor(1) as pool:
            raised = pool.submit(exchange, way(server, client), WITH_KEY).exception(30)

    assert type(raised) is error
    assert re.search(problem, str(raised))
    assert raised.retryable
    frames = traceback.TracebackException.from_exception(raised, capture_locals=True)
    assert KEY not in "".join(frames.format())
    assert raised.__context__ is None


def test_a_refused_connection_may_pass(web):
    with RawServer(echo) as server:
        pass
    with (
        web.Client() as client,
        pytest.raises(ConnectionFailed, match="Connection refused") as caught,
    ):
        exchange(way(server, client))

    assert caught.value.retryable


def test_a_hook_that_fails_is_an_error_of_ours_that_does_not_pass(web):
    def hook(_):
        raise ValueError(KEY)

    with RawServer(echo) as server, web.Client(event_hooks={"request": [hook]}) as client:
        milestones = Milestones()
        with pytest.raises(ConnectionFailed, match="http_client failed: ValueError") as caught:
            way(server, client).exchange(request(), milestones)

    assert (caught.value.retryable, milestones.seen) == (False, ["sent"])
    assert KEY not in str(caught.value)


def test_caps_hold_and_gzip_is_read(web, monkeypatch):
    monkeypatch.setattr(streamed, "MAX_BODY_BYTES", 10_000)

    def serve(sock, number):
        for count in (10_000, 10_001):
            receive(sock)
            body = gzip.compress(bytes(count))
            head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
            sock.sendall(head % len(body) + body)

    with RawServer(serve) as server, web.Client() as client:
        through = way(server, client)

        assert exchange(through) == bytes(10_000)
        with pytest.raises(ResponseTooLarge):
            exchange(through)


def test_the_deadline_is_the_clients_timeout(web):
    with RawServer(hang) as server, web.Client(timeout=None) as client:
        began_s = time.monotonic()
        with deadline(0.3), pytest.raises(DeadlineExceeded) as caught:
            exchange(way(server, client))

        assert (caught.value.phase, time.monotonic() - began_s < 0.9) == ("read", True)


def test_a_drip_ends_at_the_deadline_between_pieces(web):
    with RawServer(drip(CHUNKED, b"1\r\nx\r\n")) as server, web.Client() as client:
        began_s = time.monotonic()
        with deadline(0.3), pytest.raises(DeadlineExceeded):
            exchange(way(server, client))

        assert time.monotonic() - began_s < 0.9


def test_silence_longer_than_idle_s_ends_the_stream(web):
    with RawServer(hang) as server, web.Client() as client:
        with deadline(30), pytest.raises(DeadlineExceeded, match=r"sent nothing for 0\.2 s"):
            opened(way(server, client), idle_s=0.2)


def test_a_cancel_is_noticed_between_pieces(web):
    with RawServer(drip(CHUNKED, b"1\r\nx\r\n")) as server, web.Client() as client:
        with cancellable() as token:
            chunks = opened(way(server, client)).chunks()
            timer = threading.Timer(0.1, token.cancel)
            timer.start()
        with pytest.raises(Cancelled):
            list(chunks)
        timer.join()


@pytest.mark.parametrize("is_dropped", [False, True], ids=["closed", "dropped"])
def test_a_stream_left_early_stops_the_provider(web, is_dropped):
    seen = []

    def serve(sock, number):
        receive(sock)
        sock.sendall(CHUNKED + b"1\r\nx\r\n")
        seen.append(sock.recv(1))

    with RawServer(serve) as server, web.Client() as client:
        through = way(server, client)
        reply = opened(through)
        if is_dropped:
            del reply
            through.close()
        else:
            reply.close()

        wait_until(lambda: seen == [b""])
