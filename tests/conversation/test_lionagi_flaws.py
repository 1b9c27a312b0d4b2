"""What LionAGI 0.0.300 did wrong, by the letters of the list that was made of it.

Each flaw was seen there against a local server. Those of the limiter and of
retries (B, D, E) stand with the budget and the service; I, M, N and O belong
to tools, merging and files; T is in test_session_chat.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import lionlite as ll
from lionlite import CallError, ConfigError, Session, exceptions
from lionlite.testing import FakeProvider, Fault

SOON = {"retry-after-ms": "1"}


@pytest.fixture
def provider():
    with FakeProvider("4") as provider:
        yield provider


@pytest.fixture
def service(provider):
    with provider.service() as service:
        yield service


def test_a_failed_attempts_are_sent_again(provider, service):
    provider.script(
        Fault.status(500, headers=SOON), Fault.raw(502, b"<h1>no</h1>", "text/html", SOON)
    )

    reply = Session(service=service).complete("2+2")

    assert (reply.text, reply.attempts, len(provider.requests)) == ("4", 3, 3)


def test_a_the_cause_and_the_status_are_kept(provider, service):
    provider.script(Fault.status(401))

    with pytest.raises(exceptions.AuthenticationError, match="answered 401") as caught:
        Session(service=service).chat("2+2")

    assert (caught.value.status, caught.value.attempts, len(provider.requests)) == (401, 1, 1)


@pytest.mark.parametrize(
    "fault",
    [Fault.no_choices(), Fault.bad_json(), Fault.raw(200, b"{}"), Fault.html(200)],
    ids=["no choices", "bad json", "empty object", "html"],
)
def test_c_a_reply_without_an_answer_raises(provider, fault):
    """There chat() returned the user's own instruction as the answer."""
    provider.script(fault)

    with provider.service(max_retries=0) as service:
        session = Session(service=service)
        with pytest.raises(exceptions.ResponseError):
            session.chat("2+2")

    assert session.messages == []


def test_f_a_service_outlives_the_threads_that_used_it(provider):
    """There the budget died with the event loop of the first request."""
    answers = []
    with provider.service(max_requests=2, interval=0.1) as service:

        def handle_request():
            with ll.deadline(10):
                answers.append(Session(service=service).chat("2+2"))

        for _ in range(5):
            thread = threading.Thread(target=handle_request)
            thread.start()
            thread.join(20)

    assert answers == ["4"] * 5


def test_g_one_failure_keeps_the_other_results(provider, service):
    everybody = threading.Barrier(20)

    def work(number):
        everybody.wait(10)
        session = Session(service=service)
        return session.chat("2+2", model="" if number == 7 else "m") + f" #{number}"

    with pytest.raises(CallError, match=r"1 of 20 items failed\. Index 7: ConfigError") as caught:
        ll.alcall(range(20), work, max_workers=20)

    assert caught.value.results == [None if n == 7 else f"4 #{n}" for n in range(20)]
    assert {index: type(error) for index, error in caught.value.failed.items()} == {7: ConfigError}


def test_h_an_update_of_one_llmconfig_changes_no_other(provider, service):
    first, second = Session(service=service), Session(service=service)

    first.default_branch.llmconfig.update({"temperature": 0.123})

    assert [second.llmconfig, Session(service=service).llmconfig] == [{}, {}]


def test_j_a_server_without_tls_can_be_used(provider):
    assert provider.base_url.startswith("http://")

    with ll.Services.OpenAI(base_url=provider.base_url, api_key="k", model="m") as service:
        assert Session(service=service).chat("2+2") == "4"


def test_k_a_failed_chat_leaves_no_question_behind(provider, service):
    provider.script(Fault.status(400))
    session = Session("calc", service=service)

    with pytest.raises(exceptions.BadRequestError):
        session.chat("wrong")
    session.chat("2+2")

    assert provider.requests[1].body["messages"] == [
        {"role": "system", "content": "calc"},
        {"role": "user", "content": "2+2"},
    ]


def test_l_a_new_system_message_replaces_the_old_one(provider, service):
    """There the session was unusable for good."""
    session = Session("old", service=service)

    answers = [session.chat("1"), session.chat("2", system="new"), session.chat("3")]

    systems = [request.body["messages"][0]["content"] for request in provider.requests]
    assert (answers, systems) == (["4"] * 3, ["old", "new", "new"])


def test_p_nothing_is_dropped_in_silence(provider):
    with ll.Services.OpenAI(base_url=provider.base_url, api_key="k", model="m") as service:
        session = Session(service=service)
        session.chat("2+2", seed=0, temperature=0)
        for dropped_there in ({"max_token": 50}, {"to_": "main"}):
            with pytest.raises(ConfigError, match=next(iter(dropped_there))):
                session.chat("2+2", **dropped_there)

    assert [(r.body["seed"], r.body["temperature"]) for r in provider.requests] == [(0, 0)]


def test_q_no_items_give_no_results(service):
    assert ll.alcall([], Session(service=service).chat) == []


def test_r_plain_functions_run_side_by_side():
    everybody = threading.Barrier(10)

    outs = ll.alcall(range(10), lambda _: everybody.wait(10), max_workers=10)

    assert sorted(outs) == list(range(10))


def test_s_nothing_is_written_where_the_program_runs(provider, tmp_path):
    program = f"""
import lionlite as ll
service = ll.Services.Compatible(base_url={provider.base_url!r}, model="m", max_tokens=10_000,
                                 token_encoding_name="estimate")
session = ll.Session("calc", service=service)
assert session.chat("2+2") == "4"
assert ll.alcall([1, 2], lambda n: session.chat(str(n), remember=False)) == ["4", "4"]
"""
    package_at = str(Path(ll.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": package_at, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}

    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, check=True, timeout=50)

    assert list(tmp_path.iterdir()) == []
    assert len(provider.requests) == 3
