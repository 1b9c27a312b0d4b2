"""checkpoint= through `lcall` and `icall`, against a real provider."""

from __future__ import annotations

import functools
import os
import signal
import threading

import attrs
import pytest
from checkpoint_tools import rows, run

import lionlite as ll
from lionlite.exceptions import CheckpointError
from lionlite.testing import FakeProvider, Fault


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


@pytest.fixture
def provider():
    with FakeProvider(lambda request: request["messages"][-1]["content"].upper()) as provider:
        yield provider


@attrs.frozen
class Pair:
    first: str
    second: str


def workflow(service, item):
    session = ll.Session("Be short.", service=service)
    return Pair(session.chat(f"first {item}"), session.chat(f"second {item}"))


@pytest.fixture
def work(provider):
    with provider.service() as service:
        yield functools.partial(workflow, service)


def test_resuming_asks_nothing_and_gives_the_same_types(path, provider, work):
    first = ll.lcall(range(20), work, checkpoint=path)
    again = ll.lcall(range(20), work, checkpoint=path)
    as_they_come = dict(ll.icall(range(20), work, checkpoint=path))

    assert first == again == [as_they_come[index] for index in range(20)]
    assert first[3] == Pair("FIRST 3", "SECOND 3")
    assert len(provider.requests) == 40


def test_another_model_or_parameter_is_asked_anew(path, provider):
    def ask(item, **llmconfig):
        return ll.Session(service=service, llmconfig=llmconfig).chat("hello")

    with provider.service() as service:
        for llmconfig in ({}, {"temperature": 0}, {"model": "other"}, {"temperature": 0}):
            ll.lcall([1, 2], functools.partial(ask, **llmconfig), checkpoint=path)

    assert len(provider.requests) == 6


def test_items_that_failed_run_again_with_their_finished_chats(path, provider, work):
    provider.script("ok", Fault.status(400))
    first = ll.lcall(range(6), work, checkpoint=path, max_workers=1, on_error="return")
    asked = len(provider.requests)

    again = ll.lcall(range(6), work, checkpoint=path)

    assert [type(one).__name__ for one in first] == ["BadRequestError", *["Pair"] * 5]
    assert again == [Pair("ok", "SECOND 0"), *first[1:]]
    assert len(provider.requests) == asked + 1


def test_a_retry_after_a_failed_chat_asks_only_for_that_one(path, provider, work):
    provider.script("ok", Fault.status(400))

    assert ll.lcall([1], work, checkpoint=path, retries=1) == [Pair("ok", "SECOND 1")]
    assert len(provider.requests) == 3
    assert ll.lcall([1], work, checkpoint=path) == [Pair("ok", "SECOND 1")]
    assert len(provider.requests) == 3


def test_a_retry_after_a_bad_answer_asks_again(path, provider, work):
    provider.script("bad")

    def checked(item):
        pair = work(item)
        if pair.first == "bad":
            raise ValueError("a bad answer")
        return pair

    assert ll.lcall([1], checked, checkpoint=path, retries=1) == [Pair("FIRST 1", "SECOND 1")]
    assert len(provider.requests) == 4
    # A later run does it all over, and pays for nothing.
    assert ll.lcall([1], checked, checkpoint=path, retries=1) == [Pair("FIRST 1", "SECOND 1")]
    assert len(provider.requests) == 4


def test_a_fatal_error_stops_and_the_next_run_goes_on(path, provider, work):
    provider.script("ok", "ok", "ok", Fault.status(401))
    with pytest.raises(ll.CallError):
        ll.lcall(range(6), work, checkpoint=path, max_workers=1)
    assert len(provider.requests) == 4

    assert len(ll.lcall(range(6), work, checkpoint=path)) == 6
    assert len(provider.requests) == 4 + 9


def test_chats_in_threads_of_an_item_are_kept_with_the_item(path, provider, work):
    outer = lambda item: ll.lcall([f"{item} {part}" for part in "ab"], work, max_workers=2)

    first = ll.lcall(range(5), outer, checkpoint=path)

    assert ll.lcall(range(5), outer, checkpoint=path) == first
    assert len(provider.requests) == 20
    assert rows(path, "SELECT count(*) FROM item") == [(5,)]


def test_a_result_that_is_no_json_ends_the_run_and_is_returned(path):
    calls = []
    value = object()

    with pytest.raises(CheckpointError, match=r"item 0 .*encode=.*decode=") as caught:
        ll.lcall(
            range(1000), lambda item: calls.append(item) or value, checkpoint=path, max_workers=1
        )

    assert caught.value.results[0] is value
    assert len(calls) < 5


def test_an_item_without_a_name_ends_the_run_before_it_is_called(path):
    with pytest.raises(CheckpointError, match="Pass key="):
        ll.lcall([object()], id, checkpoint=path)


def test_a_file_deleted_meanwhile_ends_the_run_with_everything_finished(path, provider, work):
    def deleting(item):
        if item == 10:
            path.unlink()
        return work(item)

    with pytest.raises(CheckpointError, match="deleted or replaced") as caught:
        ll.lcall(range(5000), deleting, checkpoint=path, max_workers=4)

    finished = [one for one in caught.value.results if one is not None]
    assert 10 <= len(finished) < 5000
    assert len(provider.requests) == 2 * len(finished)
    assert caught.value.results[: len(finished) - 4] == finished[:-4]


def test_a_file_that_cannot_be_opened_is_an_error_before_any_call(tmp_path, provider, work):
    with pytest.raises(CheckpointError, match="does not exist"):
        ll.lcall(range(5), work, checkpoint=tmp_path / "no" / "run.db")

    assert provider.requests == ()


def test_a_run_inside_another_on_the_same_file_is_refused(path):
    inner = lambda item: ll.lcall([item], str, checkpoint=path)

    with pytest.raises(ll.CallError, match="in use by this process") as caught:
        ll.lcall([1], inner, checkpoint=path)

    assert isinstance(caught.value.failed[0], CheckpointError)


def test_ctrl_c_keeps_what_is_finished(path, provider, work):
    def pressing(item):
        value = work(item)
        if item == 5:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(0.2)
        return value

    with pytest.raises(ll.Interrupted):
        ll.lcall(range(500), pressing, checkpoint=path, max_workers=2)
    asked = len(provider.requests)
    kept = rows(path, "SELECT count(*) FROM chat")[0][0]

    assert asked - 2 <= kept <= asked < 1000
    ll.lcall(range(500), work, checkpoint=path)
    assert len(provider.requests) == 1000 + asked - kept


def test_the_file_is_free_when_the_call_has_ended(path, work):
    for end in (lambda item: 1 / 0, work):
        ll.lcall([1], end, checkpoint=path, on_error="return")
        for _ in ll.icall([1, 2], end, checkpoint=path, on_error="return"):
            break
    run(path, [1], len, key=str)


def test_no_key_is_in_the_file(path, provider):
    key = "sk-" + "canary" * 6
    with provider.service(api_key=key) as service:
        ll.lcall(range(3), functools.partial(workflow, service), checkpoint=path)

    assert key.encode() not in path.read_bytes()
    assert b"canary" not in path.read_bytes()
