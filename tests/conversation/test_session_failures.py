"""A chat that fails leaves its branch as it was, whatever the failure; the next one is clean."""

from __future__ import annotations

import threading

import pytest

from lionlite import (
    Branch,
    Cancelled,
    ConfigError,
    DeadlineExceeded,
    LionError,
    OutputError,
    Session,
    deadline,
    exceptions,
    scope,
)
from lionlite.testing import FakeProvider, Fault

REFUSAL = {"role": "assistant", "content": None, "refusal": "I will not."}
TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def body_with(message, finish_reason):
    choice = {"index": 0, "message": {"role": "assistant", **message}}
    return {"choices": [{**choice, "finish_reason": finish_reason}]}


@pytest.fixture
def provider():
    with FakeProvider("fine") as provider:
        yield provider


@pytest.fixture
def session(provider):
    with provider.service(max_retries=0) as service:
        session = Session("old system", service=service)
        session.chat("before")
        yield session


def state(session):
    branch = session.default_branch
    return (branch.system, branch.to_messages(), branch.last_reply, branch.usage, branch.llmconfig)


def assert_next_chat_is_clean(provider, session):
    before = session.to_messages()
    assert session.chat("after") == "fine"
    sent = provider.requests[-1].body
    assert sent == {
        "model": "fake-model",
        "messages": [*before, {"role": "user", "content": "after"}],
    }


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.status(500), exceptions.ServerError),
        (Fault.status(400), exceptions.BadRequestError),
        (Fault.status(401), exceptions.AuthenticationError),
        (Fault.status(403), exceptions.PermissionDeniedError),
        (Fault.status(404), exceptions.NotFoundError),
        (Fault.status(429, headers={"retry-after-ms": "1"}), exceptions.RateLimitError),
        (Fault.quota(), exceptions.QuotaExhausted),
        (Fault.html(502), exceptions.ServerError),
        (Fault.html(200), exceptions.ResponseError),
        (Fault.bad_json(), exceptions.ResponseError),
        (Fault.no_choices(), exceptions.ResponseError),
        (Fault.raw(200, b""), exceptions.ResponseError),
        (Fault.cut(30), exceptions.ConnectionFailed),
        (Fault.drop(), exceptions.ConnectionFailed),
        (Fault.drop(reset=True), exceptions.ConnectionFailed),
        (Fault.null_content(), OutputError),
        (REFUSAL, OutputError),
        ("", OutputError),
        (" \n", OutputError),
        (body_with({"content": None, "tool_calls": [TOOL_CALL]}, "tool_calls"), OutputError),
    ],
    ids=[
        "500",
        "400",
        "401",
        "403",
        "404",
        "429",
        "no credit",
        "html 502",
        "html 200",
        "bad json",
        "no choices",
        "no body",
        "cut",
        "dropped",
        "reset",
        "null",
        "refusal",
        "empty",
        "blank",
        "tool call",
    ],
)
def test_a_failed_chat_leaves_everything_as_it_was(provider, session, fault, error):
    before = state(session)
    provider.script(fault)

    with pytest.raises(error) as caught:
        session.chat("x", system="new system", context={"a": 1}, temperature=1)

    assert isinstance(caught.value, LionError)
    assert state(session) == before
    assert_next_chat_is_clean(provider, session)


def test_a_chat_past_its_deadline_leaves_everything_as_it_was(provider, session):
    before = state(session)
    provider.script(Fault.hang(), Fault.hang())

    with pytest.raises(DeadlineExceeded) as by_timeout:
        session.chat("x", system="new system", timeout=0.05)
    with pytest.raises(DeadlineExceeded) as by_scope, deadline(0.05):
        session.chat("x", system="new system")

    assert (by_timeout.value.phase, by_scope.value.phase) == ("read", "read")
    assert state(session) == before
    assert_next_chat_is_clean(provider, session)


def test_a_service_with_a_timeout_bounds_every_chat(provider):
    provider.script(Fault.hang())

    with provider.service(timeout=0.05) as service, pytest.raises(DeadlineExceeded):
        Session(service=service).chat("x")


def test_timeout_none_takes_the_services_timeout_away(provider):
    with provider.service(timeout=0) as service:
        session = Session(service=service)

        assert session.chat("x", timeout=None) == "fine"
        with pytest.raises(DeadlineExceeded):
            session.chat("x")


@pytest.mark.parametrize("who", ["scope", "service"])
def test_a_cancelled_chat_leaves_everything_as_it_was(provider, session, who):
    before = state(session)
    provider.script(Fault.hang())

    with pytest.raises(Cancelled), scope.cancellable() as token:
        cancel = token.cancel if who == "scope" else session.default_branch.service.cancel
        canceller = threading.Thread(target=lambda: provider.wait_for(2) and cancel())
        canceller.start()
        session.chat("x", system="new system")
    canceller.join(10)

    assert state(session) == before
    assert_next_chat_is_clean(provider, session)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"instruction": ""}, "instruction is empty"),
        ({"context": float("nan")}, "nan is not JSON"),
        ({"system": 5}, "system= takes a text, or a dict; got 5"),
        ({"branch": "manin"}, "no branch 'manin': did you mean 'main'"),
        ({"timeout": -1}, "timeout= takes seconds"),
        ({"timeout": "soon"}, "timeout= takes seconds"),
        ({"model": 5}, "model= takes a name"),
        ({"model": ""}, "model= takes a name"),
        ({"messages": []}, r"no place for 'messages': .* Session\(messages="),
        ({"stream": True}, "no place for 'stream'"),
        ({"temperature": float("nan")}, r"nan is not JSON: .* at llmconfig\['temperature'\]"),
        ({"extra_headers": {"Host": "evil"}}, "Host"),
        ({"extra_body": {"x": object()}}, r"at extra_body\['x'\]"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
@pytest.mark.parametrize("way", ["chat", "complete"])
def test_a_wrong_argument_sends_nothing_and_changes_nothing(provider, session, wrong, said, way):
    before = state(session)

    with pytest.raises(ConfigError, match=said):
        getattr(session, way)(**{"instruction": "x", "system": "new system", **wrong})

    assert len(provider.requests) == 1
    assert state(session) == before
    assert_next_chat_is_clean(provider, session)


def test_system_replaces_from_this_turn_on(provider, session):
    said = session.to_messages()[1:]

    session.chat("x", system="new system")
    session.chat("y")

    systems = [request.body["messages"][0] for request in provider.requests]
    assert [message["content"] for message in systems] == ["old system", "new system", "new system"]
    assert session.to_messages()[:3] == [{"role": "system", "content": "new system"}, *said]


def test_a_first_chat_that_fails_leaves_a_new_branch(provider):
    with provider.service(max_retries=0) as service:
        branch = Branch(service=service)
        provider.script(Fault.status(500))

        with pytest.raises(exceptions.ServerError):
            branch.chat("x", system="new system")

    assert (branch.system, branch.to_messages(), branch.last_reply) == (None, [], None)


def test_a_retried_chat_is_one_turn(provider):
    provider.script(Fault.status(500, headers={"retry-after-ms": "1"}))

    with provider.service() as service:
        session = Session(service=service)
        reply = session.complete("x")

    assert reply.attempts == 2
    assert [request.body for request in provider.requests] == [provider.requests[0].body] * 2
    assert len(session.messages) == 2
