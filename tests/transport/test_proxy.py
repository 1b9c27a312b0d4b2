"""Through proxies: which one, tunnels with TLS in them, who we are there, how it fails."""

from __future__ import annotations

import contextlib
import os
import threading
import traceback

import pytest
from proxy_tools import PASSWORD, ProxyServer, over_tls, server_context
from wire_tools import (
    RawServer,
    black_hole,
    cancelled_after,
    drip,
    echo,
    ends_at,
    exchange,
    hang,
    once,
    opened,
    receive,
    request,
    wait_until,
)

from lionlite.exceptions import ConfigError, ConnectionFailed, ResponseTooLarge
from lionlite.scope import deadline
from lionlite.service.secret import Secret
from lionlite.service.transport.connect import Origin
from lionlite.service.transport.proxy import Proxy, proxy_from, proxy_in
from lionlite.service.transport.way import way_to

FAR = Origin("far.example", 443, is_tls=True)


def way(server, proxy, *, is_tls=False, host="127.0.0.1"):
    return way_to(Origin(host, server.port, is_tls), proxy=Secret(proxy), http_client=None, env={})


@pytest.fixture
def tls_server(certificates, trusted):
    """Echoes behind TLS."""
    with RawServer(over_tls(echo, server_context(certificates, "here"))) as server:
        yield server


# Which one --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://p", Proxy(Origin("p", 80, is_tls=False))),
        ("p.example:3128", Proxy(Origin("p.example", 3128, is_tls=False))),
        (" https://P:8443/ ", Proxy(Origin("p", 8443, is_tls=True))),
        ("socks5://[::1]", Proxy(Origin("::1", 1080, is_tls=False), is_socks=True)),
        (
            "socks5h://u%40x:p%3Aw@p:1",
            Proxy(Origin("p", 1, is_tls=False), is_socks=True, user="u@x", password="p:w"),
        ),
    ],
)
def test_a_proxy_is_read_from_its_url(url, proxy):
    assert proxy_from(url, name="proxy=") == proxy


@pytest.mark.parametrize(
    "url",
    ["", " ", "http://", "ftp://u:CANARY@p", "http://p:0", "http://u:CANARY@p:99999", "http://p/x",
     "http://u:CANARY@p?q", "http://u:CANARY@p\r\nX: y", "http://[u:CANARY", "socks4://p", 7, None],
)  # fmt: skip
def test_what_is_no_proxy_is_refused_and_not_shown(url):
    with pytest.raises(ConfigError, match="proxy= takes a proxy such as") as caught:
        proxy_from(url, name="proxy=")

    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [
        frame
        for frame in frames.stack
        if frame.name != test_what_is_no_proxy_is_refused_and_not_shown.__name__
    ]
    assert "CANARY" not in f"{caught.value} {[frame.locals for frame in ours]}"


def test_a_proxy_shows_no_password():
    proxy = proxy_from("http://u:CANARY@p", name="proxy=")

    assert "CANARY" not in f"{proxy!r} {proxy} {proxy.authorization} {proxy.socks_login}"


