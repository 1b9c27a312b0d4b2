"""Open replies over real sockets: pieces as they arrive, cuts, idling, two scopes, abandonment."""

from __future__ import annotations

import gc
import gzip
import socket
import threading
import time
import zlib

import pytest
from wire_tools import (
    LINGER_NONE,
    Milestones,
    RawServer,
    cancelled_after,
    drip,
    ends_at,
    hang,
    in_child,
    needs_fork,
    once,
    opened,
    receive,
    request,
    wait_until,
)

from lionlite.exceptions import (
    Cancelled,
    ConnectionFailed,
    DeadlineExceeded,
    ResponseError,
    ResponseTooLarge,
)
from lionlite.scope import cancellable, deadline
from lionlite.service.transport import streamed

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream(*pieces, head=CHUNKED, end=END):
    """Return what answers every request with chunks of *pieces*."""

    def serve(sock, number):
        while receive(sock) is not None:
            sock.sendall(head)
            for piece in pieces:
                sock.sendall(chunk(piece))
            sock.sendall(end)

    return serve


def step_by_step(*pieces, head=CHUNKED):
    """Return a server, and the semaphore that lets it send its next piece."""
    go = threading.Semaphore(0)

    def serve(sock, number):
        receive(sock)
        sock.sendall(head)
        for piece in pieces:
            go.acquire()
            sock.sendall(piece)
        sock.recv(1)

    return serve, go


def left_by_client(seen):
    """Return what begins a reply, and tells *seen* when the client has gone."""

    def serve(sock, number):
        receive(sock)
        sock.sendall(CHUNKED + chunk(b"one"))
        seen.append(sock.recv(1))

    return serve


# Pieces -----------------------------------------------------------------------


def test_the_head_is_there_before_the_body():
    serve, go = step_by_step(chunk(b"one"), chunk(b"two") + END)
    with RawServer(serve) as server:
        pool, milestones = server.connections(), Milestones()

        reply = pool.open(request(), milestones)
        seen = list(milestones.seen)
        go.release(2)
        body = b"".join(reply.chunks())

        assert (reply.status, reply.headers) == (200, {"transfer-encoding": "chunked"})
        assert (seen, body, pool.idle_count) == (["sent", "replied"], b"onetwo", 1)
        pool.close()


@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "gzip"])
def test_each_piece_comes_as_soon_as_it_arrives(is_packed):
    texts, packer = [b"one", b"two", b"three"], zlib.compressobj(wbits=31)
    if is_packed:
        texts_out = [packer.compress(t) + packer.flush(zlib.Z_SYNC_FLUSH) for t in texts]
        head = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
        last = chunk(packer.flush()) + END
    else:
        texts_out, head, last = texts, CHUNKED, END
    serve, go = step_by_step(*map(chunk, texts_out), last, head=head)
    with RawServer(serve) as server:
        pool, seen = server.connections(), []
        chunks = opened(pool).chunks()

        for _ in texts:
            go.release()
            seen.append(next(chunks))
        go.release()
        rest = list(chunks)

        assert (seen, rest) == (texts, [])
        pool.close()


def test_a_connection_whose_reply_was_read_is_used_again():
    with RawServer(stream(b"one", b"two")) as server:
        pool = server.connections()

        bodies = [b"".join(opened(pool).chunks()) for _ in range(3)]

        assert (bodies, len(server.accepted), pool.idle_count) == ([b"onetwo"] * 3, 1, 1)
        pool.close()


def test_streams_and_exchanges_share_a_connection():
    with RawServer(stream(b"one")) as server:
        pool = server.connections()

        first = pool.exchange(request(), Milestones()).body
        second = b"".join(opened(pool).chunks())
        third = opened(pool).read().body

        assert ([first, second, third], len(server.accepted)) == ([b"one"] * 3, 1)
        pool.close()


def test_read_gives_the_rest_that_chunks_left():
    serve, go = step_by_step(chunk(b"one"), chunk(b"two") + END)
    with RawServer(serve) as server:
        pool = server.connections()
        reply = opened(pool)
        go.release()

        first = next(reply.chunks())
        go.release()

        assert (first, reply.read().body, list(reply.chunks())) == (b"one", b"two", [])
        pool.close()


