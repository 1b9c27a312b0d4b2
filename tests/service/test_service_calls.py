"""The way of one call to a real server: what goes out, what comes back, what is retried."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from lionlite import Services
from lionlite.exceptions import (
    AuthenticationError,
    BadRequestError,
    BudgetTimeout,
    ConnectionFailed,
    DeadlineExceeded,
    QuotaExhausted,
    RateLimitError,
    ResponseError,
    ServerError,
)
from lionlite.scope import deadline
from lionlite.service import retry
from lionlite.testing import FakeProvider, Fault

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def provider():
    with FakeProvider() as provider:
        yield provider


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch):
    """Back off for no time at all, where the server asks for none."""
    monkeypatch.setattr(retry, "BASE_S", 0.0)


def statuses(provider):
    return [request.status for request in provider.requests]


def in_thread(function):
    """Run *function* in a thread; return the thread and the list its outcome goes to."""
    outcome = []

    def run():
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


# What goes out and what comes back ---------------------------------------------


def test_a_call_sends_the_messages_and_returns_the_reply(provider):
    with provider.service() as service:
        reply = service.send(MESSAGES, temperature=0, seed=0, top_p=None)

    request = provider.requests[0]
    assert request.body == {
        "model": "fake-model",
        "messages": MESSAGES,
        "temperature": 0,
        "seed": 0,
    }
    assert request.headers["user-agent"] == "lionlite"
    assert (reply.text, reply.attempts, reply.usage.output_tokens) == ("ok", 1, 1)
    assert 0 <= reply.waited_s <= reply.elapsed_s < 5


@pytest.mark.parametrize(
    ("name", "sent_as"),
    [
        ("OpenAI", "max_completion_tokens"),
        ("OpenRouter", "max_completion_tokens"),
        ("Groq", "max_tokens"),
        ("Mistral", "max_tokens"),
        ("DeepSeek", "max_tokens"),
        ("Ollama", "max_tokens"),
        ("Compatible", "max_tokens"),
    ],
)
@pytest.mark.parametrize("given_as", ["max_tokens", "max_completion_tokens"])
def test_the_cap_goes_out_under_the_providers_name(provider, name, sent_as, given_as):
    maker = getattr(Services, name)

    with maker(base_url=provider.base_url, api_key="k", model="m") as service:
        service.send(MESSAGES, **{given_as: 9})

    body = provider.requests[0].body
    assert {key: value for key, value in body.items() if "max_" in key} == {sent_as: 9}


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("OpenAI", "gpt-4o-mini"),
        ("OpenRouter", "openai/gpt-4o-mini"),
        ("Mistral", "mistral-small-latest"),
        ("DeepSeek", "deepseek-chat"),
    ],
)
def test_a_call_without_a_model_goes_to_the_providers_default(provider, name, model):
    with getattr(Services, name)(base_url=provider.base_url, api_key="k") as service:
        service.send(MESSAGES)

    assert provider.requests[0].body["model"] == model


def test_a_call_names_another_model(provider):
    with provider.service(model="usual") as service:
        service.send(MESSAGES, model="other")

    assert provider.requests[0].body["model"] == "other"


def test_extra_body_goes_out_unchecked_and_last(provider):
    with Services.OpenAI(base_url=provider.base_url, api_key="k", model="m") as service:
        service.send(
            MESSAGES, temperature=1, extra_body={"temperature": 0.5, "brand_new": {1: (2,)}}
        )

    body = provider.requests[0].body
    assert (body["temperature"], body["brand_new"]) == (0.5, {"1": [2]})


def test_headers_of_service_and_call_go_out(provider):
    with provider.service(headers={"X-Title": "a", "X-Both": "a"}) as service:
        service.send(MESSAGES, extra_headers={"x-both": "b"})

    headers = provider.requests[0].headers
    assert (headers["x-title"], headers["x-both"]) == ("a", "b")


def test_openais_variables_are_read_as_its_own_client_does(provider, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " sk-env \n")
    monkeypatch.setenv("OPENAI_BASE_URL", f" {provider.base_url} ")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")

    with Services.OpenAI(model="m") as service:
        service.send(MESSAGES)

    headers = provider.requests[0].headers
    assert headers["authorization"] == "***"
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj-1")


def test_an_argument_wins_over_the_environment(provider, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/nowhere")
    monkeypatch.setenv("OPENAI_ORG_ID", "")

    with Services.OpenAI(model="m", api_key="k", base_url=provider.base_url) as service:
        service.send(MESSAGES)

    assert "openai-organization" not in provider.requests[0].headers


def test_a_server_without_a_key_gets_no_authorization(provider):
    with Services.Ollama(base_url=provider.base_url, model="m") as service:
        service.send(MESSAGES)

    assert "authorization" not in provider.requests[0].headers


def test_a_key_function_may_renew_the_key():
    keys = ["old"]
    with (
        FakeProvider(api_key="new") as provider,
        provider.service(api_key=lambda: keys[-1]) as service,
    ):
        with pytest.raises(AuthenticationError):
            service.send(MESSAGES)
        keys.append("new")

        assert service.send(MESSAGES).text == "ok"


def test_a_key_function_is_asked_for_every_request():
    asked = []
    with (
        FakeProvider([Fault.status(500), "ok", "ok"]) as provider,
        provider.service(api_key=lambda: asked.append(1) or "key") as service,
    ):
        service.send(MESSAGES)
        service.send(MESSAGES)

    assert len(asked) == 1 + len(provider.requests)  # one to see whether there is a key at all


def test_refusals_and_tool_calls_come_back_as_replies():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = [{"refusal": "no", "content": None}, {"tool_calls": [call]}]
    with FakeProvider(said) as provider, provider.service() as service:
        replies = [service.send(MESSAGES) for _ in range(2)]

    assert [(r.text, r.refusal, r.tool_calls) for r in replies] == [
        ("", "no", ()),
        ("", None, (call,)),
    ]
    assert replies[1].finish_reason == "tool_calls"


# Retries ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(500),
        Fault.status(503, headers={"retry-after": "0.01"}),
        Fault.status(408),
        Fault.status(409),
        Fault.status(529),
        Fault.html(502),
        Fault.drop(),
        Fault.drop(reset=True),
        Fault.cut(10),
        Fault.bad_json(),
        Fault.no_choices(),
        Fault.raw(200, b""),
        Fault.raw(200, b"<html>"),
        Fault.raw(200, b'{"error": {"code": 502, "message": "upstream"}}'),
    ],
    ids=lambda fault: f"{fault.kind} {fault.http.status if fault.http else ''}",
)
def test_what_may_pass_is_tried_again_and_says_so(fault):
    with FakeProvider([fault, "ok"]) as provider, provider.service() as service:
        reply = service.send(MESSAGES)

        stats = service.stats()
        assert (reply.text, reply.attempts, len(provider.requests)) == ("ok", 2, 2)
        assert (stats.calls, stats.failed, stats.attempts, stats.retries) == (1, 0, 2, 1)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.status(400), BadRequestError),
        (Fault.status(401), AuthenticationError),
        (Fault.status(422), BadRequestError),
        (Fault.quota(), QuotaExhausted),
        (Fault.status(402), QuotaExhausted),
        (Fault.status(500, headers={"x-should-retry": "false"}), ServerError),
        (Fault.status(500, headers={"retry-after": "999999999"}), ServerError),
        (Fault.status(429, headers={"retry-after": "999999999"}), RateLimitError),
        (Fault.raw(307, b"", headers={"location": "http://127.0.0.1:9/"}), BadRequestError),
    ],
    ids=[
        "400",
        "401",
        "422",
        "quota",
        "402",
        "told not to",
        "503 in 31 years",
        "429 in 31 years",
        "redirect",
    ],
)
def test_what_cannot_pass_is_sent_once(fault, kind):
    with FakeProvider([fault, "ok"]) as provider, provider.service() as service:
        with pytest.raises(kind) as caught:
            service.send(MESSAGES)

        stats = service.stats()
        assert (caught.value.attempts, len(provider.requests)) == (1, 1)
        assert (stats.calls, stats.failed, stats.attempts, stats.retries) == (1, 1, 1, 0)


def test_an_error_tells_of_all_its_attempts():
    faults = [Fault.status(500), Fault.drop(), Fault.status(503)]
    with (
        FakeProvider(faults) as provider,
        provider.service() as service,
        pytest.raises(ServerError) as caught,
    ):
        service.send(MESSAGES)

    error = caught.value
    assert (error.status, error.attempts, error.waited_s >= 0) == (503, 3, True)
    assert isinstance(error.__cause__, ConnectionFailed)
    assert (error.__cause__.__cause__.status, error.__cause__.__cause__.__cause__) == (500, None)


@pytest.mark.parametrize("fault", [Fault.bad_json(), Fault.no_choices()], ids=["json", "choices"])
def test_a_broken_reply_is_asked_for_once_more_only(fault):
    with FakeProvider([fault] * 9) as provider, provider.service(max_retries=5) as service:
        with pytest.raises(ResponseError) as caught:
            service.send(MESSAGES)

        assert (caught.value.attempts, len(provider.requests)) == (2, 2)


@pytest.mark.parametrize("fault", [Fault.status(500), Fault.status(429), Fault.drop()])
def test_without_retries_everything_is_sent_once(fault):
    with FakeProvider([fault, "ok"]) as provider, provider.service(max_retries=0) as service:
        with pytest.raises((ServerError, RateLimitError, ConnectionFailed)) as caught:
            service.send(MESSAGES)

        assert (caught.value.attempts, len(provider.requests)) == (1, 1)


def test_a_stale_connection_costs_no_attempt():
    with FakeProvider() as provider, provider.service(max_retries=0) as service:
        first = service.send(MESSAGES)
        [idle] = service._delivery.connections._idle
        idle._link._sock.shutdown(socket.SHUT_RDWR)

        second = service.send(MESSAGES)

        ports = {request.client_port for request in provider.requests}
        assert (first.attempts, second.attempts, len(ports)) == (1, 1, 2)


def test_a_refused_connection_is_tried_three_times():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with (
        Services.Compatible(base_url=f"http://127.0.0.1:{port}", model="m") as service,
        pytest.raises(ConnectionFailed, match="Connection refused") as caught,
    ):
        service.send(MESSAGES)

    assert caught.value.attempts == 3


def test_backoff_ends_at_the_deadline_with_the_cause(monkeypatch):
    monkeypatch.setattr(retry, "BASE_S", 1e6)
    monkeypatch.setattr(retry, "CAP_S", 1e6)
    with FakeProvider([Fault.status(500)]) as provider, provider.service() as service:
        began_s = time.monotonic()
        with pytest.raises(DeadlineExceeded) as caught:
            service.send(MESSAGES, timeout=5)

    error = caught.value
    assert time.monotonic() - began_s < 2
    assert (error.phase, error.attempts, error.retry_after_s > 5) == ("backoff", 1, True)
    assert isinstance(error.__cause__, ServerError)


# 429 --------------------------------------------------------------------------


def test_a_429_is_waited_for_and_uses_up_no_attempt():
    limited = Fault.status(429, headers={"retry-after": "0.05"})
    with (
        FakeProvider([limited] * 4 + ["ok"]) as provider,
        provider.service(max_retries=1) as service,
    ):
        reply = service.send(MESSAGES)

        assert (reply.text, reply.attempts, service.stats().rate_limited) == ("ok", 5, 4)
        assert 0.15 < reply.waited_s <= reply.elapsed_s < 2


def test_a_429_pauses_every_call_of_the_service():
    with FakeProvider([Fault.status(429, headers={"retry-after": "0.4"})]) as provider:
        provider.script(Fault.status(429, headers={"retry-after": "0.4"}), "ok", "ok", "ok")
        with provider.service() as service:
            first, replies = in_thread(lambda: service.send(MESSAGES))
            while service.stats().budget.paused_for_s == 0:
                time.sleep(0.005)
            paused_s = time.monotonic()
            reply = service.send(MESSAGES)
            first.join()

    later = [request for request in provider.requests if request.status == 200]
    assert min(request.arrival_s for request in later) - paused_s > 0.3
    assert (reply.attempts, reply.waited_s > 0.3, replies[0].attempts) == (1, True, 2)


@pytest.mark.parametrize(
    "wish", [{"retry-after": "0"}, {"retry-after-ms": "6"}, {"retry-after": "0.05"}], ids=str
)
def test_a_429_that_asks_for_hardly_a_wait_starts_no_storm(wish):
    limited = Fault.status(429, headers=wish)
    with (
        FakeProvider(lambda body: limited) as provider,
        provider.service() as service,
        pytest.raises(BudgetTimeout),
    ):
        service.send(MESSAGES, timeout=1)

    assert len(provider.requests) <= 8


def test_nothing_but_429s_ends_at_the_deadline_with_the_cause():
    limited = Fault.status(429, headers={"retry-after": "20"})
    with FakeProvider([limited]) as provider, provider.service() as service, deadline(2):
        began_s = time.monotonic()
        with pytest.raises(BudgetTimeout) as caught:
            service.send(MESSAGES)

    error = caught.value
    assert time.monotonic() - began_s < 1
    assert (error.attempts, 15 < error.retry_after_s <= 20) == (1, True)
    assert isinstance(error.__cause__, RateLimitError)
