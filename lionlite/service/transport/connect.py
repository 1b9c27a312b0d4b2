"""A connected socket to a host, within the deadline, or a typed error.

Holds: name lookup, one try per address, TCP options, the TLS handshake. Does
not hold: HTTP, or keeping connections. Every wait ends at the scope's deadline
and is cut by its cancel. Safe to share between threads.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import attrs

from lionlite import scope
from lionlite.exceptions import ConfigError, ConnectionFailed
from lionlite.service.transport.link import Cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_ADDRESS_S = 10.0
"""One black-holed IPv6 address must not eat the whole deadline."""

KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 5))
"""A dead peer is noticed within two minutes; seconds, seconds, probes."""

Address = tuple[Any, ...]


@attrs.frozen
class Origin:
    """Where to connect.

    Attributes:
        host: Name or address, without brackets.
        port: TCP port.
        is_tls: Whether to speak TLS.
    """

    host: str
    port: int
    is_tls: bool


def connect(origin: Origin) -> socket.socket:
    """Return a connected socket to *origin*, after the TLS handshake if any.

    Raises:
        ConnectionFailed: No such host, refused, unreachable, or bad certificate.
        DeadlineExceeded: The scope's deadline passed.
        Cancelled: The scope was cancelled.

    Threads: blocks the calling thread only.
    """
    if origin.is_tls:
        # Wrong settings show before anything is sent.
        tls_context()
    failure: ConnectionFailed | None = None
    for family, address in resolve(origin.host, origin.port):
        try:
            return _connect_to(origin, family, address)
        except ConnectionFailed as exc:
            failure = exc
            if not exc.retryable:
                break
    raise failure or _failed(origin, "the name has no address")


def _connect_to(origin: Origin, family: int, address: Address) -> socket.socket:
    with as_failure(origin):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            with Cut(sock).on_cancel(scope.current().token):
                _set_options(sock)
                sock.settimeout(_step_s())
                sock.connect(address)
        except BaseException:
            sock.close()
            raise
    return secured(sock, origin) if origin.is_tls else sock


def secured(sock: socket.socket, origin: Origin) -> socket.socket:
    """Return *sock*, which leads to *origin*, after the TLS handshake; owned from now on.

    Raises:
        ConnectionFailed: The certificate is not trusted, or the connection broke.
        DeadlineExceeded: The scope's deadline passed.
        Cancelled: The scope was cancelled.
        ConfigError: SSL_CERT_FILE or SSL_CERT_DIR names nothing readable.
    """
    with as_failure(origin):
        # The handshake is a step of its own: inside wrap_socket nothing could cut it.
        try:
            tls = tls_context().wrap_socket(
                sock, server_hostname=origin.host, do_handshake_on_connect=False
            )
        except BaseException:
            sock.close()
            raise
        try:
            with Cut(tls).on_cancel(scope.current().token):
                tls.settimeout(_step_s())
                tls.do_handshake()
        except BaseException:
            tls.close()
            raise
    return tls


def _step_s() -> float:
    """Return the seconds that one step of connecting may take."""
    here = scope.current()
    here.check("connect")
    return max(min(here.left_s, MAX_ADDRESS_S), 0.001)


def _set_options(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        option = getattr(socket, name, None)
        if option is not None:  # pragma: no branch - Linux has them all
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


@contextlib.contextmanager
def as_failure(origin: Origin) -> Iterator[None]:
    """Turn what sockets raise into our errors.

    Raises:
        ConnectionFailed: Where they raise OSError.
        LionError: Where the scope was the reason.
    """
    try:
        yield
    except ssl.SSLCertVerificationError as exc:
        msg = (
            f"The certificate of {origin.host} is not trusted: {exc.verify_message}. "
            f"For a private authority set SSL_CERT_FILE."
        )
        raise ConnectionFailed(msg, retryable=False) from exc
    except OSError as exc:
        scope.current().check("connect")
        raise _failed(origin, exc.strerror or str(exc) or type(exc).__name__) from exc


def _failed(origin: Origin, reason: str) -> ConnectionFailed:
    return ConnectionFailed(f"Cannot connect to {origin.host}:{origin.port}: {reason}.")


class _Lookup:
    """One running getaddrinfo and the threads that wait for it."""

    def __init__(self) -> None:
        self.wakers: list[Callable[[], None]] = []
        self.is_done = False
        self.found: list[tuple[int, Address]] = []
        self.error: Exception | None = None


_lookups: dict[tuple[str, int], _Lookup] = {}
# Guards _lookups and the wakers of each lookup. One thread a host at most.
_lookups_lock = threading.Lock()


def _renew_after_fork() -> None:  # pragma: no cover - only in forked children
    """Forget the parent's lookups: their threads do not exist in the child."""
    global _lookups_lock, _tls_lock  # noqa: PLW0603 - locks may be held by gone threads
    _lookups_lock = threading.Lock()
    _tls_lock = threading.Lock()
    _lookups.clear()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_renew_after_fork)