def test_a_reply_to_the_end_of_the_connection_streams_whole():
    with RawServer(once(b"HTTP/1.1 200 OK\r\n\r\n", b"to the ", b"end")) as server:
        pool = server.connections()

        assert b"".join(opened(pool).chunks()) == b"to the end"
        assert pool.idle_count == 0


# Cuts -------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize(
    "wire",
    [CHUNKED + chunk(b"one"), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\none"],
    ids=["chunked", "length"],
)
def test_a_body_cut_early_is_a_failure_after_what_arrived(wire, reset):
    read = threading.Event()

    def serve(sock, number):
        receive(sock)
        sock.sendall(wire)
        read.wait(10)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        sock.close()

    with RawServer(serve) as server:
        pool = server.connections()
        chunks = opened(pool).chunks()

        assert next(chunks) == b"one"
        read.set()
        with pytest.raises(ConnectionFailed, match=r"closed the connection|connection broke"):
            next(chunks)
        assert pool.idle_count == 0


@pytest.mark.parametrize(
    ("wire", "problem"),
    [
        (CHUNKED + b"zz\r\n", "not valid HTTP"),
        (CHUNKED + chunk(b"one") + b"0\r\nX: " + b"t" * 200_000, "extensions or trailers"),
        (CHUNKED + (b"1;" + b"e" * 9_000 + b"\r\nx\r\n") * 30, "extensions or trailers"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!",
            "gzip is broken",
        ),
    ],
    ids=["chunk size", "trailer", "extensions", "gzip"],
)
def test_a_body_that_breaks_the_rules_ends_the_stream(wire, problem):
    with RawServer(once(wire)) as server:
        pool = server.connections()

        with pytest.raises(ResponseError, match=problem):
            list(opened(pool).chunks())


def test_a_coding_that_was_not_asked_for_is_refused_at_once():
    with RawServer(hang_after(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n")) as server:
        pool = server.connections()

        with pytest.raises(ResponseError, match="encoded as 'br'"):
            opened(pool)

        assert pool.idle_count == 0


@pytest.mark.parametrize("status", [401, 429])
@pytest.mark.parametrize(
    ("coding", "body", "is_read"),
    [
        (b"br", b"plain", True),
        (b"gzip", b"plain", True),
        (b"gzip", gzip.compress(b"plain"), True),
        (b"gzip", gzip.compress(bytes(1000))[:-9], False),
        (b"br", b"\xff\x00", False),
    ],
    ids=["wrong coding", "no gzip", "gzip", "cut gzip", "br"],
)
def test_a_coding_hides_no_status_that_says_no(status, coding, body, is_read):
    fields = b"Content-Encoding: " + coding, b"Content-Length: %d" % len(body)
    wire = b"\r\n".join((b"HTTP/1.1 %d No" % status, *fields, b"", body))
    with RawServer(once(wire)) as server:
        reply = opened(server.connections()).read()
        whole = server.connections().exchange(request(), Milestones())

    assert reply.status == whole.status == status
    assert reply.body == whole.body == (b"plain" if is_read else b"")


@pytest.mark.parametrize("stop", ["opened", "reading"])
def test_what_is_packed_in_one_piece_can_be_stopped_while_it_comes_out(stop):
    packed = gzip.compress(bytes(10_000_000))
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    with RawServer(stream(packed, head=head)) as server, cancellable() as outer:
        chunks = opened(server.connections()).chunks()
        with cancellable() as inner:
            next(chunks)
            (outer if stop == "opened" else inner).cancel()
            with pytest.raises(Cancelled):
                next(chunks)


def hang_after(head):
    def serve(sock, number):
        receive(sock)
        sock.sendall(head)
        sock.recv(1)

    return serve


@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "gzip"])
def test_caps_hold_for_streams_and_for_what_is_read_whole(monkeypatch, is_packed):
    monkeypatch.setattr(streamed, "MAX_STREAM_BYTES", 100_000)
    monkeypatch.setattr(streamed, "MAX_BODY_BYTES", 50_000)
    body = bytes(100_001)
    sent, head = body, CHUNKED
    if is_packed:
        sent = gzip.compress(body)
        head = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")

    with RawServer(stream(sent, head=head)) as server:
        pool = server.connections()
        with pytest.raises(ResponseTooLarge, match="longer than 100,000 bytes"):
            list(opened(pool).chunks())
        with pytest.raises(ResponseTooLarge, match="longer than 50,000 bytes"):
            opened(pool).read()


