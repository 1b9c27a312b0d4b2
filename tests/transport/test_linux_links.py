"""Links over TCP on Linux: waits that the kernel ends, and news that need no look."""

from __future__ import annotations

import math
import signal
import socket
import ssl
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lionlite.service.transport.link import Link
from lionlite.service.transport.linux import PlainLink, TlsLink, link_over

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="needs Linux")


@pytest.fixture
def pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        yield near, far


@pytest.fixture
def link(pair):
    return link_over(pair[0])


def within(seconds):
    return time.monotonic() + seconds


def until(holds):
    ends_at_s = within(10)
    while not holds():
        assert time.monotonic() < ends_at_s
        time.sleep(0.002)


def test_a_tcp_socket_gets_it_and_another_does_not(link):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        other = link_over(ours)

        assert (type(link), type(other)) == (PlainLink, Link)


def test_an_idle_connection_has_no_news(pair, link):
    far = pair[1]
    assert not link.has_news()

    for size in (1, 100_000):
        far.sendall(b"x" * size)
        got = 0
        while got < size:
            got += len(link.receive(within(10)))

        assert not link.has_news()


@pytest.mark.parametrize("word", [b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"x"])
def test_what_came_unasked_is_news(pair, link, word):
    pair[1].sendall(b"the reply")
    assert link.receive(within(10)) == b"the reply"

    pair[1].sendall(word)

    until(link.has_news)


@pytest.mark.parametrize("how", [socket.SHUT_WR, None])
def test_a_connection_that_was_closed_is_news(pair, link, how):
    if how is None:
        pair[1].close()
    else:
        pair[1].shutdown(how)

    until(link.has_news)


def test_bytes_that_were_there_before_are_news_once_read():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        far.sendall(b"early")
        time.sleep(0.05)
        link = link_over(near)
        assert link.receive(within(10)) == b"early"

        # It cannot know, and so the connection is not used again: nothing worse.
        assert link.has_news()


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.3])
def test_a_wait_ends_at_its_instant(link, seconds):
    ends_at_s = within(seconds)

    with pytest.raises(TimeoutError):
        link.receive(ends_at_s)

    assert 0 <= time.monotonic() - ends_at_s < 0.5


def test_a_timer_of_a_longer_wait_does_not_outlive_a_shorter_one(pair, link):
    pair[1].sendall(b"one")
    link.receive(within(600))

    ends_at_s = within(0.1)
    with pytest.raises(TimeoutError):
        link.receive(ends_at_s)
    assert time.monotonic() - ends_at_s < 0.5

    pair[1].sendall(b"two")
    assert link.receive(within(600)) == b"two"


def test_a_timer_of_a_shorter_wait_does_not_end_a_longer_one(pair, link):
    with pytest.raises(TimeoutError):
        link.receive(within(0.05))
    timer = threading.Timer(0.3, pair[1].sendall, [b"late"])
    timer.start()

    assert link.receive(math.inf) == b"late"
    timer.join()


def test_a_send_that_nobody_reads_ends_at_its_instant(link):
    ends_at_s = within(0.2)

    with pytest.raises(TimeoutError):
        link.send(memoryview(bytes(50_000_000)), ends_at_s)

    assert time.monotonic() - ends_at_s < 1


def test_all_of_a_large_request_arrives(pair, link):
    sent = bytes(range(256)) * 20_000
    got = []

    def read():
        while piece := pair[1].recv(100_000):
            got.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    link.send(memoryview(sent), within(30))
    link.close()
    reader.join(30)

    assert b"".join(got) == sent


@pytest.mark.parametrize("what", ["receive", "send"])
def test_a_cut_wakes_whoever_waits(link, what):
    ends = []

    def wait():
        try:
            if what == "receive":
                ends.append(link.receive(within(60)))
            else:
                link.send(memoryview(bytes(50_000_000)), within(60))
        except OSError as error:
            ends.append(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    began_s = time.monotonic()
    link.cut()
    thread.join(10)

    assert time.monotonic() - began_s < 2
    assert ends == ([b""] if what == "receive" else [BrokenPipeError])


@pytest.mark.parametrize("is_sending", [False, True], ids=["receive", "send"])
def test_signals_do_not_prolong_a_wait(pair, link, is_sending):
    """After each one Python would begin the system call anew, with a whole timer."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    closer = threading.Timer(2, pair[1].close)
    closer.start()
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    ends_at_s = within(0.3)
    try:
        with pytest.raises(TimeoutError):
            if is_sending:
                link.send(memoryview(b"x" * 50_000_000), ends_at_s)
            else:
                link.receive(ends_at_s)
        late_s = time.monotonic() - ends_at_s
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        closer.cancel()

    assert 0 <= late_s < 0.5


# With TLS


@pytest.fixture
def tls_pair(certificates):
    """Two ends of one TLS connection; the far one has sent its tickets."""
    ours = ssl.create_default_context(cafile=str(certificates / "authority.pem"))
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificates / "here.pem", certificates / "here.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with ThreadPoolExecutor(1) as pool:
        sealed = pool.submit(theirs.wrap_socket, far, server_side=True)
        near = ours.wrap_socket(near, server_hostname="localhost")
        far = sealed.result(10)
    with near, far:
        yield near, far


@pytest.fixture
def tls_link(tls_pair):
    """A link over its near end that has read one reply, and the tickets before it."""
    link = link_over(tls_pair[0])
    tls_pair[1].sendall(b"the reply")
    assert link.receive(within(10)) == b"the reply"
    return link


def test_a_tls_socket_gets_its_own(tls_link):
    assert type(tls_link) is TlsLink


def test_an_idle_tls_connection_has_no_news(tls_pair, tls_link):
    assert not tls_link.has_news()

    for size in (1, 100_000):
        tls_pair[1].sendall(b"x" * size)
        got = 0
        while got < size:
            got += len(tls_link.receive(within(10)))

        assert not tls_link.has_news()


def test_of_two_records_the_one_that_was_not_asked_for_is_news(tls_pair, tls_link):
    tls_pair[1].sendall(b"asked")
    tls_pair[1].sendall(b"not asked")
    time.sleep(0.05)

    assert tls_link.receive(within(10)) == b"asked"

    assert tls_link.has_news()


@pytest.mark.parametrize("how", ["close", "shutdown", "reset"])
def test_a_tls_connection_that_was_closed_is_news(tls_pair, tls_link, how):
    far = tls_pair[1]
    if how == "reset":
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "shutdown":
        socket.socket.shutdown(far, socket.SHUT_WR)
    else:
        far.close()

    until(tls_link.has_news)


def test_a_tls_wait_ends_at_its_instant_though_pieces_of_a_record_come(tls_pair, tls_link):
    far, is_over = tls_pair[1], threading.Event()
    raw = socket.socket(fileno=far.detach())

    def drip():
        raw.sendall(b"\x17\x03\x03\x40\x00")  # the head of a record of 16 KiB
        while not is_over.wait(0.01):
            raw.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    ends_at_s = within(0.3)
    try:
        with pytest.raises(TimeoutError):
            tls_link.receive(ends_at_s)
        late_s = time.monotonic() - ends_at_s
    finally:
        is_over.set()
        thread.join(10)
        raw.close()

    assert 0 <= late_s < 0.5


def test_a_sender_that_never_stops_does_not_outlast_the_deadline(tls_pair, tls_link):
    tls_pair[1].sendall(b"x" * 100_000)
    time.sleep(0.05)

    with pytest.raises(TimeoutError):
        tls_link.receive(time.monotonic() - 0.001)
