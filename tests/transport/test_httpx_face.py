"""Our connections under a plain httpx.Client: requests, replies, timeouts and errors of httpx."""

from __future__ import annotations

import subprocess
import sys
import threading
import traceback

import httpx
import pytest
from wire_tools import RawServer, black_hole, drip, echo, hang, once

from lionlite.exceptions import Cancelled, ConfigError
from lionlite.scope import cancellable, deadline
from lionlite.service.transport import face
from lionlite.service.transport.face import Transport

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def client(**how):
    return httpx.Client(transport=Transport(), trust_env=False, **how)


def url(server, path="/"):
    return f"http://127.0.0.1:{server.port}{path}"


def reads(sock):
    """Read one request with Content-Length or none; return its bytes."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65_536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields.get(b"content-length", 0)):
        body += sock.recv(65_536)
    return head + b"\r\n\r\n" + body


def mirror(sock, number):
    """Answer each request with itself."""
    while (wire := reads(sock)) is not None:
        body = b"" if wire.startswith(b"HEAD") else wire
        sock.sendall(b"HTTP/1.1 200 Fine\r\nContent-Length: %d\r\n\r\n%b" % (len(wire), body))


def test_requests_of_every_kind_go_over_one_connection():
    with RawServer(mirror) as server, client() as web:
        got = web.get(url(server, "/a?b=c d"), headers={"X-Y": "z"})
        posted = web.post(url(server), json={"a": 1})
        streamed = web.post(url(server), content=iter([b"one", b"two"]))
        empty = web.post(url(server))

        assert got.text.startswith("GET /a?b=c%20d HTTP/1.1\r\nHost: 127.0.0.1:")
        assert "X-Y: z\r\n" in got.text
        assert "Content-Length" not in got.text
        assert posted.text.endswith('Content-Length: 7\r\n\r\n{"a":1}')
        assert streamed.text.endswith("Content-Length: 6\r\n\r\nonetwo")
        assert "ransfer-" not in streamed.text
        assert empty.text.endswith("Content-Length: 0\r\n\r\n")
        assert len(server.accepted) == 1


def test_the_reply_is_httpx_s_own_with_all_its_parts():
    reply = (
        b"HTTP/1.0 404 Not Here\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-E:\r\n"
        b"Content-Encoding: deflate\r\n\r\nxyz"
    )
    with RawServer(once(reply)) as server, client() as web:
        request = web.build_request(
            "POST", url(server), content=b"", headers={"Content-Length": "0"}
        )
        response = web.send(request, stream=True)

        assert (response.status_code, response.reason_phrase) == (404, "Not Here")
        assert response.http_version == "HTTP/1.0"
        assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
        assert response.headers["x-e"] == ""
        assert b"".join(response.iter_raw()) == b"xyz"
        assert dict(web.cookies) == {"a": "1", "b": "2"}


def test_a_head_request_has_no_body_to_wait_for():
    with RawServer(mirror) as server, client(timeout=5) as web:
        response = web.head(url(server))

        assert (response.status_code, response.content) == (200, b"")


def test_a_stream_left_early_closes_its_connection():
    with RawServer(drip(CHUNKED, b"1\r\nx\r\n")) as server, client() as web:
        with web.stream("POST", url(server), content=b"") as response:
            assert next(response.iter_bytes()).startswith(b"x")

        assert response.is_closed


def test_idle_connections_are_bounded():
    together = threading.Barrier(6)

    def serve(sock, number):
        while reads(sock) is not None:
            together.wait(10)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    transport = Transport(max_idle=2)
    with RawServer(serve) as server, httpx.Client(transport=transport) as web:
        threads = [threading.Thread(target=web.get, args=(url(server),)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        (pool,) = transport._pools.values()
        assert pool.idle_count == 2


@pytest.mark.parametrize(
    ("serve", "error"),
    [
        (once(), httpx.RemoteProtocolError),
        (once(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"), httpx.RemoteProtocolError),
        (once(b"<html>"), httpx.RemoteProtocolError),
        (once(reset=True), httpx.ReadError),
        (once(CHUNKED, reset=True), httpx.ReadError),
    ],
    ids=["closed", "short", "HTML", "reset", "reset in the body"],
)
def test_what_breaks_is_an_error_of_httpx(serve, error):
    with RawServer(serve) as server, client() as web, pytest.raises(error) as caught:
        web.post(url(server), content=b"{}")

    assert caught.value.request.method == "POST"


def test_a_refused_connection_is_a_connect_error():
    with RawServer(echo) as server:
        pass
    with client() as web, pytest.raises(httpx.ConnectError, match="Connection refused"):
        web.get(url(server))


@pytest.mark.parametrize(
    ("timeout", "serve", "error"),
    [
        (httpx.Timeout(None, read=0.2), hang, httpx.ReadTimeout),
        (
            httpx.Timeout(None, write=0.2),
            lambda sock, number: threading.Event().wait(20),
            httpx.WriteTimeout,
        ),
    ],
    ids=["read", "write"],
)
def test_the_timeouts_of_httpx_hold(timeout, serve, error):
    with RawServer(serve) as server, client(timeout=timeout) as web, pytest.raises(error):
        web.post(url(server), content=b"x" * 30_000_000)


def test_the_connect_timeout_of_httpx_holds():
    with black_hole() as port, client(timeout=httpx.Timeout(None, connect=0.2)) as web:
        with pytest.raises(httpx.ConnectTimeout):
            web.get(f"http://127.0.0.1:{port}/")


def test_a_deadline_around_it_bounds_what_httpx_cannot():
    """httpx's own timeout is one for each read, so a server that drips holds it for ever."""
    with RawServer(drip(CHUNKED, b"1\r\nx\r\n")) as server, client(timeout=30) as web:
        with deadline(0.3), pytest.raises(httpx.ReadTimeout):
            web.post(url(server), content=b"{}")


