"""What the tests of the transport share: servers of raw bytes, deadlines, cancels."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import threading
import time

import pytest

from lionlite.exceptions import Cancelled, DeadlineExceeded
from lionlite.scope import cancellable, deadline
from lionlite.service.transport.connect import Origin
from lionlite.service.transport.connections import Connections

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LINGER_NONE = struct.pack("ii", 1, 0)

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


class Milestones:
    """Notes what it is told."""

    def __init__(self):
        self.seen = []

    def sent(self):
        self.seen.append("sent")

    def replied(self):
        self.seen.append("replied")


class RawServer:
    """Gives each accepted socket, with its number from 1, to *serve* in a thread."""

    def __init__(self, serve):
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self.accepted = []
        self.closing = threading.Event()
        self._accepter = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self):
        self._accepter.start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        # A blocked accept() keeps the listener open until something wakes it.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepter.join(10)
        self._listener.close()
        for sock in self.accepted:
            sock.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.accepted.append(sock)
                number = len(self.accepted)
                threading.Thread(target=self._run, args=(sock, number), daemon=True).start()

    def _run(self, sock, number):
        with contextlib.suppress(OSError):
            self._serve(sock, number)

    def connections(self):
        return Connections(Origin("127.0.0.1", self.port, is_tls=False))


def receive(sock):
    """Read one request; return its body, None if the client left."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65_536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.rpartition(b"Content-Length: ")[2])
    while len(body) < length:
        body += sock.recv(65_536)
    return body


def echo(sock, number):
    """Answer each request with the number of its connection."""
    while receive(sock) is not None:
        sock.sendall(REPLY.replace(b"ok", b"%02d" % number))


def once(*pieces, reset=False):
    """Return what answers one request with *pieces*, then closes."""

    def serve(sock, number):
        receive(sock)
        for piece in pieces:
            sock.sendall(piece)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        sock.close()

    return serve


def hang(sock, number):
    receive(sock)
    sock.recv(1)


def late(seconds):
    """Return what answers after *seconds*."""

    def serve(sock, number):
        receive(sock)
        time.sleep(seconds)
        sock.sendall(REPLY)

    return serve


def deaf(sock, number):
    """Read nothing at all."""
    threading.Event().wait(60)


def drip(head, piece):
    """Return what sends *head* at once, and then *piece* again and again."""

    def serve(sock, number):
        receive(sock)
        sock.sendall(head)
        while True:
            sock.sendall(piece)
            time.sleep(0.02)

    return serve


def request(body=b"{}"):
    return memoryview(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


LARGE = request(b"x" * 50_000_000)


def exchange(pool, message=None):
    return pool.exchange(message or request(), Milestones()).body


def opened(pool, **how):
    return pool.open(request(), Milestones(), **how)


@contextlib.contextmanager
def black_hole():
    """Yield the port of a listener whose queue is full: nobody gets through."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        yield address[1]


@contextlib.contextmanager
def cancelled_after(seconds):
    """Cancel the block from another thread; assert that it ends soon after."""
    with cancellable() as token:
        timer = threading.Timer(seconds, token.cancel)
        timer.start()
        began_s = time.monotonic()
        with pytest.raises(Cancelled):
            yield
        timer.join()
        assert time.monotonic() - began_s < seconds + 0.5


def wait_until(is_true):
    until_s = time.monotonic() + 10
    while not is_true() and time.monotonic() < until_s:
        time.sleep(0.005)
    assert is_true()


@contextlib.contextmanager
def ends_at(seconds, phase):
    """Assert that the block ends at its deadline, with *phase*."""
    began_s = time.monotonic()
    with pytest.raises(DeadlineExceeded) as caught, deadline(seconds):
        yield
    took_s = time.monotonic() - began_s
    assert caught.value.phase == phase
    assert seconds <= took_s < seconds + 0.5


def in_child(function):
    """Return the exit status of *function* run in a forked child."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        try:
            status = function()
        except BaseException:
            status = 99
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
