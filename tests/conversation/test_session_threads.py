"""One session in many threads, over real HTTP."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

import lionlite as ll
from lionlite import Cancelled, ConfigError, DeadlineExceeded, Session, deadline, scope
from lionlite.testing import FakeProvider, Fault


@pytest.fixture(autouse=True)
def _threads_change_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def echo(body):
    return f"re: {body['messages'][-1]['content']}"


class Gate:
    """Replies that wait until the gate is opened."""

    def __init__(self):
        self._is_open = threading.Event()

    def __call__(self, body):
        assert self._is_open.wait(20)
        return echo(body)

    def open(self):
        self._is_open.set()


@pytest.fixture
def provider():
    with FakeProvider(echo) as provider:
        yield provider


@pytest.fixture
def service(provider):
    with provider.service(max_retries=0) as service:
        yield service


@pytest.fixture
def session(service):
    return Session(service=service)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def in_flight(provider, session, gate):
    """A remembered turn of another thread, whose answer waits for the gate."""
    provider.script(gate)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(session.chat, "first")
        assert provider.wait_for(1)
        yield future
        gate.open()


def until_waiting(session, count):
    """Wait until *count* threads wait for the turn that is under way."""
    ends_at_s = time.monotonic() + 10
    while session.default_branch._turns.length <= count:
        assert time.monotonic() < ends_at_s
        time.sleep(0.0005)


def said(session):
    return [message.content for message in session.messages]


def test_32_threads_never_mix_their_turns(provider, session):
    start = threading.Barrier(32)

    def talk(number):
        start.wait(10)
        return [session.chat(f"{number}.{turn}") for turn in range(4)]

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(talk, range(32)))

    assert answers == [[f"re: {number}.{turn}" for turn in range(4)] for number in range(32)]
    history = session.to_messages()
    questions = [message["content"] for message in history[::2]]
    assert sorted(questions) == sorted(f"{n}.{t}" for n in range(32) for t in range(4))
    assert [message["content"] for message in history[1::2]] == [f"re: {q}" for q in questions]
    assert [request.body["messages"] for request in provider.requests] == [
        history[: 2 * turn + 1] for turn in range(128)
    ]


def test_first_come_first_served(provider, session, in_flight, gate):
    with ThreadPoolExecutor(10) as pool:
        for number in range(10):
            pool.submit(session.chat, f"{number}")
            until_waiting(session, number + 1)
        gate.open()

    assert said(session)[::2] == ["first", *"0123456789"]


def test_two_branches_do_not_wait_for_each_other(provider, session):
    both = threading.Barrier(2)

    def reply(body):
        both.wait(10)
        return echo(body)

    provider.script(reply, reply)
    side = session.new_branch()

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(session.chat, "a"), pool.submit(session.chat, "b", branch=side)]
        answers = [future.result(20) for future in futures]

    assert answers == ["re: a", "re: b"]


@pytest.mark.parametrize("by", ["timeout", "deadline"])
def test_a_thread_that_waits_obeys_its_deadline(provider, session, in_flight, gate, by):
    with pytest.raises(DeadlineExceeded) as caught:
        if by == "timeout":
            session.chat("second", timeout=0.05)
        else:
            with deadline(0.05):
                session.chat("second")
    gate.open()
    in_flight.result(20)

    assert (caught.value.phase, caught.value.attempts) == ("turn", 0)
    assert len(provider.requests) == 1
    assert said(session) == ["first", "re: first"]


def test_a_thread_that_waits_can_be_cancelled(provider, session, in_flight, gate):
    with pytest.raises(Cancelled), scope.cancellable() as token:
        threading.Timer(0.02, token.cancel).start()
        session.chat("second")
    gate.open()
    in_flight.result(20)

    assert len(provider.requests) == 1
    assert said(session) == ["first", "re: first"]


def test_a_thread_that_waits_goes_on_when_the_turn_before_fails(provider, session):
    gate = threading.Event()

    def fail(body):
        assert gate.wait(20)
        return Fault.status(500)

    provider.script(fail)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(session.chat, "first")
        assert provider.wait_for(1)
        second = pool.submit(session.chat, "second")
        until_waiting(session, 1)
        gate.set()
        failure, answer = first.exception(20), second.result(20)

    assert (type(failure), answer) == (ll.exceptions.ServerError, "re: second")
    assert said(session) == ["second", "re: second"]


def test_a_thread_that_waits_is_sent_with_the_system_message_of_then(provider, session, gate):
    provider.script(gate)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(session.chat, "first", system="Sing.")
        assert provider.wait_for(1)
        pool.submit(session.chat, "second")
        until_waiting(session, 1)
        gate.open()

    system = {"role": "system", "content": "Sing."}
    assert [request.body["messages"][0] for request in provider.requests] == [system] * 2
    assert session.to_messages()[0] == system


def test_a_thread_that_waits_is_sent_with_the_parameters_it_had(provider, session, in_flight, gate):
    session.llmconfig["seed"] = 1

    with ThreadPoolExecutor(1) as pool:
        pool.submit(session.chat, "second")
        until_waiting(session, 1)
        session.llmconfig["seed"] = 2
        gate.open()

    assert [request.body.get("seed") for request in provider.requests] == [None, 1]


def test_remember_false_takes_no_turn(provider):
    """65 replies wait for each other: all of them are in flight at once."""
    everybody = threading.Barrier(65)

    def reply(body):
        everybody.wait(20)
        return echo(body)

    before = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with provider.service() as service:
        session = Session(service=service, messages=before)
        provider.script(*[reply] * 65)
        with ThreadPoolExecutor(1) as pool:
            remembered = pool.submit(session.chat, "remembered")
            assert provider.wait_for(1)

            answers = ll.alcall(range(64), lambda n: session.chat(str(n), remember=False))

            assert remembered.result(20) == "re: remembered"

    assert answers == [f"re: {number}" for number in range(64)]
    assert {str(request.body["messages"][:-1]) for request in provider.requests} == {str(before)}
    assert said(session) == ["a", "b", "remembered", "re: remembered"]


class Inside:
    """A key that does something in the middle of the turn that needs it."""

    def __init__(self):
        self.outcomes = []
        self.action = None

    def __call__(self):
        action, self.action = self.action, None
        if action is not None:
            try:
                self.outcomes.append(action())
            except ConfigError as error:
                self.outcomes.append(str(error))
        return "some-key"


REFUSED = (
    "This branch is in the middle of a turn, and the chat comes from within it: "
    "use another branch, session.new_branch(), or remember=False."
)


@pytest.fixture
def inside(provider):
    inside = Inside()
    with provider.service(api_key=inside) as service:
        inside.session = Session(service=service)
        yield inside


@pytest.mark.parametrize("way", ["chat", "complete"])
def test_a_chat_from_within_its_own_turn_is_refused(inside, way):
    inside.action = lambda: getattr(inside.session, way)("again")

    with deadline(10):
        answer = inside.session.chat("x")

    assert (answer, inside.outcomes) == ("re: x", [REFUSED])
    assert said(inside.session) == ["x", "re: x"]


def test_a_pool_thread_within_the_turn_is_refused_too(inside):
    def in_pool():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(copy_context().run, inside.session.chat, "again").result(10)

    inside.action = in_pool

    with deadline(10):
        answer = inside.session.chat("x")

    assert (answer, inside.outcomes) == ("re: x", [REFUSED])


def test_an_alcall_within_the_turn_is_refused_too(inside):
    def in_workers():
        return ll.alcall(["a", "b"], inside.session.chat, on_error="return")

    inside.action = in_workers

    with deadline(10):
        inside.session.chat("x")

    assert [str(error) for error in inside.outcomes[0]] == [REFUSED, REFUSED]


def test_the_cures_of_the_refusal_work(inside):
    session = inside.session
    inside.action = lambda: (
        session.new_branch("side").chat("aside"),
        session.chat("not remembered", remember=False),
    )

    with deadline(10):
        session.chat("x")

    assert inside.outcomes == [("re: aside", "re: not remembered")]
    assert said(session) == ["x", "re: x"]
    assert session.branches["side"].to_messages()[0] == {"role": "user", "content": "aside"}


def test_a_thread_that_a_turn_left_behind_may_chat_later(inside):
    left_behind = []
    inside.action = lambda: left_behind.append(copy_context())
    inside.session.chat("x")

    with deadline(10):
        answer = left_behind[0].run(inside.session.chat, "later")

    assert answer == "re: later"


def test_ctrl_c_in_a_waiting_chat_loses_nothing(provider, session, in_flight, gate):
    main = threading.main_thread().ident

    def press():
        until_waiting(session, 1)
        time.sleep(0.05)  # a signal just before the system call would not end it
        signal.pthread_kill(main, signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        session.chat("second")
    presser.join(10)
    gate.open()
    in_flight.result(20)

    with deadline(10):
        assert session.chat("third") == "re: third"
    assert said(session) == ["first", "re: first", "third", "re: third"]


def test_ctrl_c_in_a_chat_under_way_loses_nothing(provider, session, gate):
    session.chat("before")
    before = (session.to_messages(), session.usage, session.last_reply)
    main = threading.main_thread().ident
    provider.script(gate)

    def press():
        assert provider.wait_for(2)
        time.sleep(0.05)  # a signal just before the system call would not end it
        signal.pthread_kill(main, signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        session.chat("second", system="Sing.")
    presser.join(10)
    gate.open()

    assert (session.to_messages(), session.usage, session.last_reply) == before
    with deadline(10):
        assert session.chat("third") == "re: third"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_process_can_chat_while_the_parent_is_in_a_turn(provider, session, in_flight, gate):
    pid = os.fork()
    if pid == 0:
        answer = None
        try:
            with deadline(10):
                answer = session.chat("from the child")
        finally:
            os._exit(0 if answer == "re: from the child" else 1)
    status = os.waitpid(pid, 0)[1]
    gate.open()
    in_flight.result(20)

    assert os.waitstatus_to_exitcode(status) == 0
    assert said(session) == ["first", "re: first"]
    assert [request.body["messages"][-1]["content"] for request in provider.requests] == [
        "first",
        "from the child",
    ]
