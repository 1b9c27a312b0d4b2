"""The key shows nowhere, whatever goes wrong: one key through all faults."""

from __future__ import annotations

import pytest
from fault_table import ROWS
from fault_tools import CANARY, FORMS, deep_text, found_in, shown_by, traced

import lionlite as ll
from lionlite.calls.runs.run import last_run
from lionlite.calls.runs.run import run as run_items
from lionlite.testing import FAULTS, FaultServer
from lionlite.testing.faultserver import TEXT


def test_no_fault_shows_the_key(run):
    shown = {row: found_in(played.shown) for row, played in run.played.items()}

    assert len(shown) == len(ROWS)
    assert {row: forms for row, forms in shown.items() if forms} == {}


def test_the_logs_of_all_faults_show_no_key(run):
    assert found_in(run.logged) == []


ECHOES = sorted(name for name in FAULTS if "echo" in name)


@pytest.mark.parametrize("name", ECHOES)
def test_a_run_and_its_files_show_no_key(tmp_path, name):
    """The second item meets the fault; what it shows is kept beside the first one's answer."""
    with (
        FaultServer(["healthy", name]) as server,
        server.service(api_key=CANARY, timeout=0.5, max_retries=0) as service,
    ):

        def ask(question):
            session = ll.Session(service=service)
            if name.startswith("sse"):
                return "".join(session.stream(question))
            return session.chat(question)

        result = run_items(["1", "2"], ask, max_workers=1, checkpoint=tmp_path / "run.db")
        result.to_jsonl(tmp_path / "run.jsonl", default=repr)
        result.to_csv(tmp_path / "run.csv")
        outcomes = list(result)
        shown = deep_text(result) + repr(service.stats()) + repr(last_run())
        shown += "".join(shown_by(one.error) for one in outcomes if one.error is not None)
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert [one.is_ok for one in outcomes] == [True, FAULTS[name].is_harmless]
    assert found_in(shown) == []
    assert found_in(written.decode("latin-1")) == []
    assert TEXT.encode() in written


# A net with holes catches nothing: these are the fish.


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_search_finds_every_form_of_the_key(form):
    assert found_in(f"...{form}...")


def test_the_search_looks_into_errors():
    error = ValueError("x")
    error.held = {"deep": [{"header": (CANARY,)}]}
    cause = KeyError(CANARY)
    error.__cause__ = cause

    assert found_in(deep_text(error))
    assert found_in(shown_by(error))
    assert found_in(traced(error))
