"""Streams as turns of a conversation: remembered when complete, never before."""

from __future__ import annotations

import threading

import pytest

import lionlite as ll
from lionlite.exceptions import ConfigError, StreamTruncated
from lionlite.testing import FakeProvider, FakeStream, Fault

PIECES = ["The answer ", "is ", "42."]


@pytest.fixture
def provider():
    with FakeProvider(FakeStream(PIECES)) as provider:
        yield provider


@pytest.fixture
def session(provider):
    with provider.service() as service:
        yield ll.Session("Be brief.", service=service)


def contents(session):
    return [message.content for message in session.messages]


def test_a_complete_stream_is_a_turn(session):
    with session.stream("What is it?") as stream:
        assert contents(session) == []
        text = "".join(stream)

    assert text == "The answer is 42."
    assert contents(session) == ["What is it?", text]
    assert session.last_reply is stream.reply
    assert session.usage == stream.reply.usage
    assert session.chat("And now?") == text


def test_a_stream_that_was_left_is_no_turn(session):
    with session.stream("What is it?") as stream:
        next(stream)

    assert (contents(session), stream.reply) == ([], None)
    assert session.chat("Again?") == "The answer is 42."
    assert contents(session)[0] == "Again?"


def test_a_stream_that_was_cut_is_no_turn():
    body = b'data: {"choices":[{"index":0,"delta":{"content":"half"}}]}\n\n'
    replies = [Fault.raw(200, body, "text/event-stream"), "whole"]
    with FakeProvider(replies) as provider, provider.service() as service:
        session = ll.Session(service=service)
        with pytest.raises(StreamTruncated):
            list(session.stream("hi"))

        assert contents(session) == []
        assert session.chat("hi") == "whole"


def test_a_chat_inside_an_open_stream_is_told_so(session):
    with session.stream("What is it?") as stream:
        with pytest.raises(ConfigError, match="new_branch"):
            session.chat("And?")
        with pytest.raises(ConfigError, match="new_branch"):
            session.stream("And?")
        list(stream)

    assert len(contents(session)) == 2


def test_without_remembering_streams_run_side_by_side(session):
    with session.stream("one", remember=False) as one, session.stream("two", remember=False) as two:
        texts = "".join(one), "".join(two)

    assert texts == ("".join(PIECES),) * 2
    assert contents(session) == []


def test_other_threads_wait_until_the_stream_is_over(session):
    answers = []
    stream = session.stream("first")
    waiting = threading.Thread(target=lambda: answers.append(session.chat("second")))
    waiting.start()
    waiting.join(0.2)
    assert answers == []

    list(stream)
    waiting.join(10)

    assert answers == ["The answer is 42."]
    assert contents(session)[::2] == ["first", "second"]


def test_a_stream_may_be_read_in_another_thread(session):
    stream = session.stream("first")
    texts = []
    reader = threading.Thread(target=lambda: texts.append("".join(stream)))
    reader.start()
    reader.join(10)

    assert texts == ["The answer is 42."]
    assert session.chat("second") == "The answer is 42."


def test_a_stream_that_fails_to_open_leaves_the_turn_free(session):
    with pytest.raises(ConfigError):
        session.stream("first", timeout="long")
    with pytest.raises(ConfigError, match="idle_timeout"):
        session.stream("first", idle_timeout=-1)

    assert session.chat("second") == "The answer is 42."


def test_a_stream_replaces_the_system_message_when_it_is_complete(session, provider):
    session.stream("one", system="Be long.").close()
    list(session.stream("two", system="Be kind."))
    session.chat("three")

    first = [request.body["messages"][0]["content"] for request in provider.requests]
    assert first == ["Be long.", "Be kind.", "Be kind."]
