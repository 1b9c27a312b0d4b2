"""What bounds a call to a real server: budget, time, cancelling, closing; and its numbers."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import threading
import time

import pytest

from lionlite.exceptions import (
    BadRequestError,
    BudgetClosed,
    BudgetTimeout,
    Cancelled,
    DeadlineExceeded,
    RequestTooLarge,
)
from lionlite.records import Usage
from lionlite.scope import Scope, cancellable, entered
from lionlite.testing import FakeProvider, Fault

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def provider():
    with FakeProvider() as provider:
        yield provider


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


# Budget -----------------------------------------------------------------------


def test_a_call_beyond_the_budget_waits_for_it(provider):
    with provider.service(max_requests=2, interval=0.4) as service:
        replies = [service.send(MESSAGES) for _ in range(3)]

    arrivals = [request.arrival_s for request in provider.requests]
    assert [reply.waited_s > 0.2 for reply in replies] == [False, False, True]
    assert arrivals[2] - arrivals[0] >= 0.4


def test_what_would_wait_past_the_deadline_fails_at_once(provider):
    with provider.service(max_requests=1, interval=60) as service:
        service.send(MESSAGES)
        began_s = time.monotonic()

        with pytest.raises(
            BudgetTimeout, match="Give more time with timeout= or deadline"
        ) as caught:
            service.send(MESSAGES, timeout=5)

        assert time.monotonic() - began_s < 1
        assert (caught.value.attempts, caught.value.retry_after_s > 50) == (0, True)
        assert len(provider.requests) == 1


def test_a_request_that_can_never_fit_names_both_caps(provider):
    with (
        provider.service(max_tokens=100, token_encoding_name="estimate") as service,
        pytest.raises(RequestTooLarge) as caught,
    ):
        service.send(MESSAGES, max_tokens=1_000)

    error = caught.value
    assert (error.dimension, error.limit, error.attempts) == ("tokens", 100, 0)
    assert error.needed > 1_000
    assert "Raise the service's max_tokens=, which counts all calls" in str(error)
    assert "cap this answer with llmconfig={'max_tokens': n}" in str(error)
    assert provider.requests == ()


def test_a_request_too_large_for_another_budget_says_which(provider):
    options = {"limits": {"input": "5/minute"}, "token_encoding_name": "estimate"}
    with (
        provider.service(**options) as service,
        pytest.raises(RequestTooLarge, match=r"limits\['input'\]") as caught,
    ):
        service.send([{"role": "user", "content": "x" * 100}])

    assert caught.value.dimension == "input"


@pytest.mark.parametrize(("charge", "used"), [("estimate", 256), ("adjust", 0), ("usage", 0)])
def test_the_budget_is_settled_as_the_provider_charges(provider, charge, used):
    options = {"max_tokens": 10_000, "token_encoding_name": "estimate", "charge": charge}
    with provider.service(**options) as service:
        reply = service.send(MESSAGES)

        charged = service.stats().budget.dimensions["tokens"].used
    assert charged == (used + 3 + 3 + 2 if used else reply.usage.total_tokens)


def test_a_reply_without_usage_keeps_its_estimate():
    body = {"choices": [{"message": {"content": "4"}}], "usage": None}
    with FakeProvider(body) as provider:
        options = {"max_tokens": 10_000, "token_encoding_name": "estimate", "charge": "adjust"}
        with provider.service(**options) as service:
            reply = service.send(MESSAGES)

            assert reply.usage is None
            assert service.stats().budget.dimensions["tokens"].used == 256 + 8


@pytest.mark.parametrize(
    ("params", "output"),
    [
        ({}, 256),
        ({"max_tokens": 10}, 10),
        ({"max_tokens": 10, "n": 3}, 30),
        ({"n": -5}, 256),
        ({"n": 0}, 256),
        ({"extra_body": {"max_tokens": "many"}}, 256),
        ({"extra_body": {"max_completion_tokens": 7, "max_tokens": -1}}, 256),
    ],
    ids=str,
)
def test_the_estimate_of_the_answer_follows_the_caps(params, output):
    body = {"choices": [{"message": {"content": "4"}}]}
    with FakeProvider({**body, "usage": None}) as provider:
        options = {"max_tokens": 10_000, "token_encoding_name": "estimate"}
        with provider.service(**options, max_retries=0) as service:
            with contextlib.suppress(BadRequestError):
                service.send(MESSAGES, **params)

            assert service.stats().budget.dimensions["tokens"].used == output + 8


def test_two_services_share_no_budget(provider):
    with provider.service(max_requests=1) as first, provider.service(max_requests=1) as second:
        replies = [first.send(MESSAGES), second.send(MESSAGES)]

    assert [reply.waited_s < 1 for reply in replies] == [True, True]


def test_calls_in_flight_are_bounded():
    release = threading.Event()

    def hold(body):
        release.wait(10)
        return "ok"

    with FakeProvider(hold) as provider, provider.service(max_concurrency=2) as service:
        threads = [in_thread(lambda: service.send(MESSAGES))[0] for _ in range(6)]
        assert provider.wait_for(2)
        is_third_sent = provider.wait_for(3, timeout_s=0.1)
        release.set()
        for thread in threads:
            thread.join()

    assert (is_third_sent, len(provider.requests)) == (False, 6)


# Time, cancelling, closing ----------------------------------------------------


def test_a_timeout_bounds_the_whole_call(provider):
    provider.script(Fault.hang())
    with provider.service(timeout=0.3) as service:
        began_s = time.monotonic()
        with pytest.raises(DeadlineExceeded) as caught:
            service.send(MESSAGES)

    assert (service.timeout_s, caught.value.phase, caught.value.attempts) == (0.3, "read", 1)
    assert 0.3 <= time.monotonic() - began_s < 0.8


def test_a_timeout_counts_the_queue_too(provider):
    with provider.service(max_requests=1, interval=0.3) as service:
        provider.script("ok", Fault.hang())
        service.send(MESSAGES)
        began_s = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            service.send(MESSAGES, timeout=0.7)

    assert 0.7 <= time.monotonic() - began_s < 1.2


def test_a_call_may_lift_the_services_timeout(provider):
    provider.script(Fault.delay(0.2))
    with provider.service(timeout=0.05) as service:
        assert service.send(MESSAGES, timeout=None).text == "ok"


def test_no_time_at_all_sends_nothing(provider):
    with provider.service() as service:
        with pytest.raises(DeadlineExceeded):
            service.send(MESSAGES, timeout=0)

        assert provider.requests == ()


@pytest.mark.parametrize("how", ["service", "scope"])
def test_a_cancel_ends_calls_under_way_and_no_later_ones(provider, how):
    provider.script(Fault.hang(), Fault.hang())
    with provider.service() as service, cancellable() as token:
        cancel = service.cancel if how == "service" else token.cancel

        def work():
            with entered(Scope(token=token)):
                return service.send(MESSAGES)

        runs = [in_thread(work) for _ in range(2)]
        assert provider.wait_for(2)
        began_s = time.monotonic()
        cancel()
        for thread, _ in runs:
            thread.join(5)

        assert time.monotonic() - began_s < 1
        assert [type(outcome[0]) for _, outcome in runs] == [Cancelled, Cancelled]
        assert runs[0][1][0].attempts == 1
        if how == "service":
            assert service.send(MESSAGES).text == "ok"


def test_closing_ends_everything_and_refuses_the_rest(provider):
    provider.script(Fault.hang())
    service = provider.service(max_requests=1)
    flying, flown = in_thread(lambda: service.send(MESSAGES))
    assert provider.wait_for(1)
    waiting, waited = in_thread(lambda: service.send(MESSAGES))
    while service.stats().budget.waiting == 0:
        time.sleep(0.005)

    service.close()
    service.close()
    flying.join(5)
    waiting.join(5)
    with pytest.raises(BudgetClosed) as caught:
        service.send(MESSAGES)

    assert (type(flown[0]), type(waited[0])) == (Cancelled, BudgetClosed)
    assert (caught.value.attempts, len(provider.requests)) == (0, 1)


def test_leaving_the_with_block_closes(provider):
    with provider.service() as service:
        service.send(MESSAGES)

    with pytest.raises(BudgetClosed):
        service.send(MESSAGES)


# Numbers ----------------------------------------------------------------------


def test_stats_add_up(provider):
    soon = {"retry-after": "0.001"}
    provider.script("ok", Fault.status(500, headers=soon), "ok", Fault.status(400))
    with provider.service(max_requests=50) as service:
        replies = [service.send(MESSAGES) for _ in range(2)]
        with pytest.raises(BadRequestError):
            service.send(MESSAGES)

        stats = service.stats()
    assert (stats.calls, stats.failed, stats.attempts, stats.retries) == (3, 1, 4, 1)
    assert stats.usage == replies[0].usage + replies[1].usage != Usage()
    assert stats.budget.dimensions["requests"].used == 4


def test_64_threads_make_2000_calls_without_an_error():
    together, errors = threading.Barrier(64), []
    numbers = queue.SimpleQueue()
    for number in range(2_000):
        numbers.put(str(number))

    def work():
        together.wait()
        while not numbers.empty():
            try:
                number = numbers.get_nowait()
                reply = service.send([{"role": "user", "content": number}])
                assert reply.text == number
            except queue.Empty:
                return
            except Exception as error:
                errors.append(error)

    with (
        FakeProvider(lambda body: body["messages"][0]["content"]) as provider,
        provider.service() as service,
    ):
        threads = [threading.Thread(target=work) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats = service.stats()
        ports = {request.client_port for request in provider.requests}

    assert errors == []
    assert (stats.calls, stats.attempts, stats.retries) == (2_000, 2_000, 0)
    assert len(ports) <= 64


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_calls_for_itself(provider):
    with provider.service() as service:
        service.send(MESSAGES)
        pid = os.fork()
        if pid == 0:
            signal.alarm(10)
            try:
                is_ok = service.send(MESSAGES).text == "ok" and service.stats().calls == 2
                service.cancel()
            except BaseException:
                is_ok = False
            os._exit(0 if is_ok else 1)
        status = os.waitpid(pid, 0)[1]
        service.send(MESSAGES)

    ports = [request.client_port for request in provider.requests]
    assert os.waitstatus_to_exitcode(status) == 0
    assert (ports[0] == ports[2], ports[0] == ports[1]) == (True, False)
    assert json.dumps(provider.requests[1].body) == json.dumps(provider.requests[0].body)
