"""One cancel and 256 blocked threads: all are back at once, whatever they wait for."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest
from proxy_tools import over_tls, server_context
from wire_tools import (
    LARGE,
    RawServer,
    black_hole,
    deaf,
    exchange,
    hang,
    opened,
    receive,
    wait_until,
)

from lionlite.exceptions import Cancelled
from lionlite.scope import CancelToken, Scope, cancellable, entered
from lionlite.service.transport import connect
from lionlite.service.transport.connect import Origin
from lionlite.service.transport.connections import Connections
from lionlite.service.transport.link import Link

THREADS = 256
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def head_then_silence(sock, number):
    receive(sock)
    sock.sendall(HEAD)
    sock.recv(1)


def silence(sock, number):
    """Take part in no handshake."""
    threading.Event().wait(60)


@contextlib.contextmanager
def blocked_in(what, certificates):
    """Yield what a thread calls to be blocked in *what*."""
    with contextlib.ExitStack() as stack:
        if what == "connect":
            port, is_tls = stack.enter_context(black_hole()), False
        else:
            context = server_context(certificates, "here")
            serve, is_tls = {
                "handshake": (silence, True),
                "send": (deaf, False),
                "receive": (hang, False),
                "receive over TLS": (over_tls(hang, context), True),
                "stream": (head_then_silence, False),
                "stream over TLS": (over_tls(head_then_silence, context), True),
            }[what]
            port = stack.enter_context(RawServer(serve)).port
        pool = Connections(Origin("127.0.0.1", port, is_tls))
        yield {
            "send": lambda: exchange(pool, LARGE),
            "stream": lambda: list(opened(pool).chunks()),
            "stream over TLS": lambda: list(opened(pool).chunks()),
        }.get(what, lambda: exchange(pool))
        assert pool.idle_count == 0


def open_descriptors():
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def returns_after_cancel(work, threads, *, settle_s):
    """Run *work* in *threads*, cancel; return when each was back and how it ended."""
    token, ends = CancelToken(), []
    waiting = threading.Semaphore(0)

    def run():
        with entered(Scope(token=token)):
            waiting.release()
            try:
                work()
                ends.append((time.monotonic(), "done"))
            except BaseException as exc:
                ends.append((time.monotonic(), type(exc)))

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for _ in workers:
        waiting.acquire()
    time.sleep(settle_s)
    assert ends == []
    began_s = time.monotonic()
    token.cancel()
    for worker in workers:
        worker.join(20)
    return max(end_s for end_s, _ in ends) - began_s, {outcome for _, outcome in ends}


@pytest.mark.parametrize(
    "what",
    ["connect", "handshake", "send", "receive", "receive over TLS", "stream", "stream over TLS"],
)
def test_one_cancel_brings_all_blocked_threads_back(certificates, trusted, what):
    before = open_descriptors()
    with blocked_in(what, certificates) as work:
        threads = 32 if what == "send" else THREADS

        took_s, outcomes = returns_after_cancel(work, threads, settle_s=1.0)

    print(f"{threads} threads in {what}: all back {took_s * 1000:.0f} ms after the cancel")
    assert outcomes == {Cancelled}
    assert took_s < 2
    # The server's side closes a moment later.
    wait_until(lambda: open_descriptors() <= before)


def test_a_thread_that_begins_after_the_cancel_sends_nothing():
    with RawServer(hang) as server, cancellable() as token:
        token.cancel()
        with pytest.raises(Cancelled):
            exchange(server.connections())

        assert server.accepted == []


def test_a_cancel_just_before_the_end_never_hits_the_next_owner_of_the_descriptor():
    """The waker is gone before the socket is closed, so a number that is used again is safe."""
    stop, broken = threading.Event(), []

    def churn():
        # Gets the descriptors that the links give back.
        while not stop.is_set():
            left, right = socket.socketpair()
            with left, right:
                left.sendall(b"x")
                if right.recv(1) != b"x" or right.getpeername() is None:
                    broken.append("cut")

    def guarded():
        try:
            churn()
        except OSError as exc:
            broken.append(exc)

    others = [threading.Thread(target=guarded) for _ in range(2)]
    for other in others:
        other.start()
    for _ in range(400):
        ours, theirs = socket.socketpair()
        link, token = Link(ours), CancelToken()
        canceller = threading.Thread(target=token.cancel)
        with theirs:
            with link.cut.on_cancel(token):
                canceller.start()
            link.close()
        canceller.join()
    stop.set()
    for other in others:
        other.join()

    assert broken == []


def test_nothing_leaves_in_clear_after_a_cut(certificates, trusted):
    """The server sees TLS records and the end, however the cut falls into the sending."""
    seen = []

    def serve(sock, number):
        with server_context(certificates, "here").wrap_socket(sock, server_side=True) as tls:
            tls.recv(1)
            raw = socket.socket(fileno=tls.detach())
        data = b""
        with raw, contextlib.suppress(OSError):
            while piece := raw.recv(1 << 20):
                data += piece
        seen.append(data)

    with RawServer(serve) as server:
        for _ in range(20):
            with cancellable() as token:
                sock = connect.connect(Origin("127.0.0.1", server.port, is_tls=True))
                link = Link(sock)
                timer = threading.Timer(0.01, token.cancel)
                timer.start()
                with contextlib.suppress(OSError), link.cut.on_cancel(token):
                    while True:
                        link.send(memoryview(b"PLAINTEXT" * 50_000), time.monotonic() + 5)
                timer.join()
                # What a careless owner might still do.
                with contextlib.suppress(OSError):
                    link.send(memoryview(b"PLAINTEXT"), time.monotonic() + 0.1)
                link.close()
        until_s = time.monotonic() + 10
        while len(seen) < 20 and time.monotonic() < until_s:
            time.sleep(0.01)

    assert len(seen) == 20
    assert not any(b"PLAINTEXT" in data for data in seen)