def resolve(host: str, port: int) -> list[tuple[int, Address]]:
    """Return the addresses of *host* as (family, address), in the system's order.

    getaddrinfo cannot be interrupted, so it runs in a daemon thread, one a
    host, shared by all that ask; the callers wait no longer than they may.

    Raises:
        ConnectionFailed: There is no such name.
        DeadlineExceeded: The scope's deadline passed.
        Cancelled: The scope was cancelled.
    """
    literal = _literal(host, port)
    if literal is not None:
        return [literal]
    lookup, woken = _join_lookup(host, port)
    here = scope.current()
    with here.woken_by(woken.set):
        woken.wait(None if here.left_s == scope.FOREVER_S else max(here.left_s, 0))
    if not lookup.is_done:
        here.check("connect")
        # A wait may end just before its instant.
        raise scope.too_late("connect")  # noqa: EM101 # pragma: no cover - a matter of microseconds
    if lookup.error is not None:
        msg = f"Cannot find the host {host!r}: {lookup.error}. Check base_url."
        raise ConnectionFailed(msg) from lookup.error
    return lookup.found


def _literal(host: str, port: int) -> tuple[int, Address] | None:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    if version == 4:  # noqa: PLR2004
        return socket.AF_INET, (host, port)
    return socket.AF_INET6, (host, port, 0, 0)


def _join_lookup(host: str, port: int) -> tuple[_Lookup, threading.Event]:
    woken = threading.Event()
    with _lookups_lock:
        lookup = _lookups.get((host, port))
        if lookup is None:
            lookup = _Lookup()
            _start_lookup(host, port, lookup)
            _lookups[host, port] = lookup
        lookup.wakers.append(woken.set)
    return lookup, woken


def _start_lookup(host: str, port: int, lookup: _Lookup) -> None:
    thread = threading.Thread(
        target=_look_up, args=(host, port, lookup), name="lionlite-dns", daemon=True
    )
    try:
        thread.start()
    except RuntimeError as exc:
        msg = f"Cannot look up the host {host!r}: {exc}."
        raise ConnectionFailed(msg) from exc


def _look_up(host: str, port: int, lookup: _Lookup) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        lookup.found = [(int(family), address) for family, _, _, _, address in found]
    except (OSError, UnicodeError) as exc:
        lookup.error = exc
    finally:
        with _lookups_lock:
            _lookups.pop((host, port), None)
            lookup.is_done = True
            wakers = lookup.wakers
        for wake in wakers:
            wake()


_tls: ssl.SSLContext | None = None
# Guards _tls: building a context costs 50 ms and 0.8 MB, so a process has one.
_tls_lock = threading.Lock()


def tls_context() -> ssl.SSLContext:
    """Return the process's TLS context: verified, HTTP/1.1, SSL_CERT_FILE honoured.

    Raises:
        ConfigError: SSL_CERT_FILE or SSL_CERT_DIR names nothing readable.
    """
    global _tls  # noqa: PLW0603 - one a process
    with _tls_lock:
        if _tls is None:
            _tls = _new_tls_context()
        return _tls


def _new_tls_context() -> ssl.SSLContext:
    # Costs as much as all of lionlite, and a local server needs none of it.
    import httpx  # noqa: PLC0415

    try:
        context = httpx.create_ssl_context()
    except OSError as exc:
        msg = f"SSL_CERT_FILE or SSL_CERT_DIR names no readable certificates: {exc}."
        raise ConfigError(msg) from exc
    context.set_alpn_protocols(["http/1.1"])
    return context
