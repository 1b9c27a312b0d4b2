"""What a run says of itself: in text, on one screen, and in a notebook."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from lionlite.calls.runs.outcome import Chats, Outcome, Sheet, short
from lionlite.calls.runs.result import Run
from lionlite.calls.runs.run import run
from lionlite.calls.runs.shown import percentile
from lionlite.exceptions import RateLimitError
from lionlite.records import Usage

EVIL = "<script>alert('x')</script>\"&"


def chats(tokens=100, cost=0.25, **more):
    return Chats(count=1, attempts=1, usage=Usage(tokens, 10, 5, 2), cost=cost, **more)


def sheet(*outcomes, **more):
    places = [
        Outcome(index, index, f"item {index}", elapsed_s=index + 1.0, **outcome)
        for index, outcome in enumerate(outcomes)
    ]
    return Sheet(name="classify", places=places, took_s=12.34, **more)


def failed(error):
    return {"status": "failed", "error": error}


OK = {"status": "ok", "value": "good"}


def test_a_summary_says_all_that_counts():
    run_ = Run(
        sheet(
            {**OK, "chats": chats(waited_s=1.5)},
            {**OK, "chats": chats(1000, 1.0, replayed=1)},
            failed(RateLimitError("slow down")),
            failed(ValueError("no number")),
            failed(ValueError("nor this")),
            {"status": "skipped"},
            {"status": "unfinished"},
            total=10,
            checkpoint="run.db",
            stopped="max_failures=3 items failed.",
        )
    )

    assert run_.summary() == (
        "Run of classify\n"
        "items    7: 2 ok, 3 failed, 1 skipped, 1 unfinished, 3 not read\n"
        "time     12.3 s in all; an item 4 s (p50), 7 s (p95)\n"
        "chats    2; 1 answered from the checkpoint; 2 attempts; waited 1.5 s for the budget\n"
        "tokens   1,100 in (10 cached), 20 out (4 reasoning)\n"
        "cost     $1.25\n"
        "failed   2 ValueError, first at index 3: no number\n"
        "         1 RateLimitError, first at index 2: slow down\n"
        "stopped  max_failures=3 items failed.\n"
        "go on    .retry_failed() runs what is failed or unfinished; "
        "later: run(items, classify, checkpoint='run.db')."
    )


def test_a_run_that_went_well_says_no_more_than_that():
    assert Run(sheet(OK)).summary() == (
        "Run of classify\nitems    1: 1 ok\ntime     12.3 s in all; an item 1 s (p50), 1 s (p95)"
    )


def test_an_interrupted_run_says_how_to_resume_it():
    text = repr(Run(sheet(OK, {"status": "unfinished"}, checkpoint="a.db", is_interrupted=True)))

    assert "stopped  Interrupted by Ctrl-C.\n" in text
    assert "run(items, classify, checkpoint='a.db')" in text


def test_sums_are_those_of_all_items():
    run_ = Run(sheet({**OK, "chats": chats()}, {**OK, "chats": chats()}, OK))

    assert (run_.usage, run_.cost) == (Usage(200, 20, 10, 4), 0.5)
    assert (Run(sheet(OK)).usage, Run(sheet(OK)).cost) == (Usage(), None)


def test_a_repr_fits_on_a_screen_whatever_the_items_are():
    huge = "x\n" * 100_000
    errors = [failed(type(f"Error{n}", (Exception,), {})(huge)) for n in range(50)]

    text = repr(Run(sheet({**OK, "value": huge}, *errors, stopped=None)))

    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines())) <= 200


def test_a_repr_shows_the_first_items():
    assert repr(run(range(7), str)).splitlines()[-6:] == [
        *(f"[{n}] {n} -> '{n}'" for n in range(5)),
        "...",
    ]


def test_an_outcome_is_shown_in_a_line():
    result = run([0, 1], lambda n: 1 // n)

    assert list(map(repr, result)) == [
        "<Outcome 0 failed: 0 -> ZeroDivisionError: integer division or modulo by zero>",
        "<Outcome 1 ok: 1 -> 1>",
    ]
    assert len(repr(run(["x" * 999], str.upper)[0])) < 120


def test_an_item_whose_repr_raises_is_shown_all_the_same():
    class Broken:
        def __repr__(self):
            raise RuntimeError

    assert "Broken" in repr(run([Broken()], lambda item: item))


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add((tag, *attrs))


@pytest.mark.parametrize("place", ["input", "value", "error", "name"])
def test_html_escapes_what_comes_from_outside(place):
    def func(item):
        if place == "error":
            raise ValueError(EVIL)
        return EVIL if place == "value" else 1

    func.__qualname__ = EVIL if place == "name" else "func"
    html = run([EVIL if place == "input" else 1], func)._repr_html_()

    tags = Tags()
    tags.feed(html)
    assert tags.tags == {(tag,) for tag in ("div", "p", "b", "table", "tr", "th", "td")}
    assert "&lt;script&gt;" in html


def test_html_shows_counts_and_first_rows():
    html = run(range(7), str)._repr_html_()

    assert "<th>items</th><td>7: 7 ok</td>" in html
    assert (html.count("<tr><td>"), "<p>...</p>" in html) == (5, True)


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 50), (0.95, 95), (1.0, 100), (0.001, 1)], ids=str
)
def test_a_percentile_is_a_value_that_was_seen(share, value):
    assert percentile(list(range(1, 101)), share) == value


@pytest.mark.parametrize("value", ["a" * 1000, list(range(1000)), {1: "b" * 99}, 10**500], ids=type)
def test_a_short_repr_is_short(value):
    assert len(short(value, 40)) <= 40
    assert not re.search(r"\n", short("a\nb", 40))
