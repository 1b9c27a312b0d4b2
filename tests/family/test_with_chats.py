"""The family around real chats: deadlines and cuts reach down to the socket."""

from __future__ import annotations

import threading
import time

import pytest

from lionlite import Session
from lionlite.calls.batches import bcall
from lionlite.calls.decorators.cd import cd
from lionlite.calls.matrix import mcall
from lionlite.calls.single import rcall, tcall
from lionlite.exceptions import AuthenticationError, CallError, Cancelled, DeadlineExceeded
from lionlite.scope import cancellable
from lionlite.testing import FakeProvider, Fault


def ask(service, question="What is 2 + 2?"):
    return Session(service=service).chat(question)


@pytest.mark.parametrize("bound", ["tcall", "rcall", "cd.timeout"])
def test_a_timeout_cuts_a_chat_whose_reply_never_comes(bound):
    calls = {
        "tcall": lambda service: tcall(ask, service, timeout=0.2),
        "rcall": lambda service: rcall(ask, service, timeout=0.2),
        "cd.timeout": cd.timeout(0.2)(ask),
    }
    with FakeProvider(Fault.hang()) as provider:
        service, began_s = provider.service(max_retries=0), time.monotonic()

        with pytest.raises(DeadlineExceeded):
            calls[bound](service)

    assert time.monotonic() - began_s < 5


def test_a_wrong_key_is_asked_about_once_and_never_replaced():
    with FakeProvider("4", api_key="right") as provider:
        service = provider.service(api_key="wrong")

        with pytest.raises(AuthenticationError):
            cd.default("")(cd.retry(5, delay=0)(ask))(service)

        assert len(provider.requests) == 1


def test_a_wrong_key_stops_batches_and_matrices():
    with FakeProvider("4", api_key="right") as provider:
        service = provider.service(api_key="wrong")

        with pytest.raises(CallError) as caught:
            bcall([service] * 50, ask, batch_size=2, on_error="return")
        assert caught.value.fatal
        with pytest.raises(CallError):
            mcall([service], [ask] * 50, explode=True, on_error="return", max_workers=2)

        assert len(provider.requests) <= 4


def test_one_cached_chat_answers_many_threads():
    with FakeProvider("4", latency_s=0.05) as provider:
        service = provider.service()
        cached = cd.cache(lambda question: ask(service, question))

        answers = bcall(["What is 2 + 2?"] * 64, cached, batch_size=64)

        assert answers == ["4"] * 64
        assert len(provider.requests) == 1


def test_max_concurrency_bounds_what_the_provider_sees():
    with FakeProvider("4", latency_s=0.02) as provider:
        service = provider.service()
        limited = cd.max_concurrency(3)(ask)

        assert bcall([service] * 24, limited, batch_size=24) == ["4"] * 24

        log = provider.requests

    at_once = [
        sum(other.arrival_s <= request.arrival_s < other.finished_s for other in log)
        for request in log
    ]
    assert len(log) == 24
    assert max(at_once) <= 3


def test_a_cancel_reaches_a_chat_and_those_that_wait_for_its_place():
    limited = cd.max_concurrency(1)(ask)
    with FakeProvider(Fault.hang()) as provider, cancellable() as token:
        service, began_s = provider.service(max_retries=0), time.monotonic()
        timer = threading.Timer(0.2, token.cancel)
        timer.start()

        with pytest.raises(Cancelled):
            bcall([service] * 8, limited, batch_size=8)

        timer.join()
        assert len(provider.requests) <= 1

    assert time.monotonic() - began_s < 5
