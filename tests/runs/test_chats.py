"""What the chats of an item took, told over real HTTP."""

from __future__ import annotations

import threading

import pytest

from lionlite import Session
from lionlite.calls.family import lcall
from lionlite.calls.runs.run import last_run, run
from lionlite.exceptions import CheckpointError, OutputError
from lionlite.records import Usage
from lionlite.scope import sleep
from lionlite.testing import FakeProvider, Fault

pytestmark = pytest.mark.timeout(30)


def body(text="fine", *, cost=0.5):
    return {
        "model": "fake-large",
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 1},
            "cost": cost,
        },
    }


def chat(service):
    return lambda item: Session(service=service).chat(str(item))


@pytest.fixture
def provider():
    with FakeProvider(lambda _: body()) as provider:
        yield provider


@pytest.fixture
def service(provider):
    with provider.service() as service:
        yield service


def test_an_outcome_tells_what_its_chat_took(service):
    outcome = run(["hi"], chat(service))[0]

    assert (outcome.value, outcome.usage, outcome.cost) == ("fine", Usage(7, 3, 2, 1), 0.5)
    assert (outcome.attempts, outcome.model, outcome.finish_reason) == (1, "fake-large", "stop")
    assert len(outcome.request_ids) == 1
    assert 0 <= outcome.waited_s < outcome.elapsed_s < 10


def test_several_chats_of_an_item_add_up(service):
    def workflow(item):
        session = Session(service=service)
        return [session.chat(f"{item} {number}") for number in range(3)]

    result = run(["a", "b"], workflow)

    assert result[0].usage == Usage(21, 9, 6, 3)
    assert (result.usage, result.cost) == (Usage(42, 18, 12, 6), 3.0)
    assert len(set(result[0].request_ids + result[1].request_ids)) == 6


def test_chats_in_threads_of_an_item_are_its_own(service):
    result = run([2, 3], lambda n: lcall(range(n), chat(service)))

    assert [outcome.chats.count for outcome in result] == [2, 3]


def test_a_run_inside_an_item_is_counted_in_both(service):
    result = run([2, 3], lambda n: run(range(n), chat(service)))

    assert [outcome.value.cost for outcome in result] == [1.0, 1.5]
    assert [outcome.cost for outcome in result] == [1.0, 1.5]


def test_a_table_shows_what_chats_took(service):
    row = run(["hi"], chat(service)).to_dicts()[0]

    assert {name: row[name] for name in row if "tokens" in name} == {
        "input_tokens": 7,
        "output_tokens": 3,
        "cached_tokens": 2,
        "reasoning_tokens": 1,
    }
    assert (row["cost"], row["attempts"], row["model"]) == (0.5, 1, "fake-large")


def test_what_failed_took_its_requests_too():
    with FakeProvider(Fault.status(400)) as provider, provider.service() as service:
        outcome = run(["hi"], chat(service))[0]

    assert (outcome.is_failed, outcome.attempts, outcome.usage) == (True, 1, None)
    assert (outcome.model, outcome.finish_reason) == ("fake-model", None)


def test_a_retried_item_is_charged_for_all_its_chats(provider, service):
    seen = []

    def func(item):
        answer = Session(service=service).chat(item)
        seen.append(answer)
        if len(seen) == 1:
            raise ValueError(answer)
        return answer

    first = run(["hi"], func)
    second = first.retry_failed()

    assert (first.cost, second.cost, second[0].chats.count) == (0.5, 1.0, 2)
    assert len(provider.requests) == 2


def test_an_item_that_was_cut_tells_what_its_chats_took(service):
    together = threading.Barrier(3)

    def func(item):
        Session(service=service).chat(item)
        together.wait()
        if item != "quick":
            sleep(600, phase="turn")

    def ctrl_c(done, total):
        raise KeyboardInterrupt

    result = run(["slow", "quick", "slow"], func, max_workers=3, progress=ctrl_c)

    assert [(outcome.status, outcome.cost) for outcome in result] == [
        ("unfinished", 0.5),
        ("ok", 0.5),
        ("unfinished", 0.5),
    ]
    assert (result.interrupted, len(result.unfinished), result.cost) == (True, 2, 1.5)


def test_answers_that_cannot_be_used_stop_the_run_before_they_cost_much():
    with FakeProvider(lambda _: body("no number")) as provider, provider.service() as service:
        result = run(range(500), lambda n: float(chat(service)(n)), max_workers=4)

    assert result.stopped.startswith("The first 20 items all failed, the last: ValueError")
    assert len(provider.requests) <= 24


def test_refusals_stop_the_run_likewise():
    refusal = {"role": "assistant", "content": None, "refusal": "no"}
    with FakeProvider(lambda _: refusal) as provider, provider.service() as service:
        result = run(range(500), chat(service), max_workers=4)

    assert {type(error) for error in result.errors.values()} == {OutputError}
    assert len(provider.requests) <= 24


def test_a_key_that_is_refused_stops_the_run_at_once():
    with FakeProvider(Fault.status(401)) as provider, provider.service() as service:
        result = run(range(500), chat(service), max_workers=4)

    assert result.stopped.startswith("AuthenticationError")
    assert len(provider.requests) <= 8


def test_a_resumed_run_shows_the_same_table_and_pays_for_nothing(provider, service, tmp_path):
    def func(item):
        return {"answer": Session(service=service).chat(item), "length": len(item)}

    items = [f"item {n}" for n in range(8)]
    first = run(items, func, checkpoint=tmp_path / "run.db")
    paid = len(provider.requests)
    second = run(items, func, checkpoint=tmp_path / "run.db")

    assert (paid, len(provider.requests)) == (8, 8)
    assert told(second) == told(first)
    assert "8 answered from the checkpoint" in second.summary()


def told(result):
    times = {"elapsed_s"}
    return [{k: v for k, v in row.items() if k not in times} for row in result.to_dicts()]


def test_a_checkpoint_that_fails_raises_with_everything_finished(tmp_path):
    odd = object()

    with pytest.raises(CheckpointError, match=r"item 1 .* encode=") as caught:
        run(["a", odd], lambda item: item, key=id, checkpoint=tmp_path / "run.db", max_workers=1)

    assert caught.value.results == last_run().results == ["a", odd]
