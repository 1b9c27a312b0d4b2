"""Our connections under a plain `httpx.Client`.

Holds: `Transport`, and the translation between httpx's requests, replies,
timeouts and errors and ours. Does not hold: any of the work. The one module
that imports httpx for a user's sake; importing lionlite does not import it.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import httpx

from lionlite import scope
from lionlite.exceptions import (
    ConfigError,
    ConnectionFailed,
    DeadlineExceeded,
    ResponseError,
)
from lionlite.service.transport.connect import Origin
from lionlite.service.transport.connections import Connections, Rest
from lionlite.service.transport.streamed import OpenReply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from lionlite.service.transport.exchange import Connection

MAX_REQUEST_BYTES = 256 * 1024 * 1024
"""A body is read into memory before it is sent; more than a provider would take."""

MAX_IDLE = 100
"""Connections kept to one origin."""

_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[^\x00\r\n]*")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})

_TOO_LATE = {"connect": httpx.ConnectTimeout, "send": httpx.WriteTimeout}


class Transport(httpx.BaseTransport):
    """Lets an `httpx.Client` send over lionlite's connections.

    `httpx.Client(transport=Transport())`: faster, safe to share by many
    threads, and within `lionlite.deadline(...)` bounded as a whole. HTTP/1.1,
    TLS verified (SSL_CERT_FILE is honoured), no proxies. httpx's timeouts hold
    too: connect and write for the whole step, read for each silence; there is
    no pool to wait for. Bodies of requests are read into memory first; replies
    stream, and their content coding is left to httpx.

    Args:
        max_idle: Connections kept to one origin, >= 1.

    Raises:
        ConfigError: *max_idle* is no number >= 1.

    Threads: safe to share.
    """

    def __init__(self, *, max_idle: int = MAX_IDLE) -> None:
        if not isinstance(max_idle, int) or max_idle < 1:
            msg = f"max_idle= takes a number of connections, >= 1; got {max_idle!r}."
            raise ConfigError(msg)
        self._max_idle = max_idle
        self._pools: dict[Origin, Connections] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request* and return the reply once its head is complete.

        Raises:
            httpx.TransportError: What httpx itself would raise.
            Cancelled: The scope was cancelled.
        """
        times_s = request.extensions.get("timeout", {})
        pool = self._pool_for(request)
        message = _message(request)
        if message is None:
            # Nothing is shown: it may be a key.
            msg = "The request's method, target or a header holds what HTTP does not allow."
            raise httpx.LocalProtocolError(msg, request=request)
        with _as_httpx(request, httpx.ConnectError), _within(times_s.get("connect")):
            connection = pool.take()
        try:
            with _as_httpx(request, httpx.ReadError):
                with _within(times_s.get("write")):
                    failure = connection.send(message, _NOBODY)
                connection.read_head(_NOBODY, failure, idle_s=times_s.get("read"))
                return _response(request, pool, connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close what is idle, and what is in use once its reply is read."""
        for pool in list(self._pools.values()):
            pool.close()

    def _pool_for(self, request: httpx.Request) -> Connections:
        url = request.url
        if url.scheme not in _PORTS or not url.host or request.method == "CONNECT":
            msg = f"Only http:// and https:// requests with a host, and no CONNECT: {url.scheme!r}."
            raise httpx.UnsupportedProtocol(msg, request=request)
        host = url.raw_host.decode("ascii").strip("[]")
        origin = Origin(host, url.port or _PORTS[url.scheme], url.scheme == "https")
        pool = self._pools.get(origin)
        if pool is None:
            # setdefault is atomic: of two threads, both get the same.
            pool = self._pools.setdefault(origin, Connections(origin, max_idle=self._max_idle))
        return pool


class _Nobody:
    """Wants to know nothing of how far an exchange is."""

    def sent(self) -> None: ...

    def replied(self) -> None: ...


_NOBODY = _Nobody()


class _Body(httpx.SyncByteStream):
    """The body of a reply, as httpx reads it."""

    def __init__(self, request: httpx.Request, reply: OpenReply) -> None:
        self._request = request
        self._reply = reply

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx(self._request, httpx.ReadError):
            yield from self._reply.chunks()

    def close(self) -> None:
        self._reply.close()


def _message(request: httpx.Request) -> memoryview | None:
    """Return the bytes of *request*, None if HTTP does not allow them; httpx has not looked."""
    body = _body_of(request)
    fields = [pair for pair in request.headers.raw if pair[0].lower() not in _LENGTHS]
    had_length = len(fields) < len(request.headers.raw)
    if body or had_length:
        fields.append((b"Content-Length", b"%d" % len(body)))
    is_sound = all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in fields)
    method, target = request.method.encode("ascii", "replace"), request.url.raw_path
    if not is_sound or not _NAME.fullmatch(method) or not _TARGET.fullmatch(target):
        return None
    lines = [b"%b: %b" % pair for pair in fields]
    return memoryview(b"\r\n".join((b"%b %b HTTP/1.1" % (method, target), *lines, b"", body)))


def _body_of(request: httpx.Request) -> bytes:
    if not isinstance(request.stream, httpx.SyncByteStream):
        msg = "The request's body is asynchronous; Transport takes what is not."
        raise httpx.LocalProtocolError(msg, request=request)
    pieces, count = [], 0
    for piece in request.stream:
        pieces.append(piece)
        count += len(piece)
        if count > MAX_REQUEST_BYTES:
            msg = f"The request's body is longer than {MAX_REQUEST_BYTES:,} bytes."
            raise httpx.LocalProtocolError(msg, request=request)
    return b"".join(pieces)


def _response(request: httpx.Request, pool: Connections, connection: Connection) -> httpx.Response:
    parser = connection.parser
    pairs = parser.headers.pairs()
    version, _, rest = parser.head.partition("\r\n")[0].partition(" ")
    reason = rest.partition(" ")[2]
    stream: httpx.SyncByteStream
    if request.method == "HEAD":
        # Its reply has no body, whatever the head says; llhttp cannot be told.
        connection.close()
        stream = httpx.ByteStream(b"")
    else:
        rest_of_it = Rest(pool, connection)
        reply = OpenReply(parser.status, parser.headers, rest_of_it, is_decoded=False)
        stream = _Body(request, reply)
    return httpx.Response(
        parser.status,
        headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs],
        stream=stream,
        extensions={
            "http_version": version.encode("ascii"),
            "reason_phrase": reason.encode("latin-1"),
        },
    )


def _within(seconds: float | None) -> AbstractContextManager[object]:
    return contextlib.nullcontext() if seconds is None else scope.deadline(seconds)


@contextlib.contextmanager
def _as_httpx(request: httpx.Request, broken: type[httpx.NetworkError]) -> Iterator[None]:
    """Turn our errors into those that httpx would raise; a cancel stays ours."""
    try:
        yield
    except DeadlineExceeded as exc:
        kind = _TOO_LATE.get(exc.phase, httpx.ReadTimeout)
        raise kind(str(exc), request=request) from exc
    except ConnectionFailed as exc:
        if broken is httpx.ConnectError or isinstance(exc.__cause__, OSError):
            raise broken(str(exc), request=request) from exc
        raise httpx.RemoteProtocolError(str(exc), request=request) from exc
    except ResponseError as exc:
        raise httpx.RemoteProtocolError(str(exc), request=request) from exc
