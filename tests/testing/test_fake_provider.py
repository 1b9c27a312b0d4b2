"""The fake provider over real sockets."""

from __future__ import annotations

import http.client
import json
import math
import threading
import time
from contextlib import closing
from urllib.parse import urlsplit

import attrs
import pytest

from lionlite.exceptions import ConfigError
from lionlite.testing import FakeProvider, Fault, Report, calculator_reply
from lionlite.testing.serve import serve


def connect(provider):
    port = urlsplit(provider.base_url).port
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10))


def post(connection, content="hi", *, key=None, path="/v1/chat/completions", **more):
    """Send one chat; return status, headers and decoded body."""
    body = {"model": "m", "messages": [{"role": "user", "content": content}], **more}
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.headers), json.loads(answer.read())


def ask(provider, content="hi", **more):
    with connect(provider) as connection:
        return post(connection, content, **more)


def request(provider, method, path):
    with connect(provider) as connection:
        connection.request(method, path, b"{}")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_a_chat_is_answered_as_openai_answers():
    with FakeProvider("hello") as provider:
        status, headers, body = ask(provider)

    assert (status, headers["x-request-id"]) == (200, "req_00000001")
    assert body == {
        "id": "chatcmpl-00000001",
        "object": "chat.completion",
        "created": 1_700_000_001,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hello"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10},
    }


def test_the_log_tells_each_request():
    before_s = time.monotonic()
    with FakeProvider("hello") as provider, connect(provider) as connection:
        post(connection, key="sk-secret", max_tokens=5)
        client_port = connection.sock.getsockname()[1]
    (logged,) = provider.requests

    assert before_s <= logged.arrival_s <= logged.finished_s <= time.monotonic()
    assert logged.body["max_tokens"] == 5
    assert logged.headers["authorization"] == "***"
    assert attrs.evolve(logged, arrival_s=1, finished_s=2, headers={}, body=None) == attrs.evolve(
        logged,
        arrival_s=1,
        finished_s=2,
        method="POST",
        path="/v1/chat/completions",
        headers={},
        body=None,
        client_port=client_port,
        outcome="answered",
        is_admitted=True,
        status=200,
        input_tokens=8,
        output_tokens=2,
        charged_tokens=13,
        charged_at_s=logged.arrival_s,
    )
    assert "sk-secret" not in repr(provider.requests)


def test_bodies_and_headers_need_not_be_kept():
    with FakeProvider("hello", keep_bodies=False) as provider:
        ask(provider)

    assert (provider.requests[0].body, provider.requests[0].headers) == (None, {})


def test_a_connection_serves_many_requests():
    with FakeProvider(["a", "b", "c"]) as provider, connect(provider) as connection:
        answers = [post(connection)[2]["choices"][0]["message"]["content"] for _ in range(3)]

    assert answers == ["a", "b", "c"]
    assert len({request.client_port for request in provider.requests}) == 1


def test_the_request_limit_is_strict_and_told():
    with FakeProvider("x", max_requests=2, interval_s=30.0) as provider:
        first, _, third = ask(provider), ask(provider), ask(provider)

    assert first[1]["x-ratelimit-remaining-requests"] == "1"
    assert third[0] == 429
    assert 29.0 < float(third[1]["retry-after-ms"]) / 1000 <= int(third[1]["retry-after"]) == 30
    assert third[1]["x-ratelimit-remaining-requests"] == "0"
    assert third[2]["error"]["code"] == "rate_limit_exceeded"
    assert provider.requests[2].outcome == "refused"


def test_waiting_as_long_as_told_is_enough():
    with FakeProvider("x", max_requests=1, interval_s=0.2) as provider:
        ask(provider)
        _, headers, _ = ask(provider)
        time.sleep(float(headers["retry-after-ms"]) / 1000)
        status, _, _ = ask(provider)

    assert status == 200


def test_the_token_limit_charges_the_estimate():
    with FakeProvider("x", max_tokens=30, interval_s=30.0) as provider:
        first = ask(provider, max_tokens=20)  # 8 in, 20 reserved
        second = ask(provider, max_completion_tokens=1)
        never = ask(provider, max_tokens=100)

    assert first[1]["x-ratelimit-remaining-tokens"] == "2"
    assert (second[0], second[2]["error"]["type"]) == (429, "tokens")
    assert (never[0], "retry-after" in never[1]) == (429, False)


@pytest.mark.parametrize(("charge", "rest"), [("estimate", "972"), ("adjust", "991")])
def test_the_rest_shows_how_the_charge_was_corrected(charge, rest):
    with FakeProvider("x", max_tokens=1000, charge=charge) as provider:
        _, headers, _ = ask(provider, max_tokens=20)

    assert headers["x-ratelimit-remaining-tokens"] == rest


