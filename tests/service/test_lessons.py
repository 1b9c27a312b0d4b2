"""What headers teach a service, judged by the log of a strict provider."""

from __future__ import annotations

import threading

import pytest

import lionlite as ll
from lionlite import BudgetTimeout, Services
from lionlite.limits.limiter import RateLimiter
from lionlite.service.lessons import Lessons
from lionlite.testing import FakeProvider, Fault

LONG_S = 60.0


def limits_of(service) -> dict[str, int]:
    return {name: one.limit for name, one in service.stats().budget.dimensions.items()}


def used_of(service) -> dict[str, int]:
    return {name: one.used for name, one in service.stats().budget.dimensions.items()}


def say(service, **params) -> str:
    return ll.Session(service=service).chat("hi", **params)


def test_a_limit_that_nobody_gave_is_learned_and_kept():
    with FakeProvider(max_requests=5, interval_s=LONG_S) as provider, provider.service() as service:
        for _ in range(5):
            say(service)

        with pytest.raises(BudgetTimeout), ll.deadline(1):
            say(service)

        assert limits_of(service) == {"requests@fake-model": 5}
        assert provider.report().refused_429 == 0


def test_limits_are_learned_for_each_model():
    with FakeProvider(max_requests=5, interval_s=LONG_S) as provider, provider.service() as service:
        say(service, model="one")
        say(service, model="two")

        assert limits_of(service) == {"requests@one": 5, "requests@two": 5}


def test_tokens_are_counted_once_a_limit_of_them_is_learned():
    with FakeProvider(max_tokens=1_000, interval_s=LONG_S) as provider:
        with provider.service(token_encoding_name="estimate") as service:
            say(service, max_tokens=400)
            say(service, max_tokens=400)

            with pytest.raises(BudgetTimeout), ll.deadline(1):
                say(service, max_tokens=400)

        assert limits_of(service)["tokens@fake-model"] == 1_000
        assert provider.report().refused_429 == 0


def test_what_others_use_of_the_key_is_used():
    with FakeProvider(max_requests=6, interval_s=LONG_S) as provider:
        with provider.service() as ours, provider.service(max_requests=100) as theirs:
            say(ours)
            for _ in range(3):
                say(theirs)
            say(ours)

            say(ours)
            with pytest.raises(BudgetTimeout), ll.deadline(1):
                say(ours)

        assert provider.report().refused_429 == 0
        assert used_of(ours) == {"requests@fake-model": 6}


def test_calls_under_way_count_when_their_limit_becomes_known():
    # The provider says that 2 are used; the two that are under way, it does not know yet.
    told = {"x-ratelimit-limit-requests": "4", "x-ratelimit-remaining-requests": "2"}
    limiter = RateLimiter({})
    lessons = Lessons(
        limiter,
        learned=frozenset({"requests"}),
        given=frozenset(),
        intervals={"requests": LONG_S},
        may_change_charge=False,
    )
    costs = [lessons.costs_of("m", None) for _ in range(5)]

    under_way = [limiter.reserve(cost) for cost in costs[:4]]
    lessons.learn("m", told)

    assert limiter.stats().dimensions["requests@m"].used == 4
    assert limiter.try_reserve(costs[4]) is None
    assert len(under_way) == 4


def test_a_burst_of_threads_is_never_refused_once_the_limit_is_known():
    with FakeProvider(max_requests=20, interval_s=LONG_S, latency_s=0.01) as provider:
        with provider.service() as service:
            say(service)
            start = threading.Barrier(40)

            def one(_):
                start.wait(20)
                with ll.deadline(2):
                    return say(service)

            outs = ll.lcall(range(40), one, max_workers=40, on_error="return")

        assert sum(out == "ok" for out in outs) == 19
        assert provider.report().refused_429 == 0


def test_limits_that_were_given_stay_as_they_are():
    with FakeProvider(max_requests=5, interval_s=LONG_S) as provider:
        with provider.service(max_requests=100, max_tokens=10_000) as service:
            say(service)

            assert limits_of(service) == {"requests": 100, "tokens": 10_000}


