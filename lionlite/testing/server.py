"""A small HTTP/1.1 server on 127.0.0.1: keep-alive, a thread a connection.

Holds: sockets and threads. Does not hold: what is answered; that comes from
the function it is given. The head is read by hand: the standard library's
http.server spends more on its mail parser than a whole exchange costs here.
`close()` wakes everything that waits. Safe to use from any thread.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

from lionlite.exceptions import ConfigError
from lionlite.testing.message import (
    BadHeadError,
    Head,
    HttpReply,
    HttpRequest,
    parse_head,
    render,
)

_BACKLOG = 2048  # a burst of 1,000 connects must not meet a full queue
_CHUNK = 65_536
_MAX_HEAD = 65_536
_MAX_BODY = 64 * 1024 * 1024  # more than any provider takes; bounds our memory
_ACCEPT_S = 0.2  # where shutdown() does not wake accept(), close() waits this long
_JOIN_S = 0.5  # close() must return within a second
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for 0 s: close() sends RST

Respond = Callable[[HttpRequest], HttpReply | None]
"""Answers a request; None drops the connection without a word."""


class _RefusedError(Exception):
    """The request cannot be read; carries the status to say so with."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.reply = HttpReply(status, f"{why}\n".encode(), "text/plain", after="close")


class HttpServer:
    """Listens on 127.0.0.1 and answers each request with *respond*.

    Args:
        respond: Called in a thread of the connection's own.
        port: Where to listen; 0 is any free port.
        closing: Set by `close()`. Whatever waits on behalf of a request waits
            on this, so that closing wakes it.

    Attributes:
        port: Where it listens.

    Raises:
        ConfigError: The port cannot be listened on.

    Threads: `close()` may be called from any thread, also from *respond*.
    """

    def __init__(self, respond: Respond, *, port: int, closing: threading.Event) -> None:
        self._closing = closing
        self._respond = respond
        # Guards _open and _workers. A worker leaves _open under it before it
        # closes its socket, so close() can never shut down a descriptor that
        # the system has already given to somebody else.
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._workers: set[threading.Thread] = set()
        self._listener = _listen(port)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(
            target=self._accept, name="lionlite-fake-accept", daemon=True
        )
        self._accepting.start()

    def close(self) -> None:
        """Stop listening, cut every connection, and end the threads.

        Returns within a second. A thread that is inside *respond* is waited
        for at most half of one; it is a daemon and keeps no process alive.
        """
        give_up_s = time.monotonic() + _JOIN_S
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(_JOIN_S)
        self._listener.close()
        with self._lock:
            workers = self._workers - {threading.current_thread()}
            for connection in self._open:
                _shut(connection)
        for worker in workers:
            worker.join(max(0.0, give_up_s - time.monotonic()))

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, peer = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:  # shut down by close(), or out of descriptors
                self._closing.wait(0.01)
                continue
            self._start_worker(connection, peer[1])

    def _start_worker(self, connection: socket.socket, client_port: int) -> None:
        worker = threading.Thread(
            target=self._serve,
            args=(connection, client_port),
            name="lionlite-fake-worker",
            daemon=True,
        )
        with self._lock:
            self._open.add(connection)
            self._workers.add(worker)
        worker.start()

    def _serve(self, connection: socket.socket, client_port: int) -> None:
        try:
            # OSError: the client went, or close() cut the connection.
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                requests = _Requests(connection, client_port)
                while self._exchange(connection, requests):
                    continue
        finally:
            with self._lock:
                self._open.discard(connection)
                self._workers.discard(threading.current_thread())
            connection.close()

    def _exchange(self, connection: socket.socket, requests: _Requests) -> bool:
        """Serve one request; return whether the connection goes on."""
        reply: HttpReply | None
        try:
            request = requests.read()
            if request is None:
                return False
            keeps_alive = request.head.keeps_alive
            reply = self._respond(request)
        except _RefusedError as refused:
            keeps_alive, reply = False, refused.reply
        if reply is None:
            return False
        goes_on = keeps_alive and reply.after == "keep"
        lies = reply.is_silent or reply.sent_bytes is not None
        connection.sendall(render(reply, will_close=not goes_on and not lies))
        _end(connection, reply)
        return goes_on


class _Requests:
    """Reads one request after the other from a connection."""

    def __init__(self, connection: socket.socket, client_port: int) -> None:
        self._connection = connection
        self._client_port = client_port
        self._unread = bytearray()

    def read(self) -> HttpRequest | None:
        """Return the next request, or None when the client has gone.

        Raises:
            _RefusedError: It is not a request that can be answered.
        """
        if not self._unread and not self._fill():
            return None
        # The instant that every window is judged by: as early as Python sees
        # the request, before its body is read, decoded or counted.
        arrival_s = time.monotonic()
        raw = self._read_head()
        if raw is None:
            return None
        try:
            head = parse_head(raw)
        except BadHeadError as exc:
            raise _RefusedError(400, str(exc)) from None
        body = self._read_body(_body_length(head))
        if body is None:
            return None
        return HttpRequest(head, body, arrival_s, self._client_port)

    def _read_head(self) -> bytes | None:
        while (end := self._unread.find(b"\r\n\r\n")) < 0:
            if len(self._unread) > _MAX_HEAD:
                raise _RefusedError(431, "the head is too large")
            if not self._fill():
                return None
        return self._take(end, skip=4)

    def _read_body(self, length: int) -> bytes | None:
        while len(self._unread) < length:
            if not self._fill():
                return None
        return self._take(length)

    def _fill(self) -> bool:
        received = self._connection.recv(_CHUNK)
        self._unread += received
        return bool(received)

    def _take(self, length: int, *, skip: int = 0) -> bytes:
        taken = bytes(self._unread[:length])
        del self._unread[: length + skip]
        return taken


def _listen(port: int) -> socket.socket:
    try:
        listener = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
    except OSError as exc:
        msg = f"port={port} cannot be listened on: {exc}. Give a free port, or 0 for any."
        raise ConfigError(msg) from exc
    listener.settimeout(_ACCEPT_S)
    return listener


def _body_length(head: Head) -> int:
    if "transfer-encoding" in head.headers:
        raise _RefusedError(411, "send a Content-Length; this server takes no chunked body")
    text = head.headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise _RefusedError(400, "Content-Length is not a number")
    # 19 digits hold any length that exists; int() of 5,000 digits would raise.
    if len(text.lstrip("0")) > 19 or int(text) > _MAX_BODY:  # noqa: PLR2004
        raise _RefusedError(413, "the body is too large")
    return int(text)


def _end(connection: socket.socket, reply: HttpReply) -> None:
    if reply.after == "hold":
        # Wakes when the client closes its end, and when close() shuts ours.
        while connection.recv(_CHUNK):
            continue
    elif reply.after == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
