"""Every scripted fault, as a client meets it."""

from __future__ import annotations

import http.client
import json
import math
import socket
import threading
import time
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import pytest

from lionlite.exceptions import ConfigError
from lionlite.testing import FakeProvider, Fault

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]})


@contextmanager
def sent(provider):
    """Send one chat; give the answer, its body still unread."""
    port = urlsplit(provider.base_url).port
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST", "/v1/chat/completions", BODY)
        with connection.getresponse() as answer:
            yield answer


def status_of(provider):
    with sent(provider) as answer:
        return answer.status


def play(*replies, **options):
    """Answer one chat with a fault; return status, headers, body and log."""
    with FakeProvider(list(replies), **options) as provider, sent(provider) as answer:
        body = answer.read()
    return answer.status, answer.headers, body, provider.requests[0]


def test_a_status_has_an_openai_body():
    status, headers, body, request = play(Fault.status(503, headers={"Retry-After": "7"}))

    assert (status, headers["retry-after"]) == (503, "7")
    assert json.loads(body)["error"]["type"] == "server_error"
    assert (request.outcome, request.status, request.output_tokens) == ("fault", 503, 0)


def test_a_status_can_have_any_json_body():
    status, _, body, _ = play(Fault.status(400, body={"error": "a plain string"}))

    assert (status, json.loads(body)) == (400, {"error": "a plain string"})


def test_raw_bytes_go_out_as_they_are():
    fault = Fault.raw(200, b"\xff\x00", "text/plain", {"x-odd": "1"})

    status, headers, body, _ = play(fault)

    assert (status, headers["content-type"], headers["x-odd"], body) == (
        200,
        "text/plain",
        "1",
        b"\xff\x00",
    )


def test_an_exhausted_quota_is_a_429_of_its_own():
    status, headers, body, request = play(Fault.quota())
    error = json.loads(body)["error"]

    assert (status, error["type"], error["code"]) == (
        429,
        "insufficient_quota",
        "insufficient_quota",
    )
    assert "retry-after" not in headers
    assert request.outcome == "fault"


@pytest.mark.parametrize("status", [502, 200])
def test_a_web_page_can_come_with_any_status(status):
    got, headers, body, _ = play(Fault.html(status))

    assert (got, headers["content-type"], body[:6]) == (status, "text/html", b"<html>")


def test_bad_json_is_whole_http():
    status, headers, body, _ = play(Fault.bad_json())

    assert (status, int(headers["content-length"])) == (200, len(body))
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


def test_no_choices_come_with_usage():
    _, _, body, request = play(Fault.no_choices())
    decoded = json.loads(body)

    assert (decoded["choices"], decoded["usage"]["prompt_tokens"]) == ([], 8)
    assert request.outcome == "fault"


def test_null_content_is_a_message():
    _, _, body, _ = play(Fault.null_content())

    assert json.loads(body)["choices"][0]["message"] == {"role": "assistant", "content": None}


def test_a_delay_comes_on_top_of_the_latency():
    _, _, body, request = play(Fault.delay(0.1), "late", latency_s=0.05)

    assert json.loads(body)["choices"][0]["message"]["content"] == "late"
    assert request.finished_s - request.arrival_s >= 0.15


def test_a_delay_can_end_in_another_fault():
    status, _, _, request = play(Fault.delay(0.05, then=Fault.status(500)))

    assert status == 500
    assert request.finished_s - request.arrival_s >= 0.05


@pytest.mark.parametrize("after_bytes", [0, 10, 10**9])
def test_a_cut_body_is_shorter_than_announced(after_bytes):
    fault = Fault.cut(after_bytes)
    with (
        FakeProvider(fault, charge="adjust") as provider,
        sent(provider) as answer,
        pytest.raises(http.client.IncompleteRead) as caught,
    ):
        answer.read()
    whole = int(answer.headers["content-length"])

    assert len(caught.value.partial) == min(after_bytes, whole - 1)
    assert provider.requests[0].charged_tokens > 8  # the work was done


def test_a_cut_can_be_a_reset():
    with (
        FakeProvider(Fault.cut(10, reset=True)) as provider,
        pytest.raises(ConnectionError),
        sent(provider) as answer,
    ):
        answer.read()


def test_a_drop_says_nothing():
    with FakeProvider(Fault.drop()) as provider, pytest.raises(http.client.RemoteDisconnected):
        status_of(provider)

    assert (provider.requests[0].status, provider.requests[0].outcome) == (None, "fault")


def test_a_drop_can_be_a_reset():
    with FakeProvider(Fault.drop(reset=True)) as provider, pytest.raises(ConnectionResetError):
        status_of(provider)


def test_a_hang_lasts_until_the_provider_closes():
    provider = FakeProvider(Fault.hang()).start()
    ended = []

    def client():
        try:
            status_of(provider)
        except OSError as exc:
            ended.append(exc)

    thread = threading.Thread(target=client)
    thread.start()
    assert provider.wait_for(1)
    started_s = time.monotonic()
    provider.close()
    took_s = time.monotonic() - started_s
    thread.join(5)

    assert took_s < 1
    assert len(ended) == 1
    assert (provider.requests[0].finished_s, provider.requests[0].status) == (None, None)


def test_a_hang_ends_when_the_client_goes():
    with FakeProvider([Fault.hang(), "next"]) as provider:
        port = urlsplit(provider.base_url).port
        client = socket.create_connection(("127.0.0.1", port))
        head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(BODY)}\r\n\r\n"
        client.sendall((head + BODY).encode())
        assert provider.wait_for(1)
        client.sendall(b"more bytes wake nobody")
        client.close()

        assert status_of(provider) == 200
        assert provider.requests[0].outcome == "fault"


def test_faults_use_up_the_request_limit():
    with FakeProvider(Fault.status(500), max_requests=1) as provider:
        assert [status_of(provider), status_of(provider)] == [500, 429]


def test_a_refused_request_uses_up_no_fault():
    replies = ["ok", Fault.status(500), "ok"]
    with FakeProvider(replies, max_requests=1, interval_s=0.2) as provider:
        statuses = [status_of(provider), status_of(provider)]
        time.sleep(0.25)
        statuses.append(status_of(provider))

    assert statuses == [200, 429, 500]


@pytest.mark.parametrize(("charge", "charged"), [("estimate", 24), ("adjust", 0), ("usage", 0)])
def test_a_fault_without_usage_costs_only_the_estimate(charge, charged):
    _, _, _, request = play(Fault.status(500), charge=charge)

    assert request.charged_tokens == charged


@pytest.mark.parametrize("seconds", [-1, math.nan, None])
def test_a_delay_must_be_a_length_of_time(seconds):
    with pytest.raises(ConfigError, match="seconds="):
        Fault.delay(seconds)


@pytest.mark.parametrize("after_bytes", [-1, 1.5, True, None])
def test_a_cut_must_come_after_some_bytes(after_bytes):
    with pytest.raises(ConfigError, match="after_bytes="):
        Fault.cut(after_bytes)


def test_an_error_body_fits_its_status():
    bodies = [json.loads(Fault.status(code).http.body)["error"] for code in (401, 404, 429, 400)]

    assert [body["code"] for body in bodies] == [
        "invalid_api_key",
        "model_not_found",
        "rate_limit_exceeded",
        None,
    ]
