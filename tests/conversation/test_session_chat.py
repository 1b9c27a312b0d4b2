"""Chats over real HTTP: what is answered, what is remembered, what goes on the wire."""

from __future__ import annotations

import json

import pytest

import lionlite as ll
from lionlite import Branch, ConfigError, Session
from lionlite.conversation.messages import Message
from lionlite.records import Usage
from lionlite.testing import FakeProvider

SYSTEM = {"role": "system", "content": "You are terse."}


@pytest.fixture
def provider():
    with FakeProvider(lambda body: f"answer {len(body['messages'])}") as provider:
        yield provider


@pytest.fixture
def service(provider):
    with provider.service() as service:
        yield service


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def bodies(provider):
    return [request.body for request in provider.requests]


def wires(provider):
    return [body["messages"] for body in bodies(provider)]


def test_a_chat_returns_the_answer(service):
    answer = Session("You are terse.", service=service).chat("hi")

    assert (answer, type(answer)) == ("answer 2", str)


def test_the_wire_is_the_whole_conversation(provider, service):
    session = Session("You are terse.", service=service, llmconfig={"temperature": 0.5})

    session.chat("one")
    session.chat("two", context={"x": [1, 2]}, seed=7)

    said = [SYSTEM, user("one")]
    second = user('{"instruction":"two","context":{"x":[1,2]}}')
    assert bodies(provider) == [
        {"model": "fake-model", "messages": said, "temperature": 0.5},
        {
            "model": "fake-model",
            "messages": [*said, assistant("answer 2"), second],
            "temperature": 0.5,
            "seed": 7,
        },
    ]


def test_a_session_without_a_system_message_sends_none(provider, service):
    session = Session(service=service)

    session.chat("one")

    assert wires(provider) == [[user("one")]]
    assert session.to_messages() == [user("one"), assistant("answer 1")]
    assert session.default_branch.system is None


def test_a_system_message_may_be_a_dict(provider, service):
    Session({"tone": "terse"}, service=service).chat("one")

    assert wires(provider) == [[{"role": "system", "content": '{"tone":"terse"}'}, user("one")]]


def test_instruction_and_context_go_as_json(provider, service):
    session = Session(service=service)

    session.chat({"if positive": "times 2"})
    session.chat({"if positive": "times 2"}, context=[1])

    said = [messages[-1]["content"] for messages in wires(provider)]
    assert said[0] == '{"if positive":"times 2"}'
    assert json.loads(said[1]) == {"instruction": {"if positive": "times 2"}, "context": [1]}


def test_a_turn_is_remembered_as_question_and_answer(service):
    session = Session("You are terse.", service=service)

    session.chat("one")

    assert session.messages == [Message("user", "one"), Message("assistant", "answer 2")]
    assert session.to_messages() == [SYSTEM, user("one"), assistant("answer 2")]
    assert session.default_branch.system == Message(**SYSTEM)


def test_complete_returns_the_whole_reply(service):
    session = Session(service=service)

    reply = session.complete("one")

    assert (str(reply), reply.text, reply.finish_reason, reply.model) == (
        "answer 1",
        "answer 1",
        "stop",
        "fake-model",
    )
    assert (reply.attempts, reply.request_id, reply.refusal) == (1, "req_00000001", None)
    assert session.last_reply is reply
    assert session.to_messages() == [user("one"), assistant("answer 1")]


def test_usage_adds_up_over_the_turns(service):
    session = Session(service=service)
    assert (session.usage, session.last_reply) == (Usage(), None)

    first, second = session.complete("one"), session.complete("two")

    assert first.usage.total_tokens > 0
    assert session.usage == first.usage + second.usage
    assert session.last_reply is second


def test_usage_is_nothing_where_the_provider_tells_none(provider, service):
    message = {"role": "assistant", "content": "ok"}
    provider.script({"choices": [{"message": message, "finish_reason": "stop"}], "usage": None})
    session = Session(service=service)

    assert session.chat("one") == "ok"
    assert session.usage == Usage()


def test_remember_false_reads_the_history_and_writes_none(provider, service):
    session = Session("You are terse.", service=service)
    session.chat("one")
    before = (session.to_messages(), session.usage, session.last_reply)

    answer = session.chat("two", remember=False)
    reply = session.complete("three", system="Sing.", remember=False)

    assert (answer, reply.text) == ("answer 4", "answer 4")
    assert wires(provider)[1:] == [
        [*before[0], user("two")],
        [{"role": "system", "content": "Sing."}, *before[0][1:], user("three")],
    ]
    assert (session.to_messages(), session.usage, session.last_reply) == before


