"""What no server can play: names, ports, black holes, certificates, and many calls at once."""

from __future__ import annotations

import random
import shutil
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from certificates import make_all, server_context
from fault_tools import CANARY, found_in, open_files, shown_by, still_open

import lionlite as ll
from lionlite.exceptions import ConnectionFailed, DeadlineExceeded, LionError
from lionlite.service import retry
from lionlite.service.transport import connect
from lionlite.testing import FaultServer
from lionlite.testing.faultserver import TEXT

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl, which makes the certificates, is not here"
)
VERBS = ("chat", "stream")


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch):
    monkeypatch.setattr(retry, "BASE_S", 0.0)


def service_at(base_url, **options):
    options = {"max_retries": 1, "timeout": 20, **options}
    return ll.Services.Compatible(base_url=base_url, model="m", api_key=CANARY, **options)


def ask(service, verb="chat", **options):
    session = ll.Session(service=service)
    if verb == "chat":
        return session.chat("hi", **options)
    with session.stream("hi", **options) as stream:
        return "".join(stream)


def fails(service, kind, verb, **facts):
    """Ask, and check what the error says, that nothing is held, and that no key shows."""
    with pytest.raises(kind) as caught:
        ask(service, verb)
    error = caught.value
    assert {name: getattr(error, name) for name in facts} == facts
    assert found_in(shown_by(error)) == []
    assert service.stats().budget.in_flight == 0
    return error


@contextmanager
def within(seconds):
    began_s = time.monotonic()
    yield
    assert time.monotonic() - began_s < seconds


# Names and ports ------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_a_name_that_is_not_found_is_tried_again(monkeypatch, verb):
    def getaddrinfo(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with service_at("https://x.invalid/v1") as service:
        error = fails(service, ConnectionFailed, verb, retryable=True, attempts=2)

    assert "Cannot find the host 'x.invalid'" in str(error)


@pytest.mark.parametrize("verb", VERBS)
def test_a_lookup_that_hangs_ends_at_the_deadline(monkeypatch, verb):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(30) and [])
    # A name of its own: a lookup that hangs is shared by all who ask.
    with service_at(f"https://{verb}.invalid/v1", timeout=0.3) as service, within(0.8):
        fails(service, DeadlineExceeded, verb, phase="connect", attempts=1)
    release.set()


@pytest.mark.parametrize("verb", VERBS)
def test_a_refused_port_is_tried_again(verb):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with service_at(f"http://127.0.0.1:{port}/v1") as service:
        fails(service, ConnectionFailed, verb, retryable=True, attempts=2)


@contextmanager
def black_hole():
    """Yield a port whose queue is full: a SYN to it is never answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        time.sleep(0.05)
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("verb", VERBS)
def test_a_black_hole_ends_at_the_deadline(verb):
    with black_hole() as port, service_at(f"http://127.0.0.1:{port}/v1", timeout=0.3) as service:
        with within(0.8):
            fails(service, DeadlineExceeded, verb, phase="connect", attempts=1)


# TLS --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    make_all(folder)
    return folder


@pytest.fixture
def tls(certificates, monkeypatch):
    """Return a maker of fault servers that speak TLS with a certificate of that name."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "authority.pem"))
    monkeypatch.setattr(connect, "_tls", None)

    def make(name="here", faults=None):
        return FaultServer(faults, tls=server_context(certificates, name), pause_s=0.02)

    return make


@needs_openssl
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("name", "why"),
    [("elsewhere", "match"), ("expired", "expired"), ("selfsigned", "self")],
)
def test_a_wrong_certificate_is_final(tls, name, why, verb):
    with tls(name) as server, service_at(server.base_url) as service:
        error = fails(service, ConnectionFailed, verb, retryable=False, attempts=1)

        assert why in str(error)
        assert server.requests == ()


TLS_FAULTS = {
    "rst_before_head": (ConnectionFailed, 2),
    "fin_before_head": (ConnectionFailed, 2),
    "rst_in_request": (ConnectionFailed, 2),
    "fin_mid_head": (ConnectionFailed, 2),
    "fin_mid_body": (LionError, None),
    "rst_mid_body": (LionError, None),
    "hang": (DeadlineExceeded, 1),
    "hang_mid_body": (DeadlineExceeded, 1),
    "body_drip": (DeadlineExceeded, 1),
    "deaf": (DeadlineExceeded, 1),
}


@needs_openssl
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", TLS_FAULTS)
def test_faults_end_the_same_under_tls(tls, name, verb):
    kind, attempts = TLS_FAULTS[name]
    timeout = 0.5 if kind is DeadlineExceeded else 20
    with tls(faults=name) as server:
        with service_at(server.base_url, timeout=timeout) as service:
            with within(timeout + 0.5):
                error = fails(service, kind, verb)
            assert attempts in (None, error.attempts)
            server.heal()
            assert ask(service, verb, timeout=20) == TEXT
        assert still_open(server) == 0


