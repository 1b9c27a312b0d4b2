"""Where the key and the prompt may go, and where not; and how much is read."""

from __future__ import annotations

import json
import socket
import tracemalloc
from urllib.parse import urlsplit

import pytest
from fault_tools import CANARY

import lionlite as ll
from lionlite.exceptions import BadRequestError, ConfigError, ResponseError, ResponseTooLarge
from lionlite.testing import FakeProvider, FaultServer, WireFault
from lionlite.testing.faults.body import gzip_bomb
from lionlite.testing.faultserver import TEXT

MESSAGES = [{"role": "user", "content": "secret prompt"}]


def redirect_to(url, status=307):
    return WireFault(
        name="redirect",
        group="status",
        does="Redirects.",
        plays=lambda _: [
            f"HTTP/1.1 {status} Redirect\r\nlocation: {url}\r\ncontent-length: 0\r\n\r\n".encode()
        ],
        after="keep",
    )


@pytest.mark.parametrize("verb", ["chat", "stream"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_takes_neither_key_nor_prompt_elsewhere(status, verb):
    with FakeProvider("stolen") as elsewhere:
        url = elsewhere.base_url + "/chat/completions"
        with FaultServer(redirect_to(url, status)) as server, server.service() as service:
            session = ll.Session(service=service)
            with pytest.raises(BadRequestError, match="not followed"):
                session.chat("hi") if verb == "chat" else session.stream("hi")

            assert len(server.requests) == 1
        assert elsewhere.requests == ()


@pytest.mark.parametrize(
    "name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"]
)
def test_no_proxy_of_the_environment_gets_a_call_to_this_machine(monkeypatch, name):
    with FaultServer("status_500") as proxy, FaultServer() as server:
        monkeypatch.setenv(name, proxy.base_url.removesuffix("/v1"))
        with server.service(api_key=CANARY) as service:
            assert service.send(MESSAGES).text == TEXT

        assert proxy.requests == ()


def test_a_netrc_file_is_not_read(monkeypatch, tmp_path):
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login user password hunter2\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    seen = []
    echo = WireFault(
        name="note",
        group="status",
        does="Notes the headers.",
        plays=lambda asked: [seen.append(dict(asked.headers)) or b"".join(asked.parts())],
        after="keep",
    )
    with FaultServer(echo) as server, server.service(api_key=CANARY) as service:
        service.send(MESSAGES)

    assert seen[0]["authorization"] == f"Bearer {CANARY}"


def test_the_key_is_in_one_header_and_nowhere_else():
    received = bytearray()
    body = b'{"choices": [{"message": {"content": "ok"}}]}'
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(service):
        connection, _ = listener.accept()
        with connection:
            while b"\r\n\r\n" not in received or not received.endswith(b"}"):
                received.extend(connection.recv(65_536))
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    import threading

    with (
        listener,
        ll.Services.Compatible(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", api_key=CANARY, model="m"
        ) as service,
    ):
        thread = threading.Thread(target=answer, args=[service])
        thread.start()
        service.send(MESSAGES)
        thread.join(10)

    assert bytes(received).count(CANARY.encode()) == 1
    assert f"\r\nAuthorization: Bearer {CANARY}\r\n".encode() in received


@pytest.mark.parametrize("key", ["sk-a\r\nX-Evil: 1", "sk-a\nb", "sk-\x00", "sk-é", "sk a"])
def test_a_key_that_breaks_its_header_sends_nothing_and_is_not_shown(key):
    with FakeProvider() as provider:
        with pytest.raises(ConfigError) as caught:
            provider.service(api_key=key)

        assert "sk-" not in str(caught.value)
        assert provider.requests == ()


@pytest.mark.parametrize(
    "headers",
    [{"x": "a\r\nAuthorization: b"}, {"x\r\ny": "a"}, {"Authorization": "Bearer x"}, {"x": "\x00"}],
    ids=["value", "name", "ours", "NUL"],
)
def test_headers_cannot_break_out_or_take_the_keys_place(headers):
    with FakeProvider() as provider, provider.service() as service:
        with pytest.raises(ConfigError):
            service.send(MESSAGES, extra_headers=headers)

        assert provider.requests == ()


@pytest.mark.parametrize("part", ["user:pass@", "?key=secret", "#secret"])
def test_an_address_holds_no_secret(part):
    host = "127.0.0.1:9/v1"
    url = f"http://{part}{host}" if part.endswith("@") else f"http://{host}{part}"

    with pytest.raises(ConfigError) as caught:
        ll.Services.Compatible(base_url=url, model="m")

    assert not any(secret in str(caught.value) for secret in ("pass@", "secret"))


def test_a_key_does_not_leave_this_network_in_clear(monkeypatch):
    def nobody(*_, **__):
        raise AssertionError

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with ll.Services.Compatible(
        base_url="http://api.example.com/v1", api_key=CANARY, model="m"
    ) as service:
        with pytest.raises(ConfigError, match="allow_http=True") as caught:
            service.send(MESSAGES)

    assert caught.value.attempts == 0


# How much is read -----------------------------------------------------------------


@pytest.mark.parametrize("verb", ["chat", "stream"])
@pytest.mark.parametrize("name", ["gzip_bomb", "header_26mb", "sse_long_line"])
def test_a_flood_is_cut_off_before_it_fills_the_memory(name, verb):
    """Caps: 64 KB of head, 32 MB of body, 1 MB of a line."""
    gzip_bomb()
    with FaultServer(name) as server, server.service(max_retries=0, timeout=30) as service:
        session = ll.Session(service=service)
        session_ask = session.chat if verb == "chat" else lambda text: list(session.stream(text))
        tracemalloc.start()
        try:
            with pytest.raises(ResponseTooLarge):
                session_ask("hi")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak < 3 * 32 * 1024 * 1024


@pytest.mark.parametrize("digits", [4_000, 100_000])
def test_long_numbers_are_values_or_typed_errors(digits):
    """Python refuses to read more than 4,300 digits with a bare ValueError."""
    text = json.dumps({"choices": [{"message": {"content": "ok"}}]}).encode()
    body = text.replace(b'{"choices"', b'{"created": ' + b"9" * digits + b', "choices"')
    fault = WireFault(
        name="digits",
        group="body",
        does="Sends a long number.",
        plays=lambda _: [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body],
        after="keep",
    )
    with FaultServer(fault) as server, server.service(max_retries=0) as service:
        if digits < 4_300:
            assert service.send(MESSAGES).text == "ok"
        else:
            with pytest.raises(ResponseError):
                service.send(MESSAGES)


def test_fault_servers_listen_on_this_machine_only():
    with FaultServer() as server:
        assert urlsplit(server.base_url).hostname == "127.0.0.1"
