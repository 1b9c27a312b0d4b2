"""What the run around a chat is told of it, and what it may remember."""

from __future__ import annotations

import threading

import pytest

from lionlite import scope
from lionlite.exceptions import CheckpointError, ServerError
from lionlite.testing import FakeProvider, FakeStream, Fault

MESSAGES = [{"role": "user", "content": "hi"}]


class Kept:
    def __init__(self, shelf, name):
        self._shelf = shelf
        self.name = name
        self.reply = shelf.get(name)

    def keep(self, reply):
        self._shelf[self.name] = reply


class Work:
    """An item that remembers in a dict and writes down what it is told."""

    def __init__(self, shelf=None):
        self.remembers = shelf is not None
        self.told = []
        self.records = []
        self._shelf = shelf

    def chat(self, request):
        return Kept(self._shelf, request.hex())

    def waits(self, what):
        self.told.append(("waits", what))

    def goes_on(self, what):
        self.told.append(("goes on", what))

    def ended(self, record):
        self.records.append(record)


def within(work):
    return scope.entered(scope.Scope(work=work))


@pytest.fixture
def provider():
    with FakeProvider(FakeStream(["an ", "answer"])) as provider:
        yield provider


@pytest.fixture
def service(provider):
    with provider.service(max_retries=0) as service:
        yield service


def send(service):
    return service.send(MESSAGES).text


def stream(service):
    return "".join(service.stream(MESSAGES))


BOTH = pytest.mark.parametrize("call", [send, stream])


@BOTH
def test_it_hears_of_both_waits_and_of_the_end(service, call):
    work = Work()
    with within(work):
        call(service)

    assert work.told == [
        ("waits", "budget"),
        ("goes on", "budget"),
        ("waits", "reply"),
        ("goes on", "reply"),
    ]
    [record] = work.records
    assert (record.attempts, record.finish_reason, record.is_replayed) == (1, "stop", False)
    assert (record.answered_by, record.usage.output_tokens > 0) == ("fake-model", True)


@BOTH
def test_it_hears_of_a_failure(call):
    work = Work()
    with (
        FakeProvider(lambda _: Fault.status(500)) as provider,
        provider.service(max_retries=0) as service,
        within(work),
        pytest.raises(ServerError),
    ):
        call(service)

    [record] = work.records
    assert (record.error, record.attempts) == ("ServerError", 1)
    assert work.told[-1] == ("goes on", "reply")


@BOTH
@pytest.mark.parametrize("first", [send, stream])
def test_what_was_kept_is_not_sent_again(provider, service, first, call):
    shelf = {}
    with within(Work(shelf)):
        paid_for = first(service)
    again = Work(shelf)
    with within(again):
        replayed = call(service)

    assert (paid_for, replayed, len(provider.requests)) == ("an answer", "an answer", 1)
    [record] = again.records
    assert (record.is_replayed, record.attempts, record.finish_reason) == (True, 1, "stop")
    assert record.usage == service.stats().usage
    assert service.stats().calls == 1


def test_a_replayed_reply_is_the_reply_that_was_paid_for(service):
    shelf = {}
    with within(Work(shelf)):
        first = service.send(MESSAGES)
    with within(Work(shelf)):
        again = service.send(MESSAGES)

    assert again == first


@pytest.mark.parametrize("change", [{"temperature": 0}, {"model": "other"}, {"seed": 1}])
def test_another_request_is_another_chat(provider, service, change):
    shelf = {}
    with within(Work(shelf)):
        service.send(MESSAGES)
        service.send(MESSAGES, **change)
        service.send([*MESSAGES, {"role": "user", "content": "more"}])

    assert len(provider.requests) == 3


def test_another_provider_is_another_chat(service, provider):
    shelf = {}
    with FakeProvider("other") as second, second.service() as elsewhere, within(Work(shelf)):
        texts = service.send(MESSAGES).text, elsewhere.send(MESSAGES).text

    assert texts == ("an answer", "other")


def test_the_order_of_keys_makes_no_difference(provider, service):
    shelf = {}
    with within(Work(shelf)):
        service.send([{"role": "user", "content": "hi"}], extra_body={"a": {"b": 1, "c": 2}})
        service.send([{"content": "hi", "role": "user"}], extra_body={"a": {"c": 2, "b": 1}})

    assert len(provider.requests) == 1


def test_a_failed_chat_is_not_kept(provider):
    shelf = {}
    replies = [Fault.status(500), "fine"]
    with FakeProvider(replies) as failing, failing.service(max_retries=0) as service:
        with within(Work(shelf)):
            with pytest.raises(ServerError):
                service.send(MESSAGES)
            assert shelf == {}
            text = service.send(MESSAGES).text

    assert (text, len(shelf)) == ("fine", 1)


@BOTH
def test_it_is_kept_before_its_permit_is_given_back(provider, call):
    seen = []
    with provider.service(max_concurrency=1) as service:

        class Watching(Work):
            def chat(self, request):
                kept = super().chat(request)
                keep = kept.keep
                kept.keep = lambda reply: (
                    seen.append(service.stats().budget.in_flight),
                    keep(reply),
                )
                return kept

        with within(Watching({})):
            call(service)

    assert seen == [1]


@pytest.mark.parametrize(
    ("key", "said", "kept"),
    [
        ("sk-a-real-key-0123456789", "your key is sk-a-real-key-0123456789", "your key is ***"),
        ("sk-a-real-key-0123456789", "an example: sk-abc123456", "an example: sk-abc123456"),
        ("ollama", "ollama is a server", "ollama is a server"),
    ],
)
def test_what_is_kept_is_the_models_own_words_without_the_key(key, said, kept):
    shelf = {}
    with FakeProvider(said) as provider, provider.service(api_key=key) as service:
        with within(Work(shelf)):
            service.send(MESSAGES)
        with within(Work(shelf)):
            replayed = service.send(MESSAGES).text

    assert replayed == kept
    assert (key.encode() in next(iter(shelf.values()))) is (key == "ollama")


@BOTH
def test_a_checkpoint_that_holds_nonsense_is_told(service, call):
    class Broken(Work):
        def chat(self, request):
            kept = super().chat(request)
            kept.reply = b'{"body": 7}'
            return kept

    with within(Broken({})), pytest.raises(CheckpointError):
        call(service)


def names(provider):
    return [request.headers["idempotency-key"] for request in provider.requests]


def test_all_attempts_of_a_call_have_one_name_and_no_other_call_has_it():
    retried = [Fault.status(500, headers={"retry-after": "0.001"})] * 2
    with FakeProvider([*retried, "fine", "fine"]) as provider, provider.service() as service:
        service.send(MESSAGES)
        service.send(MESSAGES)

    first, second, third, other = names(provider)
    assert (first, second) == (third, third)
    assert other != first


def test_a_call_of_an_item_has_the_same_name_in_every_run(provider, service):
    for _ in range(2):
        with within(Work({})):
            service.send(MESSAGES)

    first, second = names(provider)
    assert first == second


def test_a_name_of_the_callers_own_wins(provider, service):
    service.send(MESSAGES, extra_headers={"idempotency-key": "mine"})

    assert names(provider) == ["mine"]


def test_names_do_not_repeat_over_threads(provider, service):
    threads = [threading.Thread(target=send, args=(service,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(set(names(provider))) == 16
