"""`lionlite journal FILE`: what is in it, of a run that ended, was killed, or goes on."""

from __future__ import annotations

import json
import os

import pytest
from checkpoint_tools import run

import lionlite as ll
from lionlite.calls.journal.checkpoint import open_checkpoint
from lionlite.cli import main
from lionlite.testing import FakeProvider


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


def shown(capsys, *arguments):
    """Return exit code, lines as label and value, and what was said of trouble."""
    code = main(["journal", *map(str, arguments)])
    out, err = capsys.readouterr()
    lines = [line.split("  ", 1) for line in out.splitlines() if "  " in line]
    return code, {label.strip(): value.strip() for label, value in lines}, err


def work(item):
    if item == "b":
        raise ValueError("\x1b[31mred\x1b[0m\nand more")
    return {"said": item}


def test_a_run_is_shown_with_its_items_and_errors(path, capsys):
    run(path, "abc", work, version=3)

    code, facts, _ = shown(capsys, path)
    name = f"{__name__}.work version 3"
    assert code == 0
    assert facts["runs"] == "1"
    assert facts["items"] == "3"
    assert facts["done"] == f"2 by {name}"
    assert facts["failed"] == f"1 by {name}"
    assert facts["chats"] == "0"
    assert facts["last run"].startswith(f"{name}, began ")
    assert ", ended " in facts["last run"]
    assert facts[""] == 'item 1  "b"  ValueError: \\x1b[31mred\\x1b[0m\\x0aand more'


WITH_COST = {
    "model": "from-afar",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "four"}}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2, "cost": 0.25},
}


def test_chats_are_counted_with_their_tokens_and_cost(path, capsys):
    with FakeProvider([WITH_COST, "four", WITH_COST]) as provider:
        session = ll.Session(service=provider.service())
        ask = lambda item: session.chat(item, remember=False)
        ll.lcall(["a", "b", "c"], ask, checkpoint=path, max_workers=1)

    code = main(["journal", str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert [line.split(maxsplit=1)[1] for line in lines if line.startswith(("chats", "model"))] == [
        "3",
        "from-afar: 2",
        "fake-model: 1",
    ]
    assert any(line.endswith("22 in (0 cached), 5 out") for line in lines)
    assert any(line.split() == ["cost", "$0.5000"] for line in lines)


def test_a_reply_that_is_no_reply_is_counted_all_the_same(path, capsys):
    with open_checkpoint(path, work) as checkpoint:
        checkpoint.begin(0, "a").chat(b"1").keep(b"\xff")

    _, facts, _ = shown(capsys, path)
    assert facts["model"] == "not readable: 1"
    assert facts["items"] == "1, 1 of them unfinished"


def test_a_run_that_goes_on_is_shown_and_not_disturbed(path, capsys):
    with open_checkpoint(path, work) as checkpoint:
        checkpoint.begin(0, "a").chat(b"1").keep(b"{}")

        _, facts, _ = shown(capsys, path)
        assert f"goes on in process {os.getpid()}" in facts["last run"]
        assert facts["runs"] == "1, 1 of them without an end"
        assert facts["chats"] == "1"
        checkpoint.begin(1, "b").chat(b"1").keep(b"{}")
    assert checkpoint.trouble is None


def test_a_killed_run_is_shown_as_one(path, capsys):
    if os.fork() == 0:
        open_checkpoint(path, work).begin(0, "a").chat(b"1").keep(b"{}")
        os._exit(1)
    os.wait()

    _, facts, _ = shown(capsys, path)
    assert "is not here any more" in facts["last run"]
    assert facts["chats"] == "1"


def test_looking_leaves_nothing_behind(path, capsys):
    run(path, "abc", work)
    before = path.read_bytes()

    shown(capsys, path)

    assert [one.name for one in path.parent.iterdir()] == ["run.db"]
    assert path.read_bytes() == before


def test_every_item_is_a_line_of_json(path, capsys):
    run(path, "aab", work)

    assert main(["journal", str(path), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    outcomes = [line.pop("outcomes") for line in lines]
    assert lines == [
        {"key": '"a"', "nth": 0, "index": 0, "chats": 0},
        {"key": '"a"', "nth": 1, "index": 1, "chats": 0},
        {"key": '"b"', "nth": 0, "index": 2, "chats": 0},
    ]
    assert [outcome["state"] for (outcome,) in outcomes] == ["done", "done", "failed"]
    assert outcomes[0][0]["value"] == {"said": "a"}
    assert outcomes[2][0]["error"]["type"] == "ValueError"


def test_more_items_than_one_step_are_all_shown(path, capsys):
    run(path, range(2500), str)

    assert shown(capsys, path)[1]["items"] == "2,500"
    main(["journal", str(path), "--json"])
    assert len(capsys.readouterr().out.splitlines()) == 2500


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "There is no checkpoint"),
        (lambda path: path.mkdir(), "There is no checkpoint"),
        (lambda path: path.write_text("x" * 999), "is no checkpoint"),
    ],
    ids=["nothing", "folder", "text"],
)
def test_what_is_no_checkpoint_is_said_with_exit_code_1(path, capsys, make, said):
    make(path)

    code, _, err = shown(capsys, path)

    assert code == 1
    assert said in err