def test_a_cancel_stays_our_own_error():
    with RawServer(hang) as server, client() as web, cancellable() as token:
        timer = threading.Timer(0.1, token.cancel)
        timer.start()
        with pytest.raises(Cancelled):
            web.post(url(server), content=b"{}")
        timer.join()


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "sk-CANARY\r\nEvil: 1"},
        {"X": "sk-CANARY\n"},
        {"X": "sk-CANARY\x00"},
        {"X sk-CANARY": ""},
    ],
    ids=["CRLF", "LF", "NUL", "name"],
)
def test_a_header_that_would_break_the_request_is_refused_unseen(headers):
    with client() as web, pytest.raises(httpx.LocalProtocolError) as caught:
        web.get("http://127.0.0.1:9/", headers=headers)

    own = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "CANARY" not in str(caught.value)
    assert "_message" not in own


@pytest.mark.parametrize("address", ["ftp://h/", "http:///x", "unix://h"])
def test_other_schemes_are_refused(address):
    with client() as web, pytest.raises(httpx.UnsupportedProtocol):
        web.get(address)


def test_a_body_past_the_cap_or_asynchronous_is_refused(monkeypatch):
    async def later():
        yield b""

    monkeypatch.setattr(face, "MAX_REQUEST_BYTES", 10)
    with client() as web:
        with pytest.raises(httpx.LocalProtocolError, match="longer than 10 bytes"):
            web.post("http://127.0.0.1:9/", content=iter([b"x" * 11]))
    with Transport() as transport:
        with pytest.raises(httpx.LocalProtocolError, match="asynchronous"):
            transport.handle_request(httpx.Request("POST", "http://127.0.0.1:9/", content=later()))


@pytest.mark.parametrize("max_idle", [0, -1, "2", None])
def test_max_idle_must_be_a_number_of_connections(max_idle):
    with pytest.raises(ConfigError, match="max_idle="):
        Transport(max_idle=max_idle)


def test_importing_lionlite_imports_no_httpx():
    code = "import lionlite.service.service, sys; print('httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