def test_usage_is_charged_when_the_reply_is_made():
    with FakeProvider("x", max_tokens=1000, charge="usage", latency_s=0.1) as provider:
        ask(provider)
    (logged,) = provider.requests

    assert (logged.charged_tokens, logged.charged_at_s) == (9, logged.finished_s)
    assert logged.finished_s - logged.arrival_s >= 0.1


def test_rate_limit_headers_can_be_left_out():
    with FakeProvider("x", max_requests=1, rate_limit_headers=False) as provider:
        answers = [ask(provider), ask(provider)]

    assert [status for status, _, _ in answers] == [200, 429]
    assert not [name for _, headers, _ in answers for name in headers if "ratelimit" in name]


def test_the_latency_runs_from_the_arrival():
    with FakeProvider("x", latency_s=iter([0.15, 0.0]).__next__) as provider:
        ask(provider)
        ask(provider)
    slow, quick = (request.finished_s - request.arrival_s for request in provider.requests)

    assert slow >= 0.15 > quick


def test_only_the_right_key_is_let_in():
    with FakeProvider("x", api_key="sk-right") as provider:
        answers = [ask(provider), ask(provider, key="sk-wrong"), ask(provider, key="sk-right")]

    assert [status for status, _, _ in answers] == [401, 401, 200]
    assert [body.get("error", {}).get("code") for _, _, body in answers] == [
        "invalid_api_key",
        "invalid_api_key",
        None,
    ]
    assert "sk-" not in repr([body for _, _, body in answers])
    assert "sk-" not in repr(provider)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/v1/chat/completions", 405, None), ("POST", "/v1/chat", 404, "unknown_url")],
)
def test_wrong_paths_and_methods_are_errors(method, path, status, code):
    with FakeProvider("x") as provider:
        got, body = request(provider, method, path)

    assert (got, body["error"]["code"]) == (status, code)
    assert provider.report().other_errors == 1


def test_a_body_that_is_no_chat_uses_no_budget_and_no_reply():
    with FakeProvider(["first"], max_requests=1) as provider:
        bad = ask(provider, model="")
        good = ask(provider)

    assert (bad[0], bad[2]["error"]["param"]) == (400, "model")
    assert good[2]["choices"][0]["message"]["content"] == "first"


def test_the_model_is_listed():
    with FakeProvider("x", model="little") as provider:
        status, body = request(provider, "GET", "/v1/models")

    assert (status, body["data"][0]["id"]) == (200, "little")
    assert provider.requests[0].outcome == "answered"
    assert provider.report().accepted == 0


def test_an_exhausted_script_says_so_and_asks_for_no_retry():
    with FakeProvider(["only"]) as provider:
        ask(provider)
        status, headers, body = ask(provider)

    assert (status, headers["x-should-retry"]) == (500, "false")
    assert "script exhausted" in body["error"]["message"]
    assert provider.report().other_errors == 1


def test_replies_are_scripted_while_it_runs():
    with FakeProvider("later") as provider:
        provider.script("now", Fault.status(503))
        answers = [ask(provider) for _ in range(3)]

    assert [status for status, _, _ in answers] == [200, 503, 200]


def boom(body):
    msg = "boom"
    raise RuntimeError(msg)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"reply": boom}, "RuntimeError: boom"),
        ({"reply": lambda body: 5}, "reply is int"),
        ({"reply": {"content": {1}}}, "not JSON serializable"),
        ({"latency_s": lambda: "soon"}, "could not convert"),
    ],
    ids=["raises", "returns nonsense", "is no JSON", "latency is nonsense"],
)
def test_a_reply_that_cannot_be_made_is_told(options, why):
    with FakeProvider(**options) as provider:
        status, _, body = ask(provider)

    assert status == 500
    assert why in body["error"]["message"]
    assert provider.requests[0].outcome == "error"


def test_the_report_counts_the_whole_log():
    replies = ["ok", Fault.status(500), "ok"]
    with FakeProvider(replies, max_requests=3, max_tokens=500, interval_s=30.0) as provider:
        for _ in range(4):
            ask(provider)
        ask(provider, model="")
    arrivals = [request.arrival_s for request in provider.requests]

    assert provider.report() == Report(
        accepted=3,
        refused_429=1,
        faults=1,
        other_errors=1,
        highest_requests_in_window=3,
        highest_arrivals_in_window=4,
        highest_tokens_in_window=72,
        interval_s=30.0,
        max_requests=3,
        max_tokens=500,
        first_s=arrivals[0],
        last_s=arrivals[3],
        input_tokens=24,
        output_tokens=2,
    )


def test_the_report_of_an_unused_provider_is_empty():
    report = FakeProvider().report()

    assert (report.accepted, report.highest_tokens_in_window, report.first_s) == (0, 0, None)


