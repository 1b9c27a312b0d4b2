"""Several branches in one session: making, finding, changing and deleting them."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lionlite import Branch, ConfigError, Session
from lionlite.conversation.messages import Message
from lionlite.testing import FakeProvider

SYSTEM = {"role": "system", "content": "You are terse."}
SAID = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "1"}]


@pytest.fixture
def session():
    return Session("You are terse.", llmconfig={"seed": 1}, messages=SAID, model="m")


def test_a_session_begins_with_one_branch(session):
    assert session.branches == {"main": session.default_branch}
    assert session.default_branch.name == "main"
    assert session.get_branch() is session.default_branch
    assert session.get_branch("main") is session.default_branch
    assert session.get_branch(session.default_branch) is session.default_branch


def test_a_new_branch_takes_over_everything_but_what_was_said(session):
    with FakeProvider() as provider, provider.service() as service:
        session = Session(SYSTEM["content"], service=service, llmconfig={"seed": 1}, messages=SAID)

        side = session.new_branch("side")

    assert (side.name, side.service) == ("side", service)
    assert side.to_messages() == [SYSTEM]
    assert side.llmconfig == {"seed": 1}
    assert session.branches == {"main": session.default_branch, "side": side}


def test_what_is_given_to_a_new_branch_wins(session):
    with FakeProvider() as provider, provider.service() as service:
        side = session.new_branch(
            "side",
            system="Sing.",
            model="big",
            service=service,
            llmconfig={"top_p": 0.5, "seed": None},
            messages=SAID,
        )

    assert side.to_messages() == [{"role": "system", "content": "Sing."}, *SAID]
    assert side.llmconfig == {"model": "big", "top_p": 0.5, "seed": None}
    assert (side.own_service, session.default_branch.own_service) == (service, None)


def test_a_fork_begins_with_what_was_said(session):
    side = session.new_branch(messages=session.to_messages())
    other = session.new_branch(messages=session.messages)
    singing = session.new_branch(system="Sing.", messages=session.to_messages())

    assert side.to_messages() == other.to_messages() == session.to_messages()
    assert singing.to_messages() == [{"role": "system", "content": "Sing."}, *SAID]


def test_a_fork_may_begin_with_a_system_message_of_its_own(session):
    for own in (
        {"role": "system", "content": "Sing."},
        {"role": "developer", "content": "Sing."},
        Message("system", "Sing."),
    ):
        side = session.new_branch(messages=[own, *SAID])

        assert side.system == Message(
            own.role if isinstance(own, Message) else own["role"], "Sing."
        )
        assert len(side.messages) == 2


def test_branches_without_names_are_numbered(session):
    names = [session.new_branch(name).name for name in (None, "branch-3", None, None)]

    assert names == ["branch-2", "branch-3", "branch-4", "branch-5"]


def test_the_number_of_a_deleted_branch_is_not_used_again(session):
    session.delete_branch(session.new_branch())

    assert session.new_branch().name == "branch-3"


def test_each_branch_has_its_own_history():
    with FakeProvider(["a", "b", "c"]) as provider, provider.service() as service:
        session = Session(service=service)
        side = session.new_branch("side")

        session.chat("one")
        session.chat("two", branch="side")
        reply = session.complete("three", branch=side)

    assert [m.content for m in session.messages] == ["one", "a"]
    assert [m.content for m in side.messages] == ["two", "b", "three", "c"]
    assert side.last_reply is reply


def test_the_default_branch_can_be_changed(session):
    with FakeProvider("a") as provider, provider.service() as service:
        side = session.new_branch("side", service=service, llmconfig={"seed": 2})

        session.change_default_branch("side")
        session.chat("one")

    assert session.default_branch is session.get_branch() is side
    assert session.llmconfig is side.llmconfig
    assert (session.messages, session.last_reply) == (side.messages, side.last_reply)
    assert session.usage == side.usage
    assert session.to_messages() == side.to_messages()


def test_what_is_new_comes_from_the_default_branch_as_it_is_now(session):
    session.change_default_branch(session.new_branch("side", system="Sing."))
    session.llmconfig["seed"] = 3

    newest = session.new_branch()

    assert newest.to_messages() == [{"role": "system", "content": "Sing."}]
    assert newest.llmconfig == {"model": "m", "seed": 3}


@pytest.mark.parametrize("by", ["name", "branch"])
def test_a_branch_can_be_deleted(session, by):
    side = session.new_branch("side")

    session.delete_branch("side" if by == "name" else side)

    assert list(session.branches) == ["main"]
    with pytest.raises(ConfigError, match="no branch 'side': known: main"):
        session.get_branch("side")


def test_the_default_branch_cannot_be_deleted(session):
    side = session.new_branch("side")
    for branch in ("main", session.default_branch):
        with pytest.raises(ConfigError, match=r"'main' is the default .* change_default_branch"):
            session.delete_branch(branch)

    session.change_default_branch(side)
    session.delete_branch("main")

    assert session.branches == {"side": side}


def test_a_duplicate_name_is_refused_and_nothing_replaced(session):
    side = session.new_branch("side")

    for name in ("side", "main"):
        with pytest.raises(ConfigError, match=f"a branch '{name}' already: choose another"):
            session.new_branch(name)

    assert session.get_branch("side") is side
    assert list(session.branches) == ["main", "side"]


@pytest.mark.parametrize("use", ["get_branch", "change_default_branch", "delete_branch", "chat"])
@pytest.mark.parametrize(
    ("branch", "said"),
    [
        ("sidee", "no branch 'sidee': did you mean 'side'"),
        ("zzz", "no branch 'zzz': known: main, side"),
        (5, "no branch 5: known: main, side"),
        ([], r"no branch \[\]: known: main, side"),
        (Branch(name="other"), "no branch 'other': known: main, side"),
        (Branch(name="side"), "branch 'side' is not this session's: it was deleted, or is another"),
    ],
    ids=["misspelt", "unknown", "number", "list", "foreign", "foreign of the same name"],
)
def test_an_unknown_branch_is_refused(session, use, branch, said):
    side = session.new_branch("side")

    with pytest.raises(ConfigError, match=said):
        if use == "chat":
            session.chat("x", branch=branch)
        else:
            getattr(session, use)(branch)

    assert session.branches == {"main": session.default_branch, "side": side}


def test_a_branch_deleted_under_its_name_is_not_the_new_one(session):
    old = session.new_branch("side")
    session.delete_branch("side")
    session.new_branch("side")

    with pytest.raises(ConfigError, match="'side' is not this session's: it was deleted"):
        session.chat("x", branch=old)


def test_the_dict_of_branches_is_a_copy(session):
    session.branches.clear()

    assert list(session.branches) == ["main"]


@pytest.mark.parametrize("name", ["", "  ", 5, b"side", ["side"]], ids=repr)
def test_a_name_must_be_a_text(session, name):
    for make in (lambda: Branch(name=name), lambda: session.new_branch(name)):
        with pytest.raises(ConfigError, match="A branch's name is a text that is not empty; got "):
            make()


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ({"service": "OpenAI"}, r"service= takes a Service, such as Services\.OpenAI\(\); got str"),
        ({"service": 0}, "service= takes a Service.*; got int"),
        ({"service": FakeProvider}, "service= takes a Service.*; got type"),
        ({"system": ""}, "system= takes a text, or a dict; got ''"),
        ({"system": 5}, "system= takes a text, or a dict; got 5"),
        ({"system": Message("user", "x")}, "system= takes a text, or a dict"),
        ({"messages": "hi"}, "messages= takes a list of role/content dicts; got str"),
        ({"messages": 5}, "messages= takes a list of role/content dicts; got int"),
        ({"messages": {"role": "user"}}, "messages= takes a list of role/content dicts; got dict"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\] needs a role of .*, and a content"),
        ({"messages": ["hi"]}, r"messages\[0\] needs a role .* got 'hi'"),
        ({"servise": None}, r"has no argument 'servise': did you mean 'service'"),
        ({"llm_config": {}}, r"has no argument 'llm_config': did you mean 'llmconfig'"),
        ({"colour": 1}, r"has no argument 'colour': known: .*llmconfig, messages, model"),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, dict) else None,
)
@pytest.mark.parametrize("what", ["Session", "Branch", "new_branch"])
def test_wrong_arguments_are_refused_by_name(session, what, argument, said):
    make = {"Session": Session, "Branch": Branch, "new_branch": session.new_branch}[what]

    with pytest.raises(ConfigError, match=said):
        make(**argument)

    assert list(session.branches) == ["main"]


def test_the_refusal_names_whose_argument_it_is(session):
    for make, where in ((Session, "Session"), (session.new_branch, r"Session\.new_branch")):
        with pytest.raises(ConfigError, match=rf"^{where}\(\) has no argument 'modle'"):
            make(modle="m")


def test_64_threads_get_branches_of_64_names(session):
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    start = threading.Barrier(64)

    def make(_):
        start.wait(10)
        return [session.new_branch() for _ in range(10)]

    try:
        with ThreadPoolExecutor(64) as pool:
            made = [branch for branches in pool.map(make, range(64)) for branch in branches]
    finally:
        sys.setswitchinterval(before)

    assert {branch.name for branch in made} == {f"branch-{number}" for number in range(2, 642)}
    assert session.branches == {"main": session.default_branch} | {b.name: b for b in made}


def test_of_64_threads_one_gets_a_name(session):
    start = threading.Barrier(64)

    def make(_):
        start.wait(10)
        try:
            return session.new_branch("side")
        except ConfigError:
            return None

    with ThreadPoolExecutor(64) as pool:
        made = [branch for branch in pool.map(make, range(64)) if branch]

    assert made == [session.get_branch("side")]


def test_user_code_in_a_new_branch_may_use_the_session(session):
    """No lock may be held while values of the user's are copied."""

    class Curious:
        def __deepcopy__(self, memo):
            session.change_default_branch(session.new_branch("made meanwhile"))
            return "seen"

    side = session.new_branch("side", llmconfig={"user": Curious()})

    assert side.llmconfig["user"] == "seen"
    assert session.default_branch.name == "made meanwhile"
