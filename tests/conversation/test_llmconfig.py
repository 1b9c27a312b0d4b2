"""Model parameters: whose count, what is sent, and that nobody sees another's."""

from __future__ import annotations

import threading
from collections import UserDict
from types import MappingProxyType

import pytest

from lionlite import Branch, ConfigError, Services, Session
from lionlite.testing import FakeProvider

KEYS = ("model", "messages")


@pytest.fixture
def provider():
    with FakeProvider("fine") as provider:
        yield provider


@pytest.fixture
def service(provider):
    with provider.service() as service:
        yield service


def sent(provider):
    """Return the parameters of the last request, as the provider saw them."""
    body = provider.requests[-1].body
    return {name: value for name, value in body.items() if name not in KEYS}


def test_the_call_wins_over_the_branch_over_the_service(provider, service):
    branch = Branch(service=service, llmconfig={"temperature": 0.1, "top_p": 0.2})
    models = []

    for model in (None, "branch's"):
        branch.llmconfig.update({} if model is None else {"model": model})
        branch.chat("x")
        models.append(provider.requests[-1].body["model"])
    branch.chat("x", model="call's", temperature=0.9)

    assert [*models, provider.requests[-1].body["model"]] == ["fake-model", "branch's", "call's"]
    assert sent(provider) == {"temperature": 0.9, "top_p": 0.2}


def test_the_call_does_not_change_the_branch(provider, service):
    session = Session(service=service, llmconfig={"temperature": 0.1})

    session.chat("x", temperature=0.9, seed=1)
    session.chat("x")

    assert sent(provider) == {"temperature": 0.1}
    assert session.llmconfig == {"temperature": 0.1}


def test_none_removes_a_parameter(provider, service):
    session = Session(service=service, llmconfig={"temperature": 0.1, "stop": ["a"], "n": None})

    session.chat("x", stop=None)

    assert sent(provider) == {"temperature": 0.1}


@pytest.mark.parametrize(
    "parameters",
    [
        {"seed": 0},
        {"temperature": 0},
        {"temperature": 0.0, "top_p": 0},
        {"logprobs": False},
        {"stop": []},
        {"user": ""},
        {"metadata": {}},
        {"tool_choice": "none"},
    ],
    ids=repr,
)
@pytest.mark.parametrize("where", ["call", "branch"])
def test_what_is_false_is_sent_all_the_same(provider, service, parameters, where):
    """Flaw P: seed=0 was dropped in silence."""
    session = Session(service=service, llmconfig=parameters if where == "branch" else None)

    session.chat("x", **(parameters if where == "call" else {}))

    assert sent(provider) == parameters


def test_the_guides_way_at_creation(provider, service):
    llmconfig_ = {"model": "gpt-4-1106-preview", "max_tokens": 100}

    Session("you are a helpful assistant", llmconfig=llmconfig_, service=service).chat("x")

    body = provider.requests[-1].body
    assert (body["model"], body["max_tokens"]) == ("gpt-4-1106-preview", 100)


def test_the_guides_way_later(provider, service):
    llmconfig_ = {"model": "gpt-4-1106-preview", "max_tokens": 100}
    session1 = Session("you are a helpful assistant", service=service)

    session1.default_branch.llmconfig.update(llmconfig_)
    session1.chat("x")

    body = provider.requests[-1].body
    assert (body["model"], body["max_tokens"]) == ("gpt-4-1106-preview", 100)


def test_the_sessions_llmconfig_is_its_default_branchs(provider, service):
    session = Session(service=service)

    session.llmconfig["seed"] = 5
    session.chat("x")

    assert sent(provider) == {"seed": 5}
    assert session.llmconfig is session.default_branch.llmconfig


def test_no_session_sees_what_another_updates(provider, service):
    """Flaw H: one update changed all sessions, and those still to come."""
    given = {"temperature": 0.1, "stop": ["a"]}
    first = Session(service=service, llmconfig=given)
    second = Session(service=service, llmconfig=given)

    first.llmconfig.update(temperature=0.123, seed=1)
    first.llmconfig["stop"].append("b")
    third = Session(service=service, llmconfig=given)

    untouched = {"temperature": 0.1, "stop": ["a"]}
    assert [second.llmconfig, third.llmconfig, given] == [untouched] * 3
    assert Session(service=service).llmconfig == {}