def test_messages_are_what_was_said_before(provider, service):
    before = [user("one"), assistant("1"), user("two"), assistant("2")]
    session = Session("You are terse.", service=service, messages=before)

    session.chat("three")

    assert wires(provider) == [[SYSTEM, *before, user("three")]]
    assert session.to_messages() == [SYSTEM, *before, user("three"), assistant("answer 6")]


def test_to_messages_makes_an_equal_session(provider, service):
    first = Session("You are terse.", service=service)
    first.chat("one")

    second = Session(service=service, messages=first.to_messages())
    second.chat("two")

    assert wires(provider)[1] == [*first.to_messages(), user("two")]
    assert second.default_branch.system == first.default_branch.system


def test_a_system_message_further_down_stands_where_it_stands(provider, service):
    before = [user("one"), assistant("1"), {"role": "system", "content": "Now sing."}]

    Session("You are terse.", service=service, messages=before).chat("two")

    assert wires(provider) == [[SYSTEM, *before, user("two")]]


def test_system_replaces_the_one_at_the_head_of_messages(provider, service):
    before = [{"role": "developer", "content": "Old."}, user("one"), assistant("1")]

    Session("You are terse.", service=service, messages=before).chat("two")
    Session(service=service, messages=before).chat("two", system="You are terse.")

    assert wires(provider) == [[SYSTEM, *before[1:], user("two")]] * 2


def test_parts_and_tool_calls_go_out_as_they_came(provider, service):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    before = [
        {"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "Ada"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "4", "tool_call_id": "c1"},
    ]

    Session(service=service, messages=before).chat("two")

    assert wires(provider) == [[*before, user("two")]]


def test_to_messages_gives_copies(provider, service):
    parts = [{"type": "text", "text": "hi"}]
    session = Session(service=service, messages=[{"role": "user", "content": parts}])

    session.to_messages()[0]["content"][0]["text"] = "changed"
    session.to_messages().clear()
    session.messages.clear()
    parts.clear()
    session.chat("two")

    assert wires(provider) == [[user([{"type": "text", "text": "hi"}]), user("two")]]


def test_a_turn_is_appended_and_nothing_is_copied(service):
    """A history that is rebuilt at each turn costs its square (flaw T)."""
    before = [user(str(number)) for number in range(100)]
    session = Session(service=service, messages=before)
    messages = session.messages

    session.chat("one")

    assert len(session.messages) == 102
    assert all(new is old for new, old in zip(session.messages, messages, strict=False))


def test_a_branch_can_be_used_alone(provider, service):
    branch = Branch("You are terse.", name="side", service=service, model="little")

    assert branch.chat("one") == "answer 2"
    assert branch.complete("two").text == "answer 4"
    assert (branch.name, branch.service) == ("side", service)
    assert [body["model"] for body in bodies(provider)] == ["little", "little"]


def test_extra_body_and_headers_go_with_one_call(provider, service):
    session = Session(service=service)

    session.chat("one", extra_body={"new_thing": True}, extra_headers={"X-Trace": "t1"})
    session.chat("two")

    first, second = provider.requests
    assert (first.body["new_thing"], first.headers["x-trace"]) == (True, "t1")
    assert "new_thing" not in second.body
    assert "x-trace" not in second.headers


def test_sessions_without_a_service_share_the_default_one(provider, service):
    ll.set_default_service(service)
    try:
        session = Session()
        session.chat("one")
    finally:
        ll.set_default_service(None)

    assert session.default_branch.own_service is None
    assert wires(provider) == [[user("one")]]


def test_a_session_without_a_key_says_so_at_the_first_chat():
    session = Session(model="gpt-4o-mini")

    try:
        with pytest.raises(ConfigError, match=r"No API key for OpenAI: .* OPENAI_API_KEY"):
            session.chat("hi")
    finally:
        ll.set_default_service(None)

    assert session.to_messages() == []


def test_a_session_tells_its_size_and_nothing_said(service):
    session = Session("secret plans", service=service, messages=[user("more secrets")])

    assert repr(session) == "<Session of 1 branches, 1 messages>"