# Waits ------------------------------------------------------------------------


def test_silence_longer_than_idle_s_ends_the_stream():
    with RawServer(hang_after(CHUNKED + chunk(b"one"))) as server, deadline(30):
        began_s = time.monotonic()
        chunks = opened(server.connections(), idle_s=0.2).chunks()

        assert next(chunks) == b"one"
        with pytest.raises(DeadlineExceeded, match=r"sent nothing for 0\.2 s") as caught:
            next(chunks)
        assert caught.value.phase == "read"
        assert time.monotonic() - began_s < 0.8


def test_silence_before_the_head_counts_too():
    with RawServer(hang) as server, pytest.raises(DeadlineExceeded, match="sent nothing"):
        opened(server.connections(), idle_s=0.1)


def test_bytes_that_keep_coming_are_not_idle():
    with RawServer(drip(CHUNKED, chunk(b"x"))) as server:
        chunks = opened(server.connections(), idle_s=0.5).chunks()

        began_s = time.monotonic()
        while time.monotonic() - began_s < 0.8:
            assert next(chunks).strip(b"x") == b""


@pytest.mark.parametrize("piece", [b"", b"1;"], ids=["silence", "half a chunk"])
def test_the_deadline_of_opening_bounds_reading_outside_of_it(piece):
    with RawServer(drip(CHUNKED, piece) if piece else hang_after(CHUNKED)) as server:
        began_s = time.monotonic()
        with deadline(0.3):
            chunks = opened(server.connections()).chunks()

        with pytest.raises(DeadlineExceeded):
            next(chunks)
        assert 0.3 <= time.monotonic() - began_s < 0.8


def test_the_deadline_of_reading_bounds_it_too():
    with RawServer(hang_after(CHUNKED)) as server:
        with deadline(30):
            chunks = opened(server.connections()).chunks()

        with ends_at(0.2, "read"):
            next(chunks)


def test_a_cancel_of_either_scope_wakes_a_read():
    with RawServer(hang_after(CHUNKED)) as server:
        pool = server.connections()
        with cancellable() as token:
            first = opened(pool).chunks()
        timer = threading.Timer(0.1, token.cancel)
        timer.start()
        began_s = time.monotonic()
        with pytest.raises(Cancelled):
            next(first)
        assert time.monotonic() - began_s < 0.6
        timer.join()

        second = opened(pool).chunks()
        with cancelled_after(0.1):
            next(second)


# Ends -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "drop", "in a cycle"])
def test_a_reply_left_early_closes_its_connection(how):
    seen = []
    with RawServer(left_by_client(seen)) as server:
        pool = server.connections()
        reply = opened(pool)
        chunks = reply.chunks()
        next(chunks)

        if how == "close":
            reply.close()
            reply.close()
            with pytest.raises(ConnectionFailed, match="closed before its end"):
                next(chunks)
        elif how == "drop":
            del reply, chunks
        else:
            reply.itself = reply
            del reply, chunks
            gc.collect()

        wait_until(lambda: seen == [b""])
        assert pool.idle_count == 0


def test_a_reply_closed_after_its_end_leaves_the_next_user_alone():
    with RawServer(stream(b"one")) as server:
        pool = server.connections()
        first = opened(pool)
        first.read()
        second = opened(pool)

        first.close()

        assert (second.read().body, len(server.accepted)) == (b"one", 1)
        pool.close()


def test_a_pool_closed_under_a_stream_keeps_nothing():
    with RawServer(stream(b"one")) as server:
        pool = server.connections()
        reply = opened(pool)

        pool.close()

        assert (b"".join(reply.chunks()), pool.idle_count) == (b"one", 0)


@needs_fork
def test_a_child_that_drops_the_parents_reply_leaves_it_whole():
    serve, go = step_by_step(chunk(b"one") + END)
    with RawServer(serve) as server:
        pool = server.connections()
        replies = [opened(pool)]

        status = in_child(lambda: replies.clear() or 7)
        go.release()

        assert (status, replies[0].read().body) == (7, b"one")
        pool.close()
