"""TLS: who is trusted, how a handshake ends, and what a cut connection gives away."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
import traceback

import pytest

from lionlite import Services
from lionlite.exceptions import Cancelled, ConfigError, ConnectionFailed, DeadlineExceeded
from lionlite.scope import cancellable
from lionlite.service.transport import connect
from lionlite.service.transport.link import Cut

pytestmark = pytest.mark.usefixtures("trusted")

CANARY = "sk-CANARY-7f3a9c51"
MESSAGES = [{"role": "user", "content": "hi"}]
ANSWER = b'{"choices": [{"message": {"content": "4"}}]}'
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)


def receive(sock):
    """Read one request; return whether there was one."""
    data = b""
    while b"\r\n\r\n" not in data or not data.endswith(b"}"):
        piece = sock.recv(65_536)
        if not piece:
            return False
        data += piece
    return True


def answer(sock):
    while receive(sock):
        sock.sendall(REPLY)


class TlsServer:
    """Accepts, shakes hands with a certificate, and gives the socket to *serve*."""

    def __init__(self, certificates, name, serve=answer):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.accepted = 0
        self._sockets = []

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            sock.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.accepted += 1
                threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, sock):
        with (
            contextlib.suppress(OSError),
            self._context.wrap_socket(sock, server_side=True) as tls,
        ):
            self._sockets.append(tls)
            self._serve(tls)

    def service(self, host="127.0.0.1", **options):
        return Services.Compatible(
            base_url=f"https://{host}:{self.port}/v1", api_key=CANARY, model="m", **options
        )


@contextlib.contextmanager
def plain_server(serve):
    """Accept without TLS, and give each socket to *serve*; yield a service for it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        with contextlib.suppress(OSError):
            while True:
                serve(listener.accept()[0])

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    with Services.Compatible(
        base_url=f"https://127.0.0.1:{port}/v1", api_key=CANARY, model="m", max_retries=0
    ) as service:
        yield service
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    listener.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_authority_in_ssl_cert_file_is_trusted_and_connections_kept(certificates, host):
    with TlsServer(certificates, "here") as server, server.service(host) as service:
        texts = [service.send(MESSAGES).text for _ in range(3)]

        assert (texts, server.accepted) == (["4"] * 3, 1)


@pytest.mark.parametrize("name", ["elsewhere", "selfmade"])
def test_a_certificate_that_is_not_right_is_refused_and_not_retried(certificates, name):
    with TlsServer(certificates, name) as server, server.service() as service:
        with pytest.raises(ConnectionFailed, match=r"not trusted: .*set SSL_CERT_FILE") as caught:
            service.send(MESSAGES)

        assert (caught.value.retryable, caught.value.attempts, server.accepted) == (False, 1, 1)


def test_without_ssl_cert_file_the_authority_is_unknown(certificates, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")

    with (
        TlsServer(certificates, "here") as server,
        server.service() as service,
        pytest.raises(ConnectionFailed, match="not trusted"),
    ):
        service.send(MESSAGES)


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "junk"])
def test_a_wrong_ssl_cert_file_is_named(certificates, monkeypatch, tmp_path, content):
    path = tmp_path / "authority.pem"
    if content:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))

    with TlsServer(certificates, "here") as server, server.service() as service:
        with pytest.raises(ConfigError, match="SSL_CERT_FILE or SSL_CERT_DIR names no readable"):
            service.send(MESSAGES)

        assert server.accepted == 0


def test_the_context_is_made_once(certificates):
    assert connect.tls_context() is connect.tls_context()


@pytest.mark.parametrize(
    "serve",
    [lambda sock: sock.close(), lambda sock: (sock.recv(100), sock.sendall(REPLY), sock.close())],
    ids=["closes", "speaks HTTP"],
)
def test_a_server_without_tls_is_a_failed_connection(serve):
    with (
        plain_server(serve) as service,
        pytest.raises(ConnectionFailed, match=r"Cannot connect to 127\.0\.0\.1"),
    ):
        service.send(MESSAGES)


def test_a_handshake_that_hangs_ends_at_the_deadline():
    kept = []
    with plain_server(kept.append) as service:
        began_s = time.monotonic()
        with pytest.raises(DeadlineExceeded) as caught:
            service.send(MESSAGES, timeout=0.3)

        assert caught.value.phase == "connect"
        assert time.monotonic() - began_s < 0.8
    for sock in kept:
        sock.close()


def test_a_cancel_wakes_a_handshake():
    kept = []
    with plain_server(kept.append) as service, cancellable() as token:
        timer = threading.Timer(0.1, token.cancel)
        timer.start()
        began_s = time.monotonic()
        with pytest.raises(Cancelled):
            service.send(MESSAGES)

        assert time.monotonic() - began_s < 0.6
        timer.join()
    for sock in kept:
        sock.close()


def test_a_cancel_leaves_the_tls_state_alone(certificates):
    """SSLSocket.shutdown() drops it: what is sent in that moment goes out in clear text."""
    with TlsServer(certificates, "here") as server, cancellable() as token:
        sock = connect.connect(connect.Origin("127.0.0.1", server.port, is_tls=True))
        with sock, Cut(sock).on_cancel(token):
            token.cancel()

            assert sock.version().startswith("TLS")
            with pytest.raises(OSError, match=r"(?i)pipe|EOF|shutdown"):
                sock.send(b"x")


def test_a_cancelled_send_leaves_nothing_in_clear_text(certificates):
    raw, read = [], threading.Event()
    large = [{"role": "user", "content": "PLAINTEXT" * 2_000_000}]

    def serve(tls):
        # The request has begun to arrive, and will not be taken: its sender waits.
        select.select([tls], [], [], 30)
        time.sleep(0.1)
        token.cancel()
        sock = socket.socket(fileno=tls.detach())
        # The client may reset the connection; what is queued comes first.
        with sock, contextlib.suppress(OSError):
            while piece := sock.recv(1 << 20):
                raw.append(piece)
        read.set()

    with TlsServer(certificates, "here", serve) as server, server.service() as service:
        with cancellable() as token, pytest.raises(Cancelled):
            service.send(large)
        assert read.wait(10)

    wire = b"".join(raw)
    assert len(wire) > 1_000
    assert b"PLAINTEXT" not in wire
    assert CANARY.encode() not in wire


def test_a_send_that_times_out_shows_no_key_in_any_frame(certificates):
    """A frame of ssl.py holds the request's bytes."""
    stop = threading.Event()
    large = [{"role": "user", "content": "x" * 20_000_000}]

    def serve(tls):
        receive(tls)
        tls.sendall(REPLY)
        stop.wait(30)

    with TlsServer(certificates, "here", serve) as server, server.service() as service:
        service.send(MESSAGES)
        with pytest.raises(DeadlineExceeded) as caught:
            service.send(large, timeout=0.3)
        stop.set()

    shown = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    assert caught.value.phase == "send"
    assert "CANARY" not in shown
