"""Exchanges over real sockets: reuse, faults at any byte, deadlines, cancelling, forks."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import threading
import time

import pytest

from lionlite.exceptions import (
    Cancelled,
    ConnectionFailed,
    DeadlineExceeded,
    ResponseError,
    ResponseTooLarge,
)
from lionlite.scope import Scope, cancellable, deadline, entered
from lionlite.service.transport import connections
from lionlite.service.transport import exchange as transport_exchange
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
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
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


@contextlib.contextmanager
def ends_at(seconds, phase):
    """Assert that the block ends at its deadline, with *phase*."""
    began_s = time.monotonic()
    with pytest.raises(DeadlineExceeded) as caught, deadline(seconds):
        yield
    took_s = time.monotonic() - began_s
    assert caught.value.phase == phase
    assert seconds <= took_s < seconds + 0.5


# Reuse ------------------------------------------------------------------------


def test_a_connection_is_used_again():
    with RawServer(echo) as server:
        pool = server.connections()

        bodies = [exchange(pool) for _ in range(3)]

        assert (bodies, len(server.accepted), pool.idle_count) == ([b"01"] * 3, 1, 1)
        pool.close()


def test_the_connection_given_back_last_is_taken_first():
    released = {1: threading.Event(), 2: threading.Event()}
    arrived = threading.Semaphore(0)

    def serve(sock, number):
        while receive(sock) is not None:
            arrived.release()
            released[number].wait(10)
            sock.sendall(REPLY.replace(b"ok", b"%02d" % number))

    with RawServer(serve) as server:
        pool = server.connections()
        threads = []
        for _ in range(2):
            threads.append(threading.Thread(target=exchange, args=(pool,)))
            threads[-1].start()
            arrived.acquire()
        for number in (2, 1):
            released[number].set()
            threads[number - 1].join()

        assert (exchange(pool), pool.idle_count) == (b"01", 2)
        pool.close()


@pytest.mark.parametrize("last_word", [b"", b"HTTP/1.1 408 Timeout\r\n\r\n"], ids=["FIN", "408"])
def test_a_connection_found_stale_is_replaced_unseen(last_word):
    gone = threading.Event()

    def serve(sock, number):
        receive(sock)
        sock.sendall(REPLY.replace(b"ok", b"%02d" % number))
        sock.sendall(last_word)
        sock.shutdown(socket.SHUT_WR)
        gone.set()

    with RawServer(serve) as server:
        pool = server.connections()
        first = exchange(pool)
        assert gone.wait(10)

        second = exchange(pool)

        assert (first, second) == (b"01", b"02")
        pool.close()


def test_a_connection_that_said_close_is_not_used_again():
    reply = REPLY.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    with RawServer(once(reply)) as server:
        pool = server.connections()

        assert (exchange(pool), exchange(pool), pool.idle_count) == (b"ok", b"ok", 0)
        assert len(server.accepted) == 2


def test_an_old_connection_is_not_used_again(monkeypatch):
    with RawServer(echo) as server:
        pool = server.connections()
        exchange(pool)
        monkeypatch.setattr(connections, "MAX_IDLE_S", -1.0)

        assert (exchange(pool), pool.idle_count) == (b"02", 0)


def test_a_closed_pool_keeps_nothing():
    with RawServer(echo) as server:
        pool = server.connections()
        exchange(pool)

        pool.close()
        idle = pool.idle_count
        exchange(pool)

        assert (idle, pool.idle_count) == (0, 0)


def test_closing_while_one_is_given_back_closes_it_too(monkeypatch):
    with RawServer(echo) as server:
        pool = server.connections()
        monkeypatch.setattr(pool, "_reap", pool.close)

        exchange(pool)

        assert pool.idle_count == 0


def test_giving_back_and_closing_in_many_threads_loses_no_connection():
    with RawServer(echo) as server:
        pool = server.connections()
        together = threading.Barrier(8)

        def work():
            together.wait()
            for _ in range(50):
                exchange(pool)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert pool.idle_count == len(server.accepted) <= 16
        pool.close()
        assert pool.idle_count == 0


# Milestones -------------------------------------------------------------------


def test_sent_and_replied_are_told_once_and_in_order():
    with RawServer(once(*[bytes([byte]) for byte in REPLY])) as server:
        milestones = Milestones()

        server.connections().exchange(request(), milestones)

        assert milestones.seen == ["sent", "replied"]


def test_a_request_cut_half_way_counts_as_sent():
    with RawServer(deaf) as server:
        milestones = Milestones()

        with pytest.raises(DeadlineExceeded), deadline(0.1):
            server.connections().exchange(LARGE, milestones)

        assert milestones.seen == ["sent"]


# Faults -----------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("sent", [0, 10, len(REPLY) - 1], ids=["nothing", "part of head", "body"])
def test_a_connection_cut_inside_the_reply_is_a_failure(sent, reset):
    with RawServer(once(REPLY[:sent], reset=reset)) as server:
        pool = server.connections()

        with pytest.raises(ConnectionFailed, match=r"closed the connection|connection broke"):
            exchange(pool)

        assert pool.idle_count == 0


def test_the_cause_of_a_broken_connection_holds_no_frames():
    """One of ssl.py would hold the request, and with it the key."""
    with RawServer(once(reset=True)) as server, pytest.raises(ConnectionFailed) as caught:
        exchange(server.connections())

    assert isinstance(caught.value.__cause__, ConnectionResetError)
    assert caught.value.__cause__.__traceback__ is None


def test_a_reply_to_the_end_of_the_connection_is_whole():
    with RawServer(once(b"HTTP/1.1 200 OK\r\n\r\nto the end")) as server:
        assert exchange(server.connections()) == b"to the end"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"<html>captive</html>", ResponseError),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000, ResponseTooLarge),
    ],
    ids=["HTML", "huge head"],
)
def test_a_reply_that_is_not_http_is_an_error_and_the_end(reply, kind):
    with RawServer(once(reply)) as server:
        pool = server.connections()

        with pytest.raises(kind):
            exchange(pool)

        assert pool.idle_count == 0


def test_an_early_refusal_is_read_though_the_request_was_not():
    refusal = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig"

    def serve(sock, number):
        sock.recv(1_000)
        sock.sendall(refusal)
        sock.close()  # with unread bytes: the client sees a reset

    with RawServer(serve) as server:
        reply = server.connections().exchange(LARGE, Milestones())

        assert (reply.status, reply.body) == (413, b"big")


def test_a_request_that_is_neither_read_nor_answered_is_a_failure():
    def serve(sock, number):
        sock.recv(1_000)
        sock.shutdown(socket.SHUT_RD)
        sock.close()

    with RawServer(serve) as server, pytest.raises(ConnectionFailed, match="connection broke"):
        exchange(server.connections(), LARGE)


# Deadlines --------------------------------------------------------------------


@pytest.mark.parametrize(
    "serve",
    [
        hang,
        drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["silence", "header", "body", "chunks", "100s"],
)
def test_a_reply_that_drips_ends_at_the_deadline(serve):
    with RawServer(serve) as server, ends_at(0.3, "read"):
        exchange(server.connections())


def test_a_request_that_is_not_taken_ends_at_the_deadline():
    with RawServer(deaf) as server, ends_at(0.3, "send"):
        exchange(server.connections(), LARGE)


def test_a_deadline_that_has_passed_connects_to_nothing():
    with RawServer(echo) as server:
        with pytest.raises(DeadlineExceeded), deadline(0):
            exchange(server.connections())

        assert server.accepted == []


def test_a_deadline_beyond_what_sockets_take_is_kept():
    """Sockets refuse timeouts of 25 days with OverflowError."""
    with RawServer(echo) as server, deadline(40 * 86_400):
        pool = server.connections()

        assert exchange(pool) == b"01"
        pool.close()


def test_a_silence_longer_than_any_socket_waits_is_too_late(monkeypatch):
    monkeypatch.setattr(transport_exchange, "MAX_STEP_S", 0.05)

    with RawServer(hang) as server, pytest.raises(DeadlineExceeded, match="during: read"):
        exchange(server.connections())


# Cancelling -------------------------------------------------------------------


@pytest.mark.parametrize(("serve", "message"), [(deaf, LARGE), (hang, None)], ids=["send", "read"])
def test_a_cancel_wakes_an_exchange(serve, message):
    with RawServer(serve) as server:
        pool = server.connections()

        with cancelled_after(0.1):
            exchange(pool, message)

        assert pool.idle_count == 0


def test_one_cancel_wakes_many_exchanges():
    with RawServer(hang) as server, cancellable() as token:
        pool, outcomes, arrived = server.connections(), [], threading.Semaphore(0)

        def work():
            with entered(Scope(token=token)):
                arrived.release()
                try:
                    exchange(pool)
                except Cancelled:
                    outcomes.append("cancelled")

        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for _ in threads:
            arrived.acquire()

        token.cancel()
        for thread in threads:
            thread.join(10)

        assert outcomes == ["cancelled"] * 16


# Forks ------------------------------------------------------------------------


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


@needs_fork
def test_a_child_never_uses_the_parents_connection():
    with RawServer(echo) as server:
        pool = server.connections()
        before = exchange(pool)

        in_children = [in_child(lambda: int(exchange(pool))) for _ in range(2)]
        after = exchange(pool)

        assert (before, in_children, after) == (b"01", [2, 3], b"01")
        pool.close()