@needs_openssl
@pytest.mark.parametrize("name", ["deaf", "rst_in_request"])
def test_a_large_request_that_fails_in_a_tls_send_shows_no_key(tls, name, logged):
    """A frame of ssl.py holds the bytes that are being sent."""
    with tls(faults=name) as server, service_at(server.base_url, timeout=2) as service:
        session = ll.Session(service=service)
        with pytest.raises((DeadlineExceeded, ConnectionFailed)) as caught:
            session.chat("x" * 8_000_000)

    assert getattr(caught.value, "phase", "send") == "send"
    assert found_in(shown_by(caught.value)) == []
    assert found_in(logged.getvalue()) == []


# Many at once -------------------------------------------------------------------------


def in_threads(count, target):
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(target, range(count)))


def test_hanging_calls_leave_room_for_others():
    """No pool to be exhausted: httpx would raise PoolTimeout."""
    with FaultServer(["hang"] * 40) as server, server.service(max_retries=0) as service:

        def call(_):
            try:
                return ll.Session(service=service).chat("hi", timeout=1.5)
            except LionError as error:
                return type(error)

        results = Counter(in_threads(64, call))

        assert results == {DeadlineExceeded: 40, TEXT: 24}
        assert service.stats().budget.in_flight == 0


def test_a_service_is_not_poisoned_by_timeouts():
    files = open_files()
    with FaultServer("hang") as server, server.service(max_retries=0) as service:

        def time_out(_):
            with pytest.raises(DeadlineExceeded):
                ll.Session(service=service).chat("hi", timeout=0.2)

        for _ in range(3):
            in_threads(32, time_out)
        server.heal()
        with within(2):
            assert ll.Session(service=service).chat("hi", timeout=2) == TEXT
        assert service.stats().budget.in_flight == 0
        assert server.connections == 1
    assert open_files() == files


def test_a_connection_closed_under_a_request_is_never_a_lost_call():
    rng = random.Random(7)
    stale = ("stale_idle", "stale_idle_408", "stale_at_request", "stale_at_request_rst")
    script = [rng.choice(stale) if rng.random() < 0.02 else "healthy" for _ in range(1_500)]
    with FaultServer(script) as server, server.service(max_retries=2, timeout=20) as service:

        def calls(_):
            session = ll.Session(service=service)
            return {session.chat("hi", remember=False) for _ in range(30)}

        texts = set().union(*in_threads(32, calls))

        assert texts == {TEXT}
        # Each that closed at a request cost that one request more, at the most.
        assert 960 <= len(server.requests) <= 960 + 40


def test_streams_left_early_leave_nothing_open():
    files = open_files()
    with FaultServer("sse_pings", pause_s=0.01) as server, server.service(timeout=20) as service:

        def leave(_):
            for _ in range(5):
                ll.Session(service=service).stream("hi").close()

        in_threads(16, leave)

        assert (still_open(server), service.stats().budget.in_flight) == (0, 0)
        assert server.wait_for_ended(80)
        assert all(request.is_aborted for request in server.requests)
    assert open_files() == files


# Streams ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sse_stall", "sse_stall_first"])
def test_a_stream_that_falls_silent_ends_by_its_idle_timeout(name):
    with FaultServer(name) as server, server.service(timeout=20) as service:
        stream = ll.Session(service=service).stream("hi", idle_timeout=0.3)
        with within(0.8), pytest.raises(DeadlineExceeded, match="idle_timeout") as caught:
            list(stream)

        assert (caught.value.retryable, caught.value.phase) == (False, "read")
        assert (still_open(server), service.stats().budget.in_flight) == (0, 0)


def test_pings_keep_a_stream_from_being_idle_but_not_from_its_deadline():
    with FaultServer("sse_pings", pause_s=0.05) as server, server.service(timeout=0.8) as service:
        stream = ll.Session(service=service).stream("hi", idle_timeout=0.4)
        with within(1.3), pytest.raises(DeadlineExceeded, match="The deadline passed"):
            list(stream)


def test_a_rate_limit_told_inside_a_stream_pauses_everybody_too():
    with FaultServer("error_200_429") as server, server.service(timeout=5) as service:
        with pytest.raises(ll.RateLimitError):
            list(ll.Session(service=service).stream("hi"))

        assert service.stats().budget.paused_for_s > 0


@pytest.mark.parametrize("name", ["sse_cut", "sse_garbage", "sse_error", "sse_stall"])
def test_a_broken_stream_leaves_the_history_as_it_was(name):
    with FaultServer([name]) as server, server.service(timeout=20) as service:
        session = ll.Session("You are terse.", service=service)
        before = session.to_messages()
        with pytest.raises(LionError), session.stream("hi", timeout=0.5) as stream:
            list(stream)
        assert session.to_messages() == before
        session.chat("hi")

        assert [message["role"] for message in session.to_messages()] == [
            "system",
            "user",
            "assistant",
        ]