def test_limits_that_were_declined_are_not_learned():
    with FakeProvider(max_requests=5, max_tokens=1_000, interval_s=LONG_S) as provider:
        with provider.service(max_requests=None, max_tokens=None) as service:
            say(service)

            assert limits_of(service) == {}


def test_a_local_server_is_not_asked_for_limits():
    with FakeProvider(max_requests=5, interval_s=LONG_S) as provider:
        with Services.Ollama(base_url=provider.base_url, model="m") as service:
            say(service)

            assert limits_of(service) == {}


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ratelimit-limit-requests": "-1", "x-ratelimit-remaining-requests": "0"},
        {"x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0"},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s"},
        {"x-ratelimit-limit-requests": "many", "x-ratelimit-remaining-requests": "few"},
    ],
    ids=["Azure's -1", "Azure's 0", "no limit", "words"],
)
def test_headers_that_say_nothing_limit_nothing(headers):
    body = b'{"choices":[{"message":{"content":"ok"}}]}'
    with FakeProvider(Fault.raw(200, body, headers=headers)) as provider:
        with provider.service() as service:
            answers = [say(service) for _ in range(5)]

            assert answers == ["ok"] * 5
            assert limits_of(service) == {}


def test_a_day_in_groqs_headers_is_a_day():
    headers = {"x-ratelimit-limit-requests": "14400", "x-ratelimit-limit-tokens": "6000"}
    body = b'{"choices":[{"message":{"content":"ok"}}]}'
    with FakeProvider(Fault.raw(200, body, headers=headers)) as provider:
        with Services.Groq(base_url=provider.base_url, api_key="k", model="m") as service:
            say(service)

            found = service.stats().budget.dimensions
            assert {name: one.interval_s for name, one in found.items()} == {
                "requests@m": 86_400.0,
                "tokens@m": 60.0,
            }


@pytest.mark.parametrize(
    ("charge", "most"), [("estimate", 10_000), ("adjust", 3_500)], ids=["kept", "given back"]
)
def test_headers_show_whether_the_server_gives_back(charge, most):
    with FakeProvider(max_tokens=100_000, interval_s=LONG_S, charge=charge) as provider:
        with provider.service(max_tokens=100_000, token_encoding_name="estimate") as service:
            for _ in range(8):
                say(service, max_tokens=1_000)

            used = used_of(service)["tokens"]
            assert most - 2_500 < used <= most


def test_the_length_of_answers_is_learned_where_nothing_caps_them():
    with FakeProvider("word " * 400) as provider:
        with provider.service(max_tokens=100_000, token_encoding_name="estimate") as service:
            for _ in range(6):
                say(service)
            before = used_of(service)["tokens"]

            provider.script(Fault.status(400))
            with pytest.raises(ll.LionError):
                say(service)

            # A refused call keeps its reservation: what the estimate was.
            assert used_of(service)["tokens"] - before == 500 + 8


def test_tools_and_the_servers_own_prompt_are_learned_from_usage():
    usage = {"prompt_tokens": 300, "completion_tokens": 5, "total_tokens": 305}
    body = {"choices": [{"message": {"content": "ok"}}], "usage": usage}
    tools = [{"type": "function", "function": {"name": "roll", "parameters": {}}}]
    with FakeProvider(body) as provider:
        with provider.service(max_tokens=100_000, token_encoding_name="estimate") as service:
            say(service, tools=tools, max_tokens=10)
            before = used_of(service)["tokens"]

            provider.script(Fault.status(400))
            with pytest.raises(ll.LionError):
                say(service, tools=tools, max_tokens=10)
            learned = used_of(service)["tokens"] - before

            provider.script(Fault.status(400))
            with pytest.raises(ll.LionError):
                say(service, max_tokens=10)
            without_tools = used_of(service)["tokens"] - before - learned

            assert (learned, without_tools) == (310, 18)
