"""How many retries a service sends in all: arithmetic on a manual clock, and a real outage."""

from __future__ import annotations

import pytest

import lionlite as ll
from lionlite.exceptions import ServerError
from lionlite.service.retry_budget import PER_ANSWER, PER_SECOND, RESERVE, RetryBudget
from lionlite.testing import FakeProvider, Fault, ManualClock

MESSAGES = [{"role": "user", "content": "hi"}]


def emptied(clock):
    budget = RetryBudget(clock=clock)
    while budget.take():
        pass
    return budget


def test_a_service_begins_with_a_reserve():
    clock = ManualClock()
    budget = RetryBudget(clock=clock)

    taken = [budget.take() for _ in range(int(RESERVE) + 1)]

    assert taken == [True] * int(RESERVE) + [False]


@pytest.mark.parametrize(("answers", "may"), [(8, False), (11, True)])
def test_answers_allow_a_tenth_of_themselves(answers, may):
    budget = emptied(ManualClock())

    for _ in range(answers):
        budget.answered()

    assert PER_ANSWER == 0.1
    assert budget.take() is may


def test_time_allows_a_retry_now_and_then_but_never_more_than_the_reserve():
    clock = ManualClock()
    budget = emptied(clock)

    clock.advance(1.01 / PER_SECOND)
    after_a_while = [budget.take(), budget.take()]
    clock.advance(1_000_000)
    later = [budget.take() for _ in range(int(RESERVE) + 1)]

    assert after_a_while == [True, False]
    assert later == [True] * int(RESERVE) + [False]


def test_a_total_outage_meets_at_most_a_tenth_more_load():
    calls = 400
    with (
        FakeProvider(lambda _: Fault.status(503, headers={"retry-after": "0.001"})) as provider,
        provider.service() as service,
    ):
        outs = ll.lcall(
            range(calls), lambda _: service.send(MESSAGES), max_workers=32, on_error="return"
        )

        assert {type(error) for error in outs} == {ServerError}
        assert calls < len(provider.requests) <= 1.1 * calls
        stats = service.stats()
        assert (stats.calls, stats.attempts) == (calls, len(provider.requests))
        assert any("not tried again" in note for note in outs[-1].__notes__)


def test_one_call_cannot_spend_more_than_the_reserve():
    replies = iter([Fault.status(503, headers={"retry-after": "0.001"})] * 12)
    with (
        FakeProvider(lambda _: next(replies, "fine")) as provider,
        provider.service(max_retries=20) as service,
        pytest.raises(ServerError),
    ):
        service.send(MESSAGES)

    assert len(provider.requests) == 1 + RESERVE
