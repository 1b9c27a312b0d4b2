"""A service on each way to its provider: directly, through a proxy, with a client of the user's."""

from __future__ import annotations

import httpx
import pytest

from lionlite import Services
from lionlite.exceptions import ConfigError, ConnectionFailed
from lionlite.testing import FakeProvider, FakeStream

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def provider():
    with FakeProvider(FakeStream(["an ", "answer"])) as provider:
        yield provider


def test_a_client_of_the_users_sends(provider):
    with httpx.Client() as client, provider.service(http_client=client) as service:
        text = service.send(MESSAGES).text
        with service.stream(MESSAGES) as stream:
            pieces = list(stream)

    assert (text, "".join(pieces)) == ("an answer", "an answer")
    assert all("httpx" not in request.headers["user-agent"] for request in provider.requests)


def test_a_proxy_that_is_not_there_is_a_failed_connection(provider):
    with (
        provider.service(proxy="http://127.0.0.1:9", max_retries=0) as service,
        pytest.raises(ConnectionFailed),
    ):
        service.send(MESSAGES)
    assert provider.requests == ()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"proxy": "gopher://host:70"}, "proxy="),
        ({"proxy": "http://user:secret-word@"}, "proxy="),
        ({"http_client": object()}, "http_client="),
        ({"http_client": httpx.AsyncClient}, "http_client="),
    ],
)
def test_a_way_that_is_none_is_refused_at_once(arguments, named):
    with pytest.raises(ConfigError) as caught:
        Services.Ollama(model="m", **arguments)

    assert named in str(caught.value)
    assert "secret-word" not in str(caught.value)


def test_two_ways_at_once_are_refused():
    with httpx.Client() as client, pytest.raises(ConfigError, match="exclude each other"):
        Services.Ollama(model="m", proxy="http://127.0.0.1:3128", http_client=client)


def test_only_https_goes_through_the_proxy_of_the_environment(provider, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    with provider.service() as service:
        assert service.send(MESSAGES).text == "an answer"
