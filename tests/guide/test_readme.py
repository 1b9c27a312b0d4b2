"""The README's examples run, in order, as one program against the fake provider."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from lionlite.testing import FakeProvider, calculator_reply

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def lion_or_number(body):
    said = calculator_reply(body)
    try:
        float(said)
    except ValueError:
        return "A large cat."
    return said


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch):
    with FakeProvider(lion_or_number) as provider:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
        yield provider


def test_the_examples_run_from_top_to_bottom(provider, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"contexts": [{"x": 1, "y": -2}, {"x": -3, "y": 4}]}
    said = io.StringIO()

    with contextlib.redirect_stdout(said):
        for block in BLOCKS:
            exec(compile(block, "README.md", "exec"), names)

    assert len(BLOCKS) == 11
    assert names["outs"] == [(str(3 * i), str(6 * i if i else 2)) for i in range(20)]
    assert "A large cat. stop 1 0.0" in said.getvalue()
    assert "[10.0, None, 5.0] {1: ZeroDivisionError" in said.getvalue()


def test_the_first_example_is_the_guides_workflow(provider):
    names = {"contexts": [{"x": 1, "y": -2}, {"x": -3, "y": 4}]}

    exec(compile(BLOCKS[0], "README.md", "exec"), names)

    assert names["outs"] == [("3", "6"), ("7", "14")]
    assert provider.report().accepted == 4