def test_the_report_can_be_asked_for_over_http():
    with FakeProvider("x") as provider:
        ask(provider)
        status, body = request(provider, "GET", "/report")

    assert (status, Report(**body)) == (200, provider.report())
    assert len(provider.requests) == 1


def test_it_can_be_waited_for_without_sleeping():
    with FakeProvider("x") as provider:
        threading.Timer(0.05, ask, [provider]).start()

        assert provider.wait_for(1)
        assert not provider.wait_for(2, timeout_s=0.01)


def test_closing_wakes_who_waits_for_requests():
    provider = FakeProvider().start()
    threading.Timer(0.05, provider.close).start()
    started_s = time.monotonic()

    assert not provider.wait_for(1, timeout_s=30)
    assert time.monotonic() - started_s < 5


def test_it_starts_once_and_never_again():
    provider = FakeProvider("x")
    with pytest.raises(ConfigError, match=r"call start\(\)"):
        _ = provider.base_url
    assert repr(provider) == "FakeProvider(not started, model='fake-model', requests=0)"

    url = provider.start().base_url
    assert provider.start().base_url == url
    provider.close()
    provider.close()

    with pytest.raises(ConfigError, match="make a new one"):
        provider.start()


def test_a_provider_never_started_can_be_closed():
    FakeProvider().close()


def test_a_taken_port_is_refused():
    with FakeProvider() as provider:
        port = urlsplit(provider.base_url).port
        with pytest.raises(ConfigError, match=f"port={port} cannot be listened on"):
            FakeProvider(port=port).start()


@pytest.mark.parametrize(
    "options",
    [
        {"max_requests": 0},
        {"max_requests": -1},
        {"max_requests": 2.5},
        {"max_requests": True},
        {"max_tokens": math.nan},
        {"max_tokens": "many"},
        {"interval_s": 0},
        {"interval_s": math.inf},
        {"interval_s": None},
        {"latency_s": -0.1},
        {"latency_s": "slow"},
        {"charge": "guess"},
        {"charge": ["usage"]},
        {"port": 70_000},
        {"port": True},
        {"port": "80"},
        {"bytes_per_token": 0},
        {"bytes_per_token": math.inf},
        {"bytes_per_token": "4"},
        {"model": " "},
        {"model": None},
        {"reply": None},
    ],
    ids=str,
)
def test_bad_arguments_are_refused_by_name(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}.*: give"):
        FakeProvider(**options)


@pytest.mark.parametrize("key", ["sk-a\nb", "sk-ö", 5])
def test_a_bad_key_is_refused_without_telling_it(key):
    with pytest.raises(ConfigError, match="api_key is no key") as caught:
        FakeProvider(api_key=key)

    assert "sk-" not in str(caught.value)


def test_a_bad_timeout_is_refused():
    with pytest.raises(ConfigError, match="timeout_s=-1"):
        FakeProvider().wait_for(1, timeout_s=-1)


def test_serving_lasts_until_it_is_stopped():
    urls, reports, stop = [], [], threading.Event()
    announced = threading.Event()

    def announce(url):
        urls.append(url)
        announced.set()

    options = dict(port=0, latency_s=0.0, max_requests=5, max_tokens=None, interval_s=2.0)
    server = threading.Thread(
        target=lambda: reports.append(
            serve(**options, charge="usage", model="calc", announce=announce, stop=stop)
        )
    )
    server.start()
    assert announced.wait(5)
    question = json.dumps({"instruction": "sum the absolute values", "context": [1, -2.5]})
    port = urlsplit(urls[0]).port
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        answer = post(connection, question)[2]["choices"][0]["message"]["content"]
    stop.set()
    server.join(5)

    assert answer == "3.5"
    assert (reports[0].accepted, reports[0].max_requests, reports[0].interval_s) == (1, 5, 2.0)


def test_the_calculator_can_be_its_reply():
    question = json.dumps({"instruction": "diff the absolute values", "context": [5, -2]})
    with FakeProvider(calculator_reply) as provider:
        assert ask(provider, question)[2]["choices"][0]["message"]["content"] == "3"


def test_a_service_for_it_needs_no_settings():
    with (
        FakeProvider("hello", model="little", api_key="sk-right") as provider,
        provider.service() as service,
    ):
        reply = service.send([{"role": "user", "content": "hi"}])

    assert reply.text == "hello"
    assert provider.requests[0].body["model"] == "little"


def test_a_service_takes_overrides():
    with FakeProvider("hello") as provider, provider.service(model="other") as service:
        service.send([{"role": "user", "content": "hi"}])

    assert provider.requests[0].body["model"] == "other"


def test_a_service_needs_a_started_provider():
    with pytest.raises(ConfigError, match=r"call start\(\)"):
        FakeProvider().service()
