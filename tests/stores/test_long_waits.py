"""A long wait is warned of once, whichever budget it is for."""

from __future__ import annotations

import logging

import pytest

from lionlite import scope
from lionlite.exceptions import BudgetTimeout
from lionlite.limits import notice

COSTS = {"requests": 1, "tokens": 1_200}


class SomeRun:
    """What a run puts into the scope of its items; here it is only looked for."""


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch):
    monkeypatch.setattr(notice, "LONG_WAIT_S", 0.1)


def wait(limiter, seconds):
    with limiter.reserve(COSTS) as first:
        first.sent()
        with scope.deadline(seconds), pytest.raises(BudgetTimeout):
            limiter.reserve(COSTS)


def said(caplog):
    return [r.getMessage() for r in caplog.records if "waited" in r.getMessage()]


def test_a_long_wait_says_what_for_and_only_once(limiter_of, caplog):
    caplog.set_level(logging.WARNING, logger="lionlite")

    wait(limiter_of(max_concurrency=1), 0.6)

    [warning] = said(caplog)
    assert "max_concurrency 1" in warning
    assert "1 requests and 1,200 tokens" in warning


def test_a_short_wait_says_nothing(limiter_of, caplog, monkeypatch):
    monkeypatch.setattr(notice, "LONG_WAIT_S", 10.0)

    wait(limiter_of(max_concurrency=1), 0.3)

    assert said(caplog) == []


def test_in_a_run_its_progress_is_warning_enough(limiter_of, caplog):
    with scope.entered(scope.Scope(work=SomeRun())):
        wait(limiter_of(max_concurrency=1), 0.4)

    assert said(caplog) == []
