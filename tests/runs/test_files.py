"""A run written to files, which are replaced as a whole or not at all."""

from __future__ import annotations

import csv
import datetime as dt
import json
import math
import os
import stat

import pytest

from lionlite.calls.runs.run import run
from lionlite.exceptions import ConfigError


def mapped(*values):
    return run(range(len(values)), values.__getitem__)


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_json_lines_hold_the_rows(tmp_path):
    result = mapped({"a": 1, "b": [1, {"c": "ü"}]}, {"a": math.nan})

    result.to_jsonl(tmp_path / "out.jsonl")

    rows = read_jsonl(tmp_path / "out.jsonl")
    assert rows[0] == json.loads(json.dumps(result.to_dicts()[0]))
    assert (rows[1]["a"], rows[1]["b"]) == (None, None)


def test_what_json_cannot_say_is_named_and_nothing_is_written(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("before")

    with pytest.raises(ConfigError, match=r"Row 1, column 'value' is not JSON: .*default=str"):
        mapped("fine", object()).to_jsonl(path)

    assert (path.read_text(), names_in(tmp_path)) == ("before", ["out.jsonl"])


def test_default_says_what_json_cannot(tmp_path):
    result = mapped([1, math.inf], {"x": b"bytes"}, "\ud800")

    result.to_jsonl(tmp_path / "out.jsonl", default=ascii)

    assert read_jsonl(tmp_path / "out.jsonl")[0]["value"] == "[1, inf]"
    with pytest.raises(ConfigError, match="what default= made of it is not JSON"):
        result.to_jsonl(tmp_path / "out.jsonl", default=lambda cell: cell)


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n"], ids=ascii)
def test_a_cell_that_begins_like_a_formula_gets_an_apostrophe(tmp_path, begin):
    mapped(f"{begin}cmd|'/c calc'!A1").to_csv(tmp_path / "out.csv")

    assert read_csv(tmp_path / "out.csv")[0]["value"] == f"'{begin}cmd|'/c calc'!A1"


def test_inputs_errors_and_column_names_are_guarded_too(tmp_path):
    def fail(_):
        raise type("=Bad", (Exception,), {})

    run([{"=A1": "@x"}], fail).to_csv(tmp_path / "out.csv")

    row = read_csv(tmp_path / "out.csv")[0]
    assert (row["'=A1"], row["error"]) == ("'@x", "'=Bad")


@pytest.mark.parametrize("text", ["-3.5", "+7", "-1e-5", "-.5", "text", "a=b", "1-2"])
def test_numbers_and_other_texts_stay_as_they_are(tmp_path, text):
    mapped(text).to_csv(tmp_path / "out.csv")

    assert read_csv(tmp_path / "out.csv")[0]["value"] == text


def test_csv_says_every_kind_of_cell(tmp_path):
    values = [-5, True, None, math.nan, [1, "a"], {2}, dt.date(2026, 1, 2), 'a "b"\n,c', "ü"]

    mapped(*[[value] if isinstance(value, set) else value for value in values]).to_csv(
        tmp_path / "out.csv"
    )

    assert [row["value"] for row in read_csv(tmp_path / "out.csv")] == [
        "-5",
        "True",
        "",
        "",
        '[1,"a"]',
        "[[2]]",
        "2026-01-02",
        'a "b"\n,c',
        "ü",
    ]


def test_half_a_character_is_written_so_that_it_can_be_seen(tmp_path):
    mapped("a\ud800").to_csv(tmp_path / "out.csv")

    assert read_csv(tmp_path / "out.csv")[0]["value"] == "a\\ud800"


@pytest.mark.parametrize("write", ["to_jsonl", "to_csv"])
def test_a_file_is_replaced_and_keeps_its_mode_and_its_link(tmp_path, write):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("before")
    real.chmod(0o640)
    link.symlink_to(real)

    getattr(mapped(1), write)(link)

    assert (link.is_symlink(), "ok" in real.read_text()) == (True, True)
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert names_in(tmp_path) == ["link", "real"]


@pytest.mark.parametrize("write", ["to_jsonl", "to_csv"])
def test_a_wrong_path_is_named(tmp_path, write):
    with pytest.raises(ConfigError, match=r"path= is in a folder that does not exist: '.*x/out'"):
        getattr(mapped(1), write)(tmp_path / "x" / "out")
    with pytest.raises(ConfigError, match="path= is a folder"):
        getattr(mapped(1), write)(tmp_path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "out.csv"
    path.write_text("before")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        mapped(1).to_csv(path)

    assert (path.read_text(), names_in(tmp_path)) == ("before", ["out.csv"])


def test_an_empty_run_writes_its_header(tmp_path):
    run([], str).to_csv(tmp_path / "out.csv")
    run([], str).to_jsonl(tmp_path / "out.jsonl")

    assert (tmp_path / "out.csv").read_text().startswith("input,value,status,error,")
    assert (tmp_path / "out.jsonl").read_text() == ""
