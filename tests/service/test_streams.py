"""Answers in pieces, over real sockets: the text, the reply, the budget, the ends."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from lionlite import scope
from lionlite.exceptions import (
    BadRequestError,
    Cancelled,
    ConfigError,
    DeadlineExceeded,
    RateLimitError,
    ServerError,
    StreamTruncated,
)
from lionlite.service import retry
from lionlite.testing import FakeProvider, FakeStream, Fault

MESSAGES = [{"role": "user", "content": "hi"}]
PIECES = ["Once ", "upon ", "a time"]


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch):
    monkeypatch.setattr(retry, "BASE_S", 0.0)


@pytest.fixture
def provider():
    with FakeProvider(FakeStream(PIECES)) as provider:
        yield provider


def slow(delay_s=30.0):
    return FakeProvider(FakeStream(["first", *["more"] * 500], delay_s=delay_s))


def until(holds, timeout_s=10.0):
    ends_at_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < ends_at_s, "it never came true"
        time.sleep(0.005)


def in_flight(service):
    return service.stats().budget.in_flight


def test_a_stream_gives_the_pieces_and_then_the_reply(provider):
    with provider.service() as service, service.stream(MESSAGES) as stream:
        assert stream.reply is None
        pieces = list(stream)

        assert pieces == PIECES
        reply = stream.reply
        assert (reply.text, reply.finish_reason) == ("".join(PIECES), "stop")
        assert reply.usage.output_tokens > 0
        assert (reply.attempts, service.stats().usage) == (1, reply.usage)
        assert reply.elapsed_s > 0
    [request] = provider.requests
    assert request.body["stream"] is True
    assert request.body["stream_options"] == {"include_usage": True}


def test_a_stream_and_a_whole_answer_are_the_same_reply(provider):
    with provider.service() as service:
        whole = service.send(MESSAGES)
        with service.stream(MESSAGES) as stream:
            for _ in stream:
                pass

    same = ("text", "finish_reason", "usage", "model", "tool_calls", "refusal")
    assert [getattr(stream.reply, name) for name in same] == [getattr(whole, n) for n in same]


def test_a_stream_read_to_its_end_gives_the_connection_back(provider):
    with provider.service() as service:
        for _ in range(3):
            with service.stream(MESSAGES) as stream:
                list(stream)

        assert len({request.client_port for request in provider.requests}) == 1
        assert in_flight(service) == 0


@pytest.mark.parametrize(
    ("fault", "error"), [(Fault.status(503), ServerError), (Fault.status(400), BadRequestError)]
)
def test_the_status_is_checked_before_it_returns(fault, error):
    with FakeProvider(lambda _: fault) as provider, provider.service(max_retries=1) as service:
        with pytest.raises(error) as caught:
            service.stream(MESSAGES)

        assert caught.value.attempts == (2 if error is ServerError else 1)
        assert (in_flight(service), service.stats().failed) == (0, 1)


def test_a_refused_stream_waits_and_is_sent_again():
    replies = [Fault.status(429, headers={"retry-after": "0.01"}), FakeStream(PIECES)]
    with FakeProvider(replies) as provider, provider.service() as service:
        with service.stream(MESSAGES) as stream:
            pieces = list(stream)

        assert (pieces, stream.reply.attempts, service.stats().rate_limited) == (PIECES, 2, 1)


def test_without_retries_a_refusal_is_final():
    with (
        FakeProvider(lambda _: Fault.status(429)) as provider,
        provider.service(max_retries=0) as service,
        pytest.raises(RateLimitError),
    ):
        service.stream(MESSAGES)


@pytest.mark.parametrize("leave", ["close", "with", "drop", "cycle"])
def test_leaving_early_stops_the_provider_and_frees_everything(leave):
    with slow(delay_s=0.02) as provider, provider.service(max_concurrency=1) as service:
        stream = service.stream(MESSAGES)
        first = next(stream)
        if leave == "close":
            stream.close()
        elif leave == "with":
            with stream:
                pass
        elif leave == "cycle":
            holder = [stream]
            holder.append(holder)
            del holder
        del stream
        gc.collect()

        assert first == "first"
        until(lambda: in_flight(service) == 0)
        until(lambda: provider.requests[0].is_aborted)
        assert provider.requests[0].pieces_sent < 500
        assert service.send(MESSAGES).text.startswith("first")


def test_what_was_left_stays_charged_as_estimated():
    with slow() as provider, provider.service(max_requests=5) as service:
        service.stream(MESSAGES).close()

        assert service.stats().budget.dimensions["requests"].used == 1


def test_after_the_end_there_is_nothing_more(provider):
    with provider.service() as service:
        stream = service.stream(MESSAGES)
        stream.close()
        stream.close()

        assert list(stream) == []
        assert (stream.reply, repr(stream)) == (None, "<Stream, over>")


def test_the_total_time_bounds_a_stream():
    with slow() as provider, provider.service(timeout=0.3) as service:
        began_s = time.monotonic()
        with pytest.raises(DeadlineExceeded) as caught:
            list(service.stream(MESSAGES))

        assert time.monotonic() - began_s < 5
        assert (caught.value.partial, caught.value.attempts) == ("first", 1)
        assert in_flight(service) == 0


def test_silence_ends_a_stream_long_before_its_total_time():
    with slow() as provider, provider.service(timeout=60) as service:
        with pytest.raises(DeadlineExceeded, match="idle_timeout") as caught:
            list(service.stream(MESSAGES, idle_timeout=0.2))

        assert caught.value.partial == "first"


def test_a_deadline_around_the_reading_counts_too():
    with slow() as provider, provider.service() as service:
        stream = service.stream(MESSAGES)
        with scope.deadline(0.2), pytest.raises(DeadlineExceeded):
            list(stream)


def test_a_deadline_around_the_opening_lives_on_in_the_stream():
    with slow() as provider, provider.service() as service:
        with scope.deadline(0.3):
            stream = service.stream(MESSAGES)
        with pytest.raises(DeadlineExceeded):
            list(stream)


@pytest.mark.parametrize("by", ["service", "scope"])
def test_a_cancel_wakes_the_reader(by):
    with slow() as provider, provider.service() as service, scope.cancellable() as token:
        stream = service.stream(MESSAGES)
        next(stream)
        cancel = service.cancel if by == "service" else token.cancel
        timer = threading.Timer(0.1, cancel)
        timer.start()
        with pytest.raises(Cancelled) as caught:
            next(stream)
        timer.join()

        assert (caught.value.partial, in_flight(service)) == ("first", 0)


def test_a_cut_stream_is_no_answer():
    body = b'data: {"choices":[{"index":0,"delta":{"content":"half"}}]}\n\n'
    fault = Fault.raw(200, body, "text/event-stream")
    with FakeProvider(lambda _: fault) as provider, provider.service() as service:
        with pytest.raises(StreamTruncated) as caught:
            list(service.stream(MESSAGES))

        assert (caught.value.partial, caught.value.attempts) == ("half", 1)
        assert not caught.value.retryable
        assert (in_flight(service), service.stats().failed) == (0, 1)


def test_a_server_that_knows_no_streams_gives_one_piece():
    answer = b'{"choices":[{"message":{"content":"all at once"},"finish_reason":"stop"}]}'
    with (
        FakeProvider(lambda _: Fault.raw(200, answer)) as provider,
        provider.service() as service,
    ):
        with service.stream(MESSAGES) as stream:
            pieces = list(stream)

        assert (pieces, stream.reply.text) == (["all at once"], "all at once")


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        ({"idle_timeout": 0}, "idle_timeout="),
        ({"idle_timeout": "soon"}, "idle_timeout="),
        ({"timeout": -1}, "timeout="),
        ({"extra_body": {"stream": False}}, "stream()"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_sent(provider, arguments, cure):
    with provider.service() as service:
        with pytest.raises(ConfigError) as caught:
            service.stream(MESSAGES, **arguments)

        assert cure in str(caught.value)
        assert provider.requests == ()


def test_stream_is_no_parameter_of_a_whole_answer(provider):
    with provider.service() as service:
        for wrong in ({"stream": True}, {"extra_body": {"stream": True}}):
            with pytest.raises(ConfigError, match=r"stream\(\)"):
                service.send(MESSAGES, **wrong)


def test_a_server_that_refuses_stream_options_can_be_spared_them(provider):
    with provider.service() as service:
        list(service.stream(MESSAGES, extra_body={"stream_options": None}))

    assert "stream_options" not in provider.requests[0].body


def test_many_threads_read_streams_of_one_service(provider):
    with provider.service(max_concurrency=8) as service:
        outcomes = []

        def read():
            with service.stream(MESSAGES) as stream:
                outcomes.append((list(stream), stream.reply.text))

        threads = [threading.Thread(target=read) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        assert outcomes == [(PIECES, "".join(PIECES))] * 64
        assert in_flight(service) == 0
