"""The fault server: what it plays, in which order, and what it logs."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest

import lionlite.testing
from lionlite.exceptions import ConfigError
from lionlite.testing import FAULTS, FaultServer, WireFault
from lionlite.testing.faults.body import gzip_bomb
from lionlite.testing.faults.status import FINAL, PASSING, RETRY_AFTER
from lionlite.testing.faultserver import TEXT

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
ENDLESS = {"blanks_drip", "interim_drip", "head_drip", "body_drip", "sse_pings", "sse_drip"}
UNSOUND = {"echo_then_hang", "echo_then_rst", "echo_in_chunk"}
HEAVY = {"header_26mb", "body_endless", "sse_long_line"}


def connect(server):
    return socket.create_connection(("127.0.0.1", urlsplit(server.base_url).port), timeout=5)


def request_bytes(*, stream=False, key="sk-right"):
    sent = json.dumps({**BODY, "stream": stream}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\n"
    fields = f"authorization: Bearer {key}\r\ncontent-length: {len(sent)}\r\n\r\n"
    return (head + fields).encode() + sent


def received(client, *, is_sent=lambda: True, at_most=2_000_000, for_s=5.0):
    """Return what came, and how it ended: "FIN", "RST" or "open".

    Open is a connection that says nothing more once *is_sent*.
    """
    data, ends_s = b"", time.monotonic() + for_s
    client.settimeout(0.05)
    while len(data) < at_most and time.monotonic() < ends_s:
        was_sent = is_sent()
        try:
            piece = client.recv(65_536)
        except TimeoutError:
            if was_sent:
                return data, "open"
            continue
        except ConnectionResetError:
            return data, "RST"
        if not piece:
            return data, "FIN"
        data += piece
    return data, "open"


def play(name, *, stream=False):
    """Play one fault on one request; return what a bare socket sees, and the log."""
    with FaultServer(name, pause_s=0.01) as server, closing(connect(server)) as client:
        client.sendall(request_bytes(stream=stream))
        drips = name in ENDLESS
        data, end = received(
            client, is_sent=lambda: server.wait_for_ended(1, 0), at_most=8 if drips else 2_000_000
        )
        return data, end, server.requests


def ask(connection, *, stream=False):
    connection.request("POST", "/v1/chat/completions", json.dumps({**BODY, "stream": stream}))
    return connection.getresponse().read()


def http_connection(server):
    port = urlsplit(server.base_url).port
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5))


# The catalogue ------------------------------------------------------------------


def test_every_fault_says_what_it_does():
    assert all(name == fault.name for name, fault in FAULTS.items())
    assert all(fault.does.endswith(".") and len(fault.does) < 90 for fault in FAULTS.values())
    assert {fault.then for fault in FAULTS.values()} - {None} <= set(FAULTS)
    assert {fault.group for fault in FAULTS.values()} == {
        "network",
        "http",
        "status",
        "body",
        "stream",
    }


def test_every_passing_status_comes_with_every_form_of_retry_after():
    names = {f"status_{status}_retry_{form}" for status in PASSING for form in RETRY_AFTER}

    assert names | {f"status_{status}" for status in (*FINAL, *PASSING)} <= set(FAULTS)


def test_the_catalogue_cannot_be_changed():
    with pytest.raises(TypeError):
        FAULTS["mine"] = FAULTS["hang"]


def test_what_the_plugin_does_not_need_is_loaded_later():
    code = "import sys, lionlite.testing.plugin; print([m for m in sys.modules if 'faults' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'Faults'"):
        _ = lionlite.testing.Faults


@pytest.fixture(scope="module")
def played():
    """Play every fault that a few bytes show, all at once."""
    gzip_bomb()  # takes a while, once
    results = {}

    def one(name):
        results[name] = play(name, stream=FAULTS[name].group == "stream")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, set(FAULTS) - HEAVY))
    return results


ENDS = {"close": {"FIN"}, "reset": {"RST"}, "keep": {"open"}, "hold": {"open"}, "deaf": {"open"}}


@pytest.mark.parametrize("name", sorted(set(FAULTS) - HEAVY - ENDLESS))
def test_a_fault_ends_its_connection_as_it_says(played, name):
    data, end, requests = played[name]

    assert end in ENDS[FAULTS[name].after]
    assert [(request.fault, request.outcome) for request in requests] == [(name, "fault")]
    assert requests[0].headers["authorization"] == "***"
    assert data or FAULTS[name].plays.__name__ == "nothing"


@pytest.mark.parametrize("name", sorted(ENDLESS))
def test_a_drip_goes_on(played, name):
    data, end, requests = played[name]

    assert (end, len(data) > 3, requests[0].finished_s) == ("open", True, None)


@pytest.mark.parametrize(
    "name",
    sorted({name for name, fault in FAULTS.items() if fault.group == "status"} - UNSOUND),
)
def test_a_status_is_sound_http(played, name):
    data, _, _ = played[name]
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:])

    assert head.startswith(b"HTTP/1.1 ")
    assert int(fields["content-length"]) == len(body)


HARMLESS_CHATS = sorted(
    name
    for name, fault in FAULTS.items()
    if fault.is_harmless and fault.group != "stream" and not name.startswith("interim")
)


@pytest.mark.parametrize("name", HARMLESS_CHATS)
def test_a_harmless_fault_still_carries_the_answer(name):
    """By a parser that is not ours."""
    with FaultServer(name) as server, http_connection(server) as connection:
        body = ask(connection)

    if name == "gzip":
        body = gzip.decompress(body)
    assert (
        json.loads(body.removeprefix(b"\xef\xbb\xbf"))["choices"][0]["message"]["content"] == TEXT
    )


SOUND_STREAMS = sorted(
    name
    for name, fault in FAULTS.items()
    # openai's client fails at an event without JSON after its own idea of a stream.
    if fault.is_harmless and fault.group == "stream"
)


# Sound, but openai's client waits on.
WAITED_FOR = {"sse_stall_done", "sse_stall_finished", "sse_done_uncut"}


@pytest.mark.parametrize("name", [name for name in SOUND_STREAMS if name not in WAITED_FOR])
def test_a_harmless_stream_reads_as_openais_client_reads_it(name):
    with (
        FaultServer(name) as server,
        openai.OpenAI(api_key="k", base_url=server.base_url, max_retries=0, timeout=5) as client,
    ):
        with client.chat.completions.create(**BODY, stream=True) as stream:
            text = "".join(
                chunk.choices[0].delta.content or ""
                for chunk in stream
                if chunk.choices and chunk.choices[0].delta
            )

    assert text == TEXT


def test_the_gzip_bomb_is_sound_gzip():
    import zlib

    inflater = zlib.decompressobj(31)
    size, data = 0, gzip_bomb()
    while data and not inflater.eof:
        size += len(inflater.decompress(data, 1 << 22))
        data = inflater.unconsumed_tail

    assert (size, inflater.eof, len(gzip_bomb()) < 300_000) == (256 * 1024 * 1024, True, True)


@pytest.mark.parametrize("name", sorted(HEAVY))
def test_a_heavy_fault_stops_when_the_client_goes(name):
    with FaultServer(name) as server:
        with closing(connect(server)) as client:
            client.sendall(request_bytes(stream=name.startswith("sse")))
            assert len(received(client, is_sent=lambda: False)[0]) > 1_000_000
        began_s = time.monotonic()
        while server.requests[0].finished_s is None:
            assert time.monotonic() - began_s < 5
            time.sleep(0.01)

        assert server.requests[0].is_aborted


def test_a_deaf_server_reads_no_body():
    with FaultServer("deaf") as server, closing(connect(server)) as client:
        client.settimeout(0.2)
        head = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 60000000\r\n\r\n"
        with pytest.raises(TimeoutError):
            client.sendall(head + bytes(60_000_000))


# The script ---------------------------------------------------------------------


def statuses(server, count):
    with http_connection(server) as connection:
        found = []
        for _ in range(count):
            connection.request("POST", "/v1/chat/completions", json.dumps(BODY))
            answer = connection.getresponse()
            answer.read()
            found.append(answer.status)
        return found


def test_faults_come_in_turn_and_health_after_them():
    with FaultServer(["status_500", "status_404"]) as server:
        server.play("status_422")

        assert statuses(server, 4) == [500, 404, 422, 200]
        assert [request.fault for request in server.requests] == [
            "status_500",
            "status_404",
            "status_422",
            None,
        ]
        assert [request.outcome for request in server.requests] == ["fault"] * 3 + ["answered"]


def test_one_fault_is_played_for_ever():
    with FaultServer("status_503") as server:
        assert statuses(server, 3) == [503] * 3


def test_it_can_be_healed():
    with FaultServer("status_503") as server:
        server.play("status_500")
        server.heal()

        assert statuses(server, 2) == [200, 200]


def test_health_may_be_scripted_between_faults():
    with FaultServer(["healthy", "status_500"]) as server:
        assert statuses(server, 3) == [200, 500, 200]


def test_a_fault_of_ones_own():
    mine = WireFault(
        name="mine",
        group="http",
        does="Says what it was asked.",
        plays=lambda asked: [b"HTTP/1.1 200 OK\r\n\r\n" + asked.body["model"].encode()],
    )
    with FaultServer([mine]) as server, closing(connect(server)) as client:
        client.sendall(request_bytes())

        assert received(client, is_sent=lambda: False) == (b"HTTP/1.1 200 OK\r\n\r\nm", "FIN")
        assert server.requests[0].fault == "mine"


@pytest.mark.parametrize("name", ["stale_at_request", "stale_at_request_rst"])
def test_a_connection_closes_at_its_next_request(name):
    with FaultServer([name]) as server:
        with http_connection(server) as connection:
            ask(connection)
            with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
                ask(connection)
        with http_connection(server) as connection:
            ask(connection)

        assert [request.fault for request in server.requests] == [name, FAULTS[name].then, None]


def test_a_fault_before_the_body_is_logged_too():
    with FaultServer(["rst_in_request"]) as server, closing(connect(server)) as client:
        client.sendall(request_bytes()[:-5])

        assert received(client, is_sent=lambda: False) == (b"", "RST")
        assert [(r.fault, r.body) for r in server.requests] == [("rst_in_request", None)]


@pytest.mark.parametrize("faults", ["no_such", ["hang", "no_such"], ["hang", 5]], ids=str)
def test_an_unknown_fault_is_refused(faults):
    with pytest.raises(ConfigError, match=r"There is no fault .*FAULTS"):
        FaultServer(faults)


@pytest.mark.parametrize("pause_s", [-1, float("nan"), "slow"])
def test_the_pause_is_a_length_of_time(pause_s):
    with pytest.raises(ConfigError, match="pause_s="):
        FaultServer(pause_s=pause_s)


def test_it_starts_once_and_never_again():
    server = FaultServer()
    with pytest.raises(ConfigError, match=r"call start\(\)"):
        _ = server.base_url
    assert repr(server) == "FaultServer(not started, requests=0)"

    url = server.start().base_url
    assert server.start().base_url == url
    server.close()
    server.close()

    with pytest.raises(ConfigError, match="make a new one"):
        server.start()


def test_a_service_for_it_needs_no_settings():
    with FaultServer(["status_500"]) as server, server.service(max_retries=0) as service:
        with pytest.raises(lionlite.LionError):
            service.send(BODY["messages"])

        assert service.send(BODY["messages"]).text == TEXT


def test_the_text_can_be_chosen():
    with FaultServer(text="4") as server, http_connection(server) as connection:
        whole, streamed = ask(connection), ask(connection, stream=True)

    assert json.loads(whole)["choices"][0]["message"]["content"] == "4"
    assert b'"content": "4"' in streamed


# Its own life -------------------------------------------------------------------


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_closing_leaves_no_thread_and_no_descriptor():
    threads, files = set(threading.enumerate()), open_files()
    with FaultServer(["hang", "body_drip", "sse_pings", "deaf"] * 5) as server:
        clients = [connect(server) for _ in range(20)]
        for client in clients:
            client.sendall(request_bytes())
        assert server.wait_for(20)
        assert server.connections == 20
        began_s = time.monotonic()
    took_s = time.monotonic() - began_s
    for client in clients:
        client.close()

    assert took_s < 1
    assert set(threading.enumerate()) <= threads
    assert open_files() <= files


def test_it_counts_the_connections_that_are_open():
    with FaultServer() as server:
        with closing(connect(server)) as client:
            client.sendall(request_bytes())
            assert server.wait_for_ended(1)
            assert server.connections == 1
        began_s = time.monotonic()
        while server.connections and time.monotonic() - began_s < 5:
            time.sleep(0.005)

        assert server.connections == 0


def test_connections_beyond_its_bound_wait(monkeypatch):
    monkeypatch.setattr("lionlite.testing.faultserver.MAX_CONNECTIONS", 2)
    before = set(threading.enumerate())
    with FaultServer() as server:
        clients = [connect(server) for _ in range(4)]
        for client in clients:
            client.sendall(request_bytes())
        assert server.wait_for_ended(2)
        assert not server.wait_for(3, timeout_s=0.1)
        assert len(set(threading.enumerate()) - before) <= 3
        for client in clients:
            client.close()

        assert server.wait_for_ended(4)