@pytest.mark.parametrize(
    ("env", "host"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://up"}, "up"),
        ({"HTTPS_PROXY": "http://up", "https_proxy": "http://low"}, "low"),
        ({"ALL_PROXY": "socks5://all"}, "all"),
        ({"ALL_PROXY": "socks5://all", "HTTPS_PROXY": "http://up"}, "up"),
        ({"HTTP_PROXY": "http://plain", "http_proxy": "http://plain"}, None),
        ({"HTTPS_PROXY": " "}, None),
        ({"HTTPS_PROXY": "http://up", "NO_PROXY": "far.example"}, None),
        ({"HTTPS_PROXY": "http://up", "NO_PROXY": "FAR.example, x"}, None),
        ({"HTTPS_PROXY": "http://up", "NO_PROXY": "example"}, None),
        ({"HTTPS_PROXY": "http://up", "NO_PROXY": ".example"}, None),
        ({"HTTPS_PROXY": "http://up", "NO_PROXY": "*.example"}, None),
        ({"HTTPS_PROXY": "http://up", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://up", "NO_PROXY": "far.example:443"}, None),
        ({"HTTPS_PROXY": "http://up", "NO_PROXY": "far.example:80"}, "up"),
        ({"HTTPS_PROXY": "http://up", "NO_PROXY": "ar.example xample"}, "up"),
        ({"HTTPS_PROXY": "http://up", "NO_PROXY": "10.0.0.0/8,,."}, "up"),
        ({"HTTPS_PROXY": "http://up", "NO_PROXY": "far.example", "no_proxy": ""}, "up"),
    ],
    ids=str,
)
def test_the_environment_names_the_proxy(env, host):
    proxy = proxy_in(env, FAR)

    assert (proxy and proxy.origin.host) == host


@pytest.mark.parametrize(
    ("host", "no_proxy", "is_used"),
    [
        ("10.1.2.3", "10.0.0.0/8", False),
        ("11.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", False),
        ("2001:db8::1", "[2001:db8::1]:443", False),
        ("2001:db8::1", "2001:db8::/32", False),
        ("2001:db8::1", "[2001:db8::1]:80", True),
        ("127.0.0.1", "", False),
        ("127.9.9.9", "", False),
        ("::1", "", False),
        ("localhost", "", False),
        ("api.localhost", "", False),
        ("localhost.example", "", True),
    ],
)
def test_addresses_networks_and_this_machine_are_excepted(host, no_proxy, is_used):
    env = {"HTTPS_PROXY": "http://up", "NO_PROXY": no_proxy}

    assert (proxy_in(env, Origin(host, 443, is_tls=True)) is not None) == is_used


def test_a_request_in_clear_text_goes_where_no_variable_points():
    env = {"HTTPS_PROXY": "http://up", "ALL_PROXY": "http://all", "HTTP_PROXY": "http://plain"}

    assert proxy_in(env, Origin("far.example", 80, is_tls=False)) is None


def test_a_variable_that_holds_no_proxy_is_named():
    with pytest.raises(ConfigError, match="HTTPS_PROXY takes a proxy"):
        way_to(FAR, proxy=None, http_client=None, env={"HTTPS_PROXY": "http://u:CANARY@"})


# Through it -------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("wants_login", [True, False], ids=["login", "open"])
def test_a_plain_request_goes_through_and_its_connection_is_kept(scheme, wants_login):
    with RawServer(echo) as server, ProxyServer(wants_login=wants_login) as proxy:
        through = way(server, proxy.url(scheme, **({} if wants_login else {"login": ""})))

        bodies = [exchange(through) for _ in range(3)]
        streamed = b"".join(opened(through).chunks())

        assert (bodies, streamed, through.idle_count) == ([b"01"] * 3, b"01", 1)
        assert proxy.asked == [("127.0.0.1", server.port)]
        through.close()
        assert through.idle_count == 0


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
def test_tls_goes_through_a_tunnel(certificates, tls_server, scheme):
    context = server_context(certificates, "here") if scheme == "https" else None
    with ProxyServer(context=context, names={"localhost": "127.0.0.1"}) as proxy:
        through = way(tls_server, proxy.url(scheme), is_tls=True, host="localhost")

        bodies = [exchange(through) for _ in range(3)]
        streamed = b"".join(opened(through).chunks())

        assert (bodies, streamed, through.idle_count) == ([b"01"] * 3, b"01", 1)
        # The proxy looks the name up.
        assert proxy.asked == [("localhost", tls_server.port)]
        through.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_large_bodies_go_through_a_tunnel_both_ways(certificates, trusted, scheme):
    size = 5_000_000

    def serve(sock, number):
        while (body := receive(sock)) is not None:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    context = server_context(certificates, "here")
    body = os.urandom(size)
    with (
        RawServer(over_tls(serve, context)) as server,
        ProxyServer(context=context if scheme == "https" else None) as proxy,
        deadline(30),
    ):
        through = way(server, proxy.url(scheme), is_tls=True)

        assert exchange(through, request(body)) == body
        through.close()


def test_a_forwarded_request_names_its_target_and_hides_nothing_else():
    seen = []

    def serve(sock, number):
        seen.append(sock.recv(65_536))
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with RawServer(serve) as proxy:
        origin = Origin("::1", 8080, is_tls=False)
        url = f"http://u:p@127.0.0.1:{proxy.port}"
        through = way_to(origin, proxy=Secret(url), http_client=None, env={})
        exchange(
            through, memoryview(b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
        )
        through.close()

    first = b"POST http://[::1]:8080/v1/x HTTP/1.1\r\nProxy-Authorization: Basic dTpw\r\n"
    assert seen == [first + b"Host: h\r\nContent-Length: 2\r\n\r\n{}"]


# Failures ---------------------------------------------------------------------


@pytest.mark.parametrize("is_tls", [False, True], ids=["forwarded", "tunnel"])
@pytest.mark.parametrize("login", ["", "me:wrong-CANARY@"], ids=["nobody", "wrong"])
@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_that_does_not_know_us_is_not_asked_again(scheme, login, is_tls):
    with ProxyServer() as proxy:
        through = way(proxy, proxy.url(scheme, login=login), is_tls=is_tls)
        for send in (exchange, opened):
            with pytest.raises(ConnectionFailed, match="wants a user and a password") as caught:
                send(through)

            assert not caught.value.retryable
            assert "CANARY" not in str(caught.value)
        assert proxy.asked == []


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
def test_a_dead_proxy_is_a_failure_that_may_pass(scheme, is_tls, trusted):
    with RawServer(echo) as server:
        pass

    with pytest.raises(ConnectionFailed, match=r"The proxy 127\.0\.0\.1:\d+ .*refused") as caught:
        exchange(way(server, f"{scheme}://me:{PASSWORD}@127.0.0.1:{server.port}", is_tls=is_tls))

    assert caught.value.retryable
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "problem", "retryable"),
    [
        (b"HTTP/1.1 502 Bad\r\n\r\n", "answered 502 to CONNECT", True),
        (b"HTTP/1.1 403 No\r\n\r\n", "answered 403 to CONNECT", False),
        (b"HTTP/1.1 200 OK\r\n\r\nearly", "said more than it should", False),
        (b"", "closed the connection", True),
        (b"HTTP/1.1 200", "closed the connection", True),
        (b"<html>", "not valid HTTP", True),
    ],
)
def test_a_proxy_that_opens_no_tunnel_is_a_failure(said, problem, retryable):
    def serve(sock, number):
        sock.recv(1_000)
        sock.sendall(said)
        sock.close()

    with RawServer(serve) as proxy, pytest.raises(ConnectionFailed, match=problem) as caught:
        exchange(way(proxy, f"http://127.0.0.1:{proxy.port}", is_tls=True))

    assert caught.value.retryable == retryable


@pytest.mark.parametrize(
    ("said", "problem", "retryable"),
    [
        ([b"\x05\x00", b"\x05\x05\x00\x01" + bytes(6)], "the connection was refused", True),
        ([b"\x05\x00", b"\x05\x02\x00\x01" + bytes(6)], "its rules forbid it", False),
        ([b"\x05\x00", b"\x05\x63\x00\x01" + bytes(6)], "it answered 99", True),
        ([b"\x05\x00", b"\x05\x00\x00\x04" + bytes(18) + b"!"], "said more", False),
        ([b"\x04\x00"], "does not speak SOCKS5", False),
        ([b"\x05\xff"], "wants a user", False),
        ([b"\x05"], "closed the connection", True),
    ],
)
def test_a_socks_proxy_that_does_not_connect_is_a_failure(said, problem, retryable):
    def serve(sock, number):
        for piece in said:
            sock.recv(1_000)
            sock.sendall(piece)
        sock.close()

    with RawServer(serve) as proxy, pytest.raises(ConnectionFailed, match=problem) as caught:
        exchange(way(proxy, f"socks5://127.0.0.1:{proxy.port}"))

    assert caught.value.retryable == retryable


@pytest.mark.parametrize("name", ["elsewhere", "selfmade"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_certificate_at_the_end_of_a_tunnel_must_be_right(certificates, trusted, scheme, name):
    context = server_context(certificates, "here") if scheme == "https" else None
    with (
        RawServer(over_tls(echo, server_context(certificates, name))) as server,
        ProxyServer(context=context) as proxy,
        pytest.raises(ConnectionFailed, match="not trusted") as caught,
    ):
        exchange(way(server, proxy.url(scheme), is_tls=True))

    assert not caught.value.retryable


def test_the_certificate_of_a_proxy_must_be_right(certificates, trusted):
    with (
        ProxyServer(context=server_context(certificates, "selfmade")) as proxy,
        pytest.raises(ConnectionFailed, match=r"The proxy .* not trusted") as caught,
    ):
        exchange(way(proxy, proxy.url("https"), is_tls=True))

    assert (caught.value.retryable, proxy.asked) == (False, [])


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_tunnel_cut_inside_the_reply_is_a_failure(certificates, trusted, scheme, reset):
    cut = once(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", reset=reset)
    context = server_context(certificates, "here")
    with (
        RawServer(over_tls(cut, context)) as server,
        ProxyServer(context=context if scheme == "https" else None) as proxy,
        pytest.raises(ConnectionFailed, match=r"closed the connection|connection broke"),
    ):
        exchange(way(server, proxy.url(scheme), is_tls=True))


def test_caps_hold_through_a_proxy():
    huge = once(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000)
    with RawServer(huge) as server, ProxyServer() as proxy, pytest.raises(ResponseTooLarge):
        exchange(way(server, proxy.url()))


# Waits ------------------------------------------------------------------------


@contextlib.contextmanager
def silent_proxy(kind):
    """Yield the URL of a proxy that never opens its tunnel, and whether the target speaks TLS."""
    if kind == "black hole":
        with black_hole() as port:
            yield f"http://127.0.0.1:{port}"
        return
    with RawServer(lambda sock, number: sock.recv(1) and threading.Event().wait(20)) as proxy:
        yield f"{kind}://127.0.0.1:{proxy.port}"


@pytest.mark.parametrize("kind", ["black hole", "http", "https", "socks5"])
def test_a_silent_proxy_ends_at_the_deadline_and_at_a_cancel(kind, trusted):
    with silent_proxy(kind) as url:
        through = way_to(FAR, proxy=Secret(url), http_client=None, env={})
        with ends_at(0.2, "connect"):
            exchange(through)
        with cancelled_after(0.1):
            exchange(through)


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
@pytest.mark.parametrize(
    "serve", [hang, drip(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n", b"x")],
    ids=["silence", "drip"],
)  # fmt: skip
def test_a_reply_through_a_tunnel_ends_at_the_deadline_and_at_a_cancel(
    certificates, trusted, scheme, serve
):
    context = server_context(certificates, "here")
    with (
        RawServer(over_tls(serve, context)) as server,
        ProxyServer(context=context if scheme == "https" else None) as proxy,
    ):
        through = way(server, proxy.url(scheme), is_tls=True)
        with ends_at(0.3, "read"):
            exchange(through)
        with cancelled_after(0.2):
            list(opened(through).chunks())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_handshake_through_a_tunnel_ends_at_the_deadline_and_at_a_cancel(
    certificates, trusted, scheme
):
    context = server_context(certificates, "here") if scheme == "https" else None
    with RawServer(hang) as server, ProxyServer(context=context) as proxy:
        through = way(server, proxy.url(scheme), is_tls=True)
        with ends_at(0.3, "connect"):
            exchange(through)
        with cancelled_after(0.2):
            exchange(through)


def test_a_tunnel_left_early_is_closed(certificates, trusted):
    seen = []

    def serve(sock, number):
        receive(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nx")
        seen.append(sock.recv(1))

    with (
        RawServer(over_tls(serve, server_context(certificates, "here"))) as server,
        ProxyServer() as proxy,
    ):
        through = way(server, proxy.url(), is_tls=True)

        opened(through).close()

        wait_until(lambda: seen)
        assert (seen, through.idle_count) == ([b""], 0)


def test_a_tunnel_found_stale_is_replaced(certificates, trusted):
    gone = threading.Event()

    def serve(sock, number):
        receive(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d" % number)
        sock.close()
        gone.set()

    with (
        RawServer(over_tls(serve, server_context(certificates, "here"))) as server,
        ProxyServer() as proxy,
    ):
        through = way(server, proxy.url(), is_tls=True)
        first = exchange(through)
        assert gone.wait(10)
        wait_until(lambda: through._idle[0].is_stale(60))

        assert (first, exchange(through)) == (b"01", b"02")
        through.close()
