"""The way to a provider through a proxy, as a connected socket.

Holds: CONNECT and SOCKS5, and TLS through them. Does not hold: HTTP with the
provider: that goes over the socket as over any other (exchange.py), with the
same deadlines and cancels. Every wait here ends at the scope's deadline and is
cut by its cancel. Safe to share between threads.

Source: RFC 9110, section 9.3.6 (CONNECT); RFC 1928 and RFC 1929 (SOCKS5).
"""

from __future__ import annotations

import ipaddress
import ssl
from typing import TYPE_CHECKING

from lionlite import scope
from lionlite.exceptions import ConnectionFailed, ResponseError
from lionlite.service.transport.connect import as_failure, connect, secured, tls_context
from lionlite.service.transport.link import Link, broken
from lionlite.service.transport.nested import NestedTls
from lionlite.service.transport.parse import ReplyParser

if TYPE_CHECKING:
    import socket

    from lionlite.service.transport.connect import Origin
    from lionlite.service.transport.link import Carrier
    from lionlite.service.transport.proxy import Proxy

PROXY_AUTHENTICATION_REQUIRED = 407


def tunnel(proxy: Proxy, origin: Origin) -> Carrier:
    """Return a connection to *origin* through *proxy*, after the TLS handshake if any.

    Raises:
        ConnectionFailed: The proxy is not reached, refuses us (not retryable),
            or does not reach the provider; or the provider's TLS failed.
        DeadlineExceeded: The scope's deadline passed.
        Cancelled: The scope was cancelled.

    Threads: blocks the calling thread only.
    """
    sock = reach(proxy)
    try:
        if proxy.is_socks:
            _ask_socks(_Talk(sock, proxy), proxy, origin)
        else:
            _ask_http(_Talk(sock, proxy), proxy, origin)
        return _with_tls(sock, origin) if origin.is_tls else sock
    except BaseException:
        sock.close()
        raise


def reach(proxy: Proxy) -> socket.socket:
    """Return a connection to *proxy* itself.

    Raises:
        LionError: As `tunnel`.
    """
    try:
        return connect(proxy.origin)
    except ConnectionFailed as exc:
        raise failed(proxy, str(exc), retryable=exc.retryable) from exc.__cause__


def failed(proxy: Proxy, reason: str, *, retryable: bool = True) -> ConnectionFailed:
    """Return the error for a proxy that did not do its work."""
    where = f"{proxy.origin.host}:{proxy.origin.port}"
    msg = f"The proxy {where} (of proxy= or HTTPS_PROXY) failed: {reason}"
    return ConnectionFailed(msg, retryable=retryable)


def refused(proxy: Proxy) -> ConnectionFailed:
    """Return the error for a proxy that does not know us."""
    reason = "it wants a user and a password, or others: put them before the host in its URL."
    return failed(proxy, reason, retryable=False)


class _Talk:
    """What is said to a proxy before the tunnel stands."""

    def __init__(self, sock: socket.socket, proxy: Proxy) -> None:
        self._link = Link(sock)
        self._proxy = proxy
        self._unread = b""

    def say(self, data: memoryview) -> None:
        here = scope.current()
        here.check("connect")
        with self._link.cut.on_cancel(here.token):
            try:
                self._link.send(data, here.ends_at_s)
            except OSError as exc:
                raise self._failure(exc, here) from exc

    def hear(self) -> bytes:
        here = scope.current()
        here.check("connect")
        with self._link.cut.on_cancel(here.token):
            try:
                data = self._link.receive(here.ends_at_s)
            except OSError as exc:
                raise self._failure(exc, here) from exc
        if not data:
            here.check("connect")
            raise failed(self._proxy, "it closed the connection.")
        return data

    def hear_exactly(self, count: int) -> bytes:
        while len(self._unread) < count:
            self._unread += self.hear()
        data, self._unread = self._unread[:count], self._unread[count:]
        return data

    def ends(self) -> None:
        if self._unread:
            raise failed(self._proxy, "it said more than it should.", retryable=False)

    def _failure(self, exc: OSError, here: scope.Scope) -> ConnectionFailed:
        return failed(self._proxy, str(broken(exc, "connect", here)))


def _ask_http(talk: _Talk, proxy: Proxy, origin: Origin) -> None:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    target = f"{host}:{origin.port}".encode()
    line = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (target, target)
    talk.say(memoryview(b"".join((line, proxy.authorization, b"\r\n"))))
    parser = ReplyParser()
    try:
        while not parser.is_head_done:
            parser.feed(talk.hear())
    except ResponseError as exc:
        raise failed(proxy, str(exc)) from None
    finally:
        parser.release()
    if parser.status == PROXY_AUTHENTICATION_REQUIRED:
        raise refused(proxy)
    if not 200 <= parser.status < 300:  # noqa: PLR2004
        may_pass = parser.status >= 500  # noqa: PLR2004 - the provider was not reached
        raise failed(proxy, f"it answered {parser.status} to CONNECT.", retryable=may_pass)
    if parser.take_body():
        raise failed(proxy, "it said more than it should.", retryable=False)


_SOCKS, _RESERVED, _CONNECT = 5, 0, 1
_NO_METHOD, _BY_PASSWORD, _UNASKED = 0xFF, 2, 0
_IPV4, _NAME, _IPV6 = 1, 3, 4
_REASONS = {
    1: "it failed",
    2: "its rules forbid it",
    3: "the network is unreachable",
    4: "the host is unreachable",
    5: "the connection was refused",
    6: "it took too long",
}
_FORBIDDEN = 2


def _ask_socks(talk: _Talk, proxy: Proxy, origin: Origin) -> None:
    methods = (_UNASKED, _BY_PASSWORD) if proxy.user else (_UNASKED,)
    talk.say(memoryview(bytes((_SOCKS, len(methods), *methods))))
    version, method = talk.hear_exactly(2)
    if version != _SOCKS:
        raise failed(proxy, "it does not speak SOCKS5.", retryable=False)
    if method == _BY_PASSWORD and proxy.user:
        talk.say(proxy.socks_login)
        if talk.hear_exactly(2)[1] != 0:
            raise refused(proxy)
    elif method != _UNASKED:
        raise refused(proxy)
    talk.say(memoryview(bytes((_SOCKS, _CONNECT, _RESERVED)) + _socks_address(origin)))
    version, outcome, _, kind = talk.hear_exactly(4)
    if version != _SOCKS or outcome:
        reason = _REASONS.get(outcome, f"it answered {outcome}")
        raise failed(proxy, f"to {origin.host}: {reason}.", retryable=outcome != _FORBIDDEN)
    sizes = {_IPV4: 4, _IPV6: 16}
    size = sizes[kind] if kind in sizes else talk.hear_exactly(1)[0]
    talk.hear_exactly(size + 2)
    talk.ends()


def _socks_address(origin: Origin) -> bytes:
    port = origin.port.to_bytes(2, "big")
    try:
        address = ipaddress.ip_address(origin.host)
    except ValueError:
        name = origin.host.encode()
        return bytes((_NAME, len(name))) + name + port
    return bytes((_IPV4 if address.version == 4 else _IPV6,)) + address.packed + port  # noqa: PLR2004


def _with_tls(sock: socket.socket, origin: Origin) -> Carrier:
    if not isinstance(sock, ssl.SSLSocket):
        return secured(sock, origin)
    nested = NestedTls(sock, tls_context(), host=origin.host)
    here = scope.current()
    link = Link(nested)
    with as_failure(origin), link.cut.on_cancel(here.token):
        link.shake_hands(nested, here.ends_at_s)
    return nested
