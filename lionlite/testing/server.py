"""A small HTTP/1.1 server on 127.0.0.1: keep-alive, a thread a connection.

Holds: sockets and threads. Does not hold: what is answered, which comes from
the functions it is given, or the reading of requests (incoming.py). `close()`
wakes everything that waits. Safe to use from any thread.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lionlite.exceptions import ConfigError
from lionlite.testing.incoming import RefusedError, Requests
from lionlite.testing.message import After, Head, HttpReply, HttpRequest, SteppedReply, render

if TYPE_CHECKING:
    import ssl

_BACKLOG = 2048  # a burst of 1,000 connects must not meet a full queue
_CHUNK = 65_536
_ACCEPT_S = 0.2  # where shutdown() does not wake accept(), close() waits this long
_JOIN_S = 0.5  # close() must return within a second
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for 0 s: close() sends RST
_MS = 1000

# The client closed its end: Linux says so though there is unread data.
_LEFT = getattr(select, "POLLRDHUP", select.POLLHUP)
_LOOK_S = 60.0  # poll() takes no endless wait of a float; nothing depends on it

Respond = Callable[[HttpRequest], HttpReply | SteppedReply | None]
"""Answers a request; None drops the connection without a word."""

Interrupt = Callable[[Head, float, int], SteppedReply | None]
"""Answers a head (arrival, client port) before the body is read; None lets it be read."""


class HttpServer:
    """Listens on 127.0.0.1 and answers each request with *respond*.

    Args:
        respond: Called in a thread of the connection's own.
        port: Where to listen; 0 is any free port.
        closing: Set by `close()`. Whatever waits on behalf of a request waits
            on this, so that closing wakes it.
        interrupt: Asked before a request's body is read.
        tls: Speak TLS with this context.
        max_connections: More than these wait in the system's queue, so that
            threads are bounded; None is no bound.

    Attributes:
        port: Where it listens.

    Raises:
        ConfigError: The port cannot be listened on.

    Threads: `close()` may be called from any thread, also from *respond*.
    """

    def __init__(
        self,
        respond: Respond,
        *,
        port: int,
        closing: threading.Event,
        interrupt: Interrupt | None = None,
        tls: ssl.SSLContext | None = None,
        max_connections: int | None = None,
    ) -> None:
        self._closing = closing
        self._respond = respond
        self._interrupt = interrupt
        self._tls = tls
        self._max_connections = max_connections
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

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        with self._lock:
            return len(self._open)

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
            if self._max_connections is not None and self.connections >= self._max_connections:
                self._closing.wait(0.01)
                continue
            try:
                connection, peer = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:  # shut down by close(), or out of descriptors
                self._closing.wait(0.01)
                continue
            self._start_worker(connection, peer[1])

    def _start_worker(self, connection: socket.socket, client_port: int) -> None:
        if self._tls is not None:
            try:
                connection = self._tls.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            except OSError:  # the client has gone already
                connection.close()
                return
        with self._lock:
            worker = threading.Thread(
                target=self._serve,
                args=(connection, client_port),
                name="lionlite-fake-worker",
                daemon=True,
            )
            self._open.add(connection)
            self._workers.add(worker)
        worker.start()

    def _serve(self, connection: socket.socket, client_port: int) -> None:
        try:
            # OSError: the client went, or close() cut the connection.
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                handshake = getattr(connection, "do_handshake", None)
                if handshake is not None:  # it speaks TLS
                    handshake()
                requests = Requests(connection, client_port)
                while self._exchange(connection, requests):
                    continue
        finally:
            with self._lock:
                self._open.discard(connection)
                self._workers.discard(threading.current_thread())
            connection.close()

    def _exchange(self, connection: socket.socket, requests: Requests) -> bool:
        """Serve one request; return whether the connection goes on."""
        reply: HttpReply | SteppedReply | None
        try:
            head = requests.next_head()
            if head is None:
                return False
            keeps_alive = head.keeps_alive
            reply = self._reply_to(head, requests)
        except RefusedError as refused:
            keeps_alive, reply = False, refused.reply
        if reply is None:
            return False
        goes_on = keeps_alive and reply.after == "keep"
        if isinstance(reply, SteppedReply):
            return _take_steps(connection, reply) and goes_on
        lies = reply.is_silent or reply.sent_bytes is not None
        connection.sendall(render(reply, will_close=not goes_on and not lies))
        _end(connection, reply.after)
        return goes_on

    def _reply_to(self, head: Head, requests: Requests) -> HttpReply | SteppedReply | None:
        if self._interrupt is not None:
            reply = self._interrupt(head, requests.arrival_s, requests.client_port)
            if reply is not None:
                return reply
        request = requests.rest_of(head)
        return None if request is None else self._respond(request)


def _listen(port: int) -> socket.socket:
    try:
        listener = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
    except OSError as exc:
        msg = f"port={port} cannot be listened on: {exc}. Give a free port, or 0 for any."
        raise ConfigError(msg) from exc
    listener.settimeout(_ACCEPT_S)
    return listener


def _take_steps(connection: socket.socket, reply: SteppedReply) -> bool:
    """Send and wait as *reply* says; return whether the client stayed to its end."""
    with contextlib.closing(reply.steps):
        for step in reply.steps:
            if isinstance(step, bytes):
                connection.sendall(step)
            elif _has_left(connection, step):
                return False
    _end(connection, reply.after)
    return True


def _has_left(connection: socket.socket, wait_s: float) -> bool:
    """Wait; return, at once, whether the client closed its end or close() cut ours."""
    poller = select.poll()
    poller.register(connection, _LEFT)
    return bool(poller.poll(wait_s * _MS))


def _end(connection: socket.socket, after: After) -> None:
    if after == "hold":
        # Wakes when the client closes its end, and when close() shuts ours.
        while connection.recv(_CHUNK):
            continue
    elif after == "deaf":
        while not _has_left(connection, _LOOK_S):
            continue
    elif after == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Not SSLSocket's own, which drops the TLS state under a send.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
