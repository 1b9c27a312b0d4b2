"""The process's default service, and two services for one account."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading

import pytest

from lionlite import Services, default_service, set_default_service
from lionlite.exceptions import ConfigError
from lionlite.service import neighbours, services
from lionlite.testing import FakeProvider

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def _no_default():
    set_default_service(None)
    yield
    set_default_service(None)


@pytest.fixture(autouse=True)
def _no_neighbours(monkeypatch):
    monkeypatch.setattr(neighbours, "_services", type(neighbours._services)())
    monkeypatch.setattr(neighbours, "_warned", set())


@pytest.fixture
def provider():
    with FakeProvider() as provider:
        yield provider


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_default_service_is_openais_and_made_once():
    first = default_service()

    assert (first.provider_name, default_service() is first) == ("OpenAI", True)


def test_the_default_service_is_made_once_by_many_threads(monkeypatch):
    together, made = threading.Barrier(16), []

    def work():
        together.wait()
        made.append(default_service())

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(map(id, made))) == 1


def test_the_default_service_may_be_replaced_and_forgotten(provider):
    with provider.service() as own:
        set_default_service(own)
        is_own = default_service() is own
        set_default_service(None)

        assert (is_own, default_service() is own) == (True, False)


@pytest.mark.parametrize("value", ["OpenAI", Services.OpenAI, 5], ids=["text", "maker", "number"])
def test_only_a_service_can_be_the_default(value):
    with pytest.raises(ConfigError, match=r"set_default_service\(\) takes a Service or None; got"):
        set_default_service(value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_has_a_default_though_the_parents_lock_was_held():
    held, release = threading.Event(), threading.Event()

    def hold():
        with services._default_lock:
            held.set()
            release.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        os._exit(0 if default_service().provider_name == "OpenAI" else 1)
    status = os.waitpid(pid, 0)[1]
    release.set()
    holder.join()

    assert os.waitstatus_to_exitcode(status) == 0


def test_two_services_for_one_account_are_warned_of_once(provider, caplog):
    with (
        provider.service(api_key="sk-CANARY1") as first,
        provider.service(api_key="sk-CANARY1") as second,
        provider.service(api_key="sk-CANARY1") as third,
    ):
        for service in (first, first, second, third, second):
            service.send(MESSAGES)

    [warning] = warnings_in(caplog)
    host = provider.base_url.removeprefix("http://").removesuffix("/v1")
    assert warning.startswith(f"Two services for {host} have the same API key and a budget each")
    assert "CANARY" not in f"{warning} {neighbours._warned} {dict(neighbours._services)}"


@pytest.mark.parametrize(
    "keys", [("key-1", "key-2"), (None, None)], ids=["other accounts", "no account"]
)
def test_services_for_other_accounts_are_not_warned_of(provider, caplog, keys):
    for key in keys:
        Services.Compatible(base_url=provider.base_url, api_key=key, model="m").send(MESSAGES)

    assert warnings_in(caplog) == []


def test_other_hosts_are_other_accounts(provider, caplog):
    with FakeProvider() as other, provider.service() as first, other.service() as second:
        first.send(MESSAGES)
        second.send(MESSAGES)

    assert warnings_in(caplog) == []


@pytest.mark.parametrize("end", ["closed", "dropped"])
def test_a_service_that_is_gone_is_not_counted(provider, caplog, end):
    first = provider.service()
    first.send(MESSAGES)
    if end == "closed":
        first.close()
    else:
        first = None
        gc.collect()

    with provider.service() as second:
        second.send(MESSAGES)

    assert warnings_in(caplog) == []


def test_an_unknown_model_is_warned_of_once_by_many_threads(provider, caplog):
    together = threading.Barrier(16)
    with provider.service(max_tokens=100_000) as service:

        def work():
            together.wait()
            service.send(MESSAGES)

        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    [warning] = warnings_in(caplog)
    assert warning.startswith("No token encoding is known for the model 'fake-model'")


def test_naming_the_estimate_silences_the_warning(provider, caplog):
    with provider.service(max_tokens=1_000, token_encoding_name="estimate") as service:
        service.send(MESSAGES)
        service.send(MESSAGES, model="another")

    assert warnings_in(caplog) == []
