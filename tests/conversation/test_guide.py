"""The guide's code in blocking form, as its readers would write it."""

from __future__ import annotations

import threading

import pytest

import lionlite as ll
from lionlite.testing import FakeProvider, calculator_reply

np = pytest.importorskip("numpy")

system = "You are asked to perform as a calculator. Return only a numeric value."
instruct1 = "sum the absolute values"
instruct2 = "diff the absolute values"
instruct3 = {"if positive": "times 2", "else": "plus 2"}


def f(i):
    rng = np.random.default_rng(i)
    return {"x": rng.integers(-10, 10), "y": rng.normal(), "values": None} | {"values": i}


def expected(context):
    x, y, last = (abs(float(value)) for value in context.values())
    first = x + y + last if context["x"] > 0 else x - y - last
    return first, first * 2 if first > 0 else first + 2


@pytest.fixture
def provider():
    with FakeProvider(calculator_reply) as provider:
        yield provider


def openai(provider, **options):
    return ll.Services.OpenAI(
        base_url=provider.base_url, api_key="some-key", model="calculator", **options
    )


def numbers(outs):
    return [tuple(float(answer) for answer in out) for out in outs]


def approximately(outs):
    return [pytest.approx(out) for out in outs]


def test_a_single_scenario(provider):
    with openai(provider) as service:
        ll.set_default_service(service)
        try:
            context = f(1)
            instruct = instruct1 if context["x"] > 0 else instruct2

            calculator = ll.Session(system)
            step1 = calculator.chat(instruct, context=context)
            step2 = calculator.chat(instruct3)
        finally:
            ll.set_default_service(None)

    assert numbers([(step1, step2)]) == approximately([expected(context)])
    roles = [message["role"] for message in calculator.to_messages()]
    assert roles == ["system", "user", "assistant", "user", "assistant"]


def test_scenarios_in_parallel_with_a_shared_service(provider):
    contexts = [f(i) for i in range(40)]
    service = openai(provider, max_requests=500, max_tokens=90_000, interval=60)

    def calculator_workflow(context):
        calculator = ll.Session(system, service=service)
        instruct = instruct1 if context["x"] > 0 else instruct2
        res1 = calculator.chat(instruct, context=context)
        res2 = calculator.chat(instruct3)
        return (res1, res2)

    with service:
        outs = ll.alcall(contexts, calculator_workflow)

    assert numbers(outs) == approximately([expected(context) for context in contexts])
    assert len(provider.requests) == 80
    assert service.stats().calls == 80


def test_a_shared_service_shares_its_budget(provider):
    """Two sessions in two threads; the third call waits for the window to pass."""
    with openai(provider, max_requests=2, interval=0.3) as service:
        sessions = [ll.Session(system, service=service) for _ in range(2)]
        replies = ll.alcall([*sessions, *sessions], lambda s: s.complete("x", remember=False))

    report = provider.report()
    assert sorted(reply.waited_s > 0.1 for reply in replies) == [False, False, True, True]
    assert (report.accepted, report.refused_429) == (4, 0)
    arrivals = sorted(request.arrival_s for request in provider.requests)
    assert arrivals[2] - arrivals[0] >= 0.3


def test_a_deadline_is_one_clock_over_all_chats(provider):
    with openai(provider) as service:
        session = ll.Session(system, service=service)
        provider.script("1", ll.testing.Fault.hang())

        with pytest.raises(ll.LionError) as caught, ll.deadline(0.2):
            session.chat("first")
            session.chat("second")

    assert isinstance(caught.value, TimeoutError)
    assert len(session.messages) == 2


def test_one_session_can_be_mapped_over_many_inputs(provider):
    everybody = threading.Barrier(20)

    def reply(body):
        everybody.wait(10)
        return calculator_reply(body)

    provider.script(*[reply] * 20)
    with openai(provider) as service:
        calculator = ll.Session(system, service=service)
        sums = ll.alcall(
            [{"x": n, "y": -n} for n in range(20)],
            lambda context: calculator.chat(instruct1, context=context, remember=False),
        )

    assert sums == [str(2 * n) for n in range(20)]
    assert calculator.messages == []
