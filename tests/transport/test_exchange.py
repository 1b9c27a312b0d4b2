"""Exchanges over real sockets: reuse, faults at any byte, deadlines, cancelling, forks."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from wire_tools import (
    LARGE,
    REPLY,
    Milestones,
    RawServer,
    cancelled_after,
    deaf,
    drip,
    echo,
    ends_at,
    exchange,
    hang,
    in_child,
    late,
    needs_fork,
    once,
    opened,
    receive,
    request,
)

from lionlite.exceptions import (
    Cancelled,
    ConnectionFailed,
    DeadlineExceeded,
    ResponseError,
    ResponseTooLarge,
)
from lionlite.scope import Scope, cancellable, deadline, entered
from lionlite.service.transport import connections, link

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

        assert exchange(pool) == b"02"
        pool.close()


def test_connections_that_idle_too_long_are_closed_by_the_calls_of_others(monkeypatch):
    together = threading.Barrier(4)

    def serve(sock, number):
        while (body := receive(sock)) is not None:
            if body == b"together":
                together.wait(10)
            sock.sendall(REPLY)

    with RawServer(serve) as server:
        pool = server.connections()
        message = request(b"together")
        threads = [threading.Thread(target=exchange, args=(pool, message)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        before = pool.idle_count
        time.sleep(0.1)
        monkeypatch.setattr(connections, "MAX_IDLE_S", 0.1)
        for _ in range(3):
            exchange(pool)

        assert (before, pool.idle_count) == (4, 1)
        pool.close()


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
        first, second = opened(pool), opened(pool)
        first.read()
        monkeypatch.setattr(pool, "_reap", pool.close)

        second.read()

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


def test_a_silence_longer_than_any_socket_waits_is_waited_for_in_steps(monkeypatch):
    monkeypatch.setattr(link, "MAX_STEP_S", 0.02)

    with RawServer(late(0.2)) as server:
        pool = server.connections()

        assert exchange(pool) == b"ok"
        pool.close()


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


@needs_fork
def test_a_child_never_uses_the_parents_connection():
    with RawServer(echo) as server:
        pool = server.connections()
        before = exchange(pool)

        in_children = [in_child(lambda: int(exchange(pool))) for _ in range(2)]
        after = exchange(pool)

        assert (before, in_children, after) == (b"01", [2, 3], b"01")
        pool.close()
