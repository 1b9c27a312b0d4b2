"""The demo: a real child process, real sockets, a real limit."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from lionlite import demo
from lionlite.cli import main
from lionlite.exceptions import LionError
from lionlite.testing import FakeProvider, calculator_reply

SMALL = ["demo", "--contexts", "12", "--interval", "1"]


def table(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if "  " in line]
    return dict(re.split(r"  +", line, maxsplit=1) for line in lines)


def test_every_answer_is_right_and_the_limit_is_kept(capsys):
    code = main(
        [*SMALL, "--max-requests", "20", "--interval", "4", "--latency", "0.01", "--quiet"]
    )

    rows = table(capsys.readouterr().out)
    assert code == 0
    assert rows["contexts"] == "12"
    assert rows["calls"] == "24"
    assert rows["wrong answers"] == "0"
    assert rows["429s"] == "0"
    assert rows["most requests in any 4 s"] == "20 of 20 allowed"


def test_the_progress_bar_goes_to_standard_error():
    done = subprocess.run(
        [sys.executable, "-m", "lionlite", *SMALL, "--latency", "0"],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0
    assert "12 of 12 items" in done.stderr
    assert "12/12" not in done.stdout


def test_wrong_answers_are_counted_and_end_in_exit_code_1(monkeypatch, capsys):
    monkeypatch.setattr(demo, "expected", lambda context: (0.5, 0.25))

    code = main([*SMALL, "--latency", "0", "--quiet"])

    out = capsys.readouterr().out
    assert code == 1
    assert table(out)["share of the budget used"] == "the limit was never reached"
    assert "PROBLEM: 12 answers are wrong" in out


def test_an_exceeded_limit_and_refusals_are_problems():
    report = {
        "refused_429": 3,
        "highest_requests_in_window": 11,
        "max_requests": 10,
        "highest_tokens_in_window": 5,
        "max_tokens": None,
    }

    assert demo._problems_of(report) == [
        "the provider refused 3 requests",
        "11 requests in one window exceed the limit of 10",
    ]


def test_answers_are_checked_against_plain_arithmetic():
    context = {"x": 1.5, "y": -2.0}

    assert demo.instruction_for(context) == demo.SUM
    assert demo.expected(context) == (3.5, 7.0)
    assert demo.expected({"x": -2.0, "y": 1.0}) == (1.0, 2.0)
    assert demo.expected({"x": -1.0, "y": 2.0}) == (-1.0, 1.0)
    assert demo.is_right(context, ("3.5", "7.0"))
    assert not demo.is_right(context, ("3.5", "7.1"))
    assert not demo.is_right(context, ("3.5", "seven"))


def test_contexts_are_the_same_with_and_without_numpy(monkeypatch):
    with_numpy = demo.make_contexts(5)
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    without = demo.make_contexts(5)

    assert [{name: float(value) for name, value in one.items()} for one in with_numpy] == without


def test_live_runs_the_same_job_against_the_named_provider(monkeypatch, capsys):
    with FakeProvider(calculator_reply, api_key="sk-live-one") as provider:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-live-one")
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)

        code = main([*SMALL, "--quiet", "--live", "openai", "--model", "gpt-4o-mini"])

        assert code == 0
        assert table(capsys.readouterr().out)["calls"] == "24"
        assert {request.body["model"] for request in provider.requests} == {"gpt-4o-mini"}


def test_live_without_a_key_says_which_variable_is_missing(capsys):
    code = main([*SMALL, "--quiet", "--live", "openrouter", "--model", "m"])

    assert code in (1, 2)
    assert "OPENROUTER_API_KEY" in capsys.readouterr().err


def test_a_provider_that_does_not_start_is_an_error(monkeypatch):
    monkeypatch.setattr(demo.sys, "executable", "/bin/false")

    with pytest.raises(LionError, match="did not start"):
        demo.run_local(demo.Settings(is_quiet=True))


@pytest.mark.parametrize(
    "words",
    [["demo", "--contexts", "0"], ["demo", "--live", "acme"], ["fly"], []],
    ids=["no contexts", "unknown provider", "unknown command", "no command"],
)
def test_wrong_arguments_end_in_exit_code_2(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)

    assert stopped.value.code == 2
    assert "usage: lionlite" in capsys.readouterr().err


def serve(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lionlite", "serve", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_serve_says_where_it_listens_and_ends_at_a_signal(number):
    with serve() as process:
        line = process.stdout.readline()
        os.kill(process.pid, number)
        code = process.wait(timeout=20)

    assert line.startswith("http://127.0.0.1:")
    assert code == 0


def test_serve_can_end_with_its_parent():
    with serve("--until-stdin-closes") as process:
        process.stdout.readline()
        process.stdin.close()

        assert process.wait(timeout=20) == 0


def test_serve_refuses_what_makes_no_sense():
    done = subprocess.run(
        [sys.executable, "-m", "lionlite", "serve", "--latency", "-1"],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 2
    assert done.stderr.startswith("lionlite: ")
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_the_demo_with_130(monkeypatch, capsys):
    def interrupted(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("lionlite.cli.run_local", interrupted)

    assert main(["demo"]) == 130
    assert "interrupted" in capsys.readouterr().err