def test_no_branch_sees_what_another_updates(provider, service):
    session = Session(service=service, llmconfig={"stop": ["a"]})
    given = {"metadata": {"run": "1"}}
    side = session.new_branch("side", llmconfig=given)

    side.llmconfig["stop"].append("b")
    side.llmconfig["metadata"]["run"] = "2"
    session.llmconfig["seed"] = 1

    assert session.llmconfig == {"stop": ["a"], "seed": 1}
    assert side.llmconfig == {"stop": ["a", "b"], "metadata": {"run": "2"}}
    assert given == {"metadata": {"run": "1"}}


def test_a_model_is_a_parameter(provider, service):
    session = Session(service=service, model="little", llmconfig={"model": "big", "seed": 1})

    session.chat("x")

    assert provider.requests[-1].body["model"] == "little"
    assert session.llmconfig == {"model": "little", "seed": 1}


@pytest.mark.parametrize(
    "llmconfig", [MappingProxyType({"seed": 1}), UserDict(seed=1)], ids=["proxy", "UserDict"]
)
def test_any_mapping_will_do_and_becomes_a_dict(service, llmconfig):
    copied = Session(service=service, llmconfig=llmconfig).llmconfig

    assert (copied, type(copied)) == ({"seed": 1}, dict)


def test_parameters_may_be_numpys(provider, service):
    np = pytest.importorskip("numpy")
    session = Session(service=service, llmconfig={"temperature": np.float64(0.5)})

    session.chat("x", seed=np.int64(3))

    assert sent(provider) == {"temperature": 0.5, "seed": 3}


@pytest.mark.parametrize(
    "llmconfig", ["gpt-4", ["model"], 5, {1: 2}, {"seed": 1, None: 2}], ids=repr
)
@pytest.mark.parametrize("where", ["Session", "Branch", "new_branch", "updated"])
def test_a_wrong_llmconfig_is_refused(provider, service, llmconfig, where):
    session = Session(service=service)

    with pytest.raises(ConfigError, match=r"llmconfig takes a dict of parameters such as .*; got "):
        if where == "updated":
            session.default_branch.llmconfig = llmconfig
            session.chat("x")
        else:
            make = {"Session": Session, "Branch": Branch, "new_branch": session.new_branch}[where]
            make(llmconfig=llmconfig)

    assert provider.requests == ()
    assert list(session.branches) == ["main"]


@pytest.mark.parametrize("name", ["messages", "timeout", "extra_body", "extra_headers", "self"])
def test_what_is_no_parameter_has_no_place_in_llmconfig(provider, service, name):
    """An argument of chat() in the llmconfig would be dropped in silence."""
    session = Session(service=service)

    with pytest.raises(ConfigError, match=f"llmconfig has no place for '{name}': "):
        Session(service=service, llmconfig={name: None})
    session.llmconfig[name] = 1
    with pytest.raises(ConfigError, match=f"llmconfig has no place for '{name}': "):
        session.chat("x")

    assert provider.requests == ()


def test_what_cannot_be_copied_is_refused():
    with pytest.raises(ConfigError, match=r"llmconfig= holds what cannot be copied.*lock"):
        Session(llmconfig={"metadata": threading.Lock()})


def test_a_misspelt_parameter_names_the_nearest(provider):
    with Services.OpenAI(base_url=provider.base_url, api_key="k", model="m") as service:
        session = Session(service=service)

        for wrong in ({"max_token": 50}, {"temprature": 0}, {"to_": "side"}):
            with pytest.raises(ConfigError, match=f"OpenAI has no parameter '{next(iter(wrong))}'"):
                session.chat("x", **wrong)
        session.llmconfig["frequency_penaltie"] = 1
        with pytest.raises(ConfigError, match="did you mean 'frequency_penalty'"):
            session.chat("x")

    assert (provider.requests, session.to_messages()) == ((), [])


def test_a_session_without_any_model_names_the_argument(provider):
    with provider.service(model=None) as service:
        session = Session(service=service)

        with pytest.raises(ConfigError, match=r"No model .*: pass model=\.\.\."):
            session.chat("x")

        assert session.chat("x", model="little") == "fine"
