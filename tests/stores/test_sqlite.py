"""An SQLite file as store: whose it is, and what happens when it is not well."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import threading
import time

import pytest
from store_tools import Asker, Clock, fresh_name, store_at

from lionlite import scope
from lionlite.exceptions import BudgetError, BudgetTimeout
from lionlite.limits.rates import Rate
from lionlite.limits.stores import rows
from lionlite.limits.stores.book import TRY
from lionlite.limits.stores.terms import terms_of

HOUR = 3600


@pytest.fixture
def path(tmp_path):
    return tmp_path / "budget.db"


def asker_at(path, clock=None, interval_s=1, limit=9):
    terms = terms_of({"requests": [Rate(limit, interval_s)]}, "estimate")
    return Asker(store_at(f"sqlite:///{path}", clock), terms)


def call(limiter, **costs):
    with limiter.reserve(costs) as reservation:
        reservation.sent()
        reservation.settle(costs)


def read(path, sql):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


# Whose it is --------------------------------------------------------------------------


def test_the_file_is_readable_to_its_owner_only(on_sqlite, path):
    before = os.umask(0)
    try:
        limiter = on_sqlite(requests=[Rate(5, HOUR)])
        call(limiter, requests=1)
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert set(modes.values()) == {0o600}
    assert "budget.db" in modes


def test_nothing_is_left_beside_the_file_when_it_is_closed(on_sqlite, path):
    limiter = on_sqlite(requests=[Rate(5, HOUR)])
    call(limiter, requests=1)

    limiter.close()

    assert [one.name for one in path.parent.iterdir()] == ["budget.db"]


def test_a_database_of_another_program_is_left_alone(on_sqlite, path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()

    with pytest.raises(BudgetError, match="another program's database") as caught:
        on_sqlite(requests=[Rate(5, HOUR)]).reserve({"requests": 1})

    assert not caught.value.retryable
    assert read(path, "SELECT name FROM sqlite_master") == [("theirs",)]


def test_a_file_of_a_newer_version_is_refused(on_sqlite, path):
    call(on_sqlite(requests=[Rate(5, HOUR)]), requests=1)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()

    with pytest.raises(BudgetError, match=r"another version of lionlite \(schema 99, not 1\)"):
        on_sqlite(requests=[Rate(5, HOUR)]).reserve({"requests": 1})


# What is kept -----------------------------------------------------------------------------


def test_a_rate_has_a_bounded_number_of_rows(path):
    clock = Clock()
    asker = asker_at(path, clock, limit=9**9)
    asker.enter("e")

    for number in range(1_200):
        clock.now += 1_000
        asker.do("take", TRY, f"a.{number}", 10**6, -1, (1,))
        asker.do("settle", f"a.{number}", 0, 0, (1,))

    assert read(path, "SELECT count(*) FROM slots")[0][0] <= 1_000
    assert read(path, "SELECT count(*) FROM entries") == [(0,)]


def test_a_budget_that_nobody_uses_is_forgotten(path):
    clock = Clock()
    store = store_at(f"sqlite:///{path}", clock)
    dead = Asker(store, terms_of({"requests": [Rate(9, 1)]}, "estimate"), "dead")
    dead.enter("e")
    dead.do("take", TRY, "a.1", 10**6, -1, (1,))
    clock.now += 70_000_000

    Asker(store, dead.terms, "alive").enter("e")

    assert read(path, "SELECT name FROM budgets") == [("alive",)]
    assert read(path, "SELECT count(*) FROM entries") == [(0,)]


def test_a_restart_of_the_machine_clears_the_file(path, monkeypatch):
    asker = asker_at(path, interval_s=HOUR)
    asker.enter("e")
    asker.do("take", TRY, "a.1", 10**6, -1, (9,))
    asker.store.close()
    monkeypatch.setattr(rows, "boot_identity", lambda: "another start")

    again = asker_at(path, interval_s=HOUR)

    assert again.enter("f") == ["entered", "f", 1, 0, 0, 0, 0]


def test_a_clock_that_began_anew_clears_the_budget(path):
    clock = Clock()
    asker = asker_at(path, clock, interval_s=HOUR)
    asker.enter("e")
    asker.do("take", TRY, "a.1", 10**6, -1, (9,))
    clock.now = 5_000_000

    assert asker.do("take", TRY, "a.2", 10**6, -1, (1,)) == ["lost"]
    assert asker.enter("f") == ["entered", "f", 1, 0, 0, 0, 0]


# What can befall it -----------------------------------------------------------------------------


def test_a_file_that_is_deleted_counts_as_used_up_for_one_interval(on_sqlite, path, caplog):
    limiter = on_sqlite(requests=[Rate(2, 0.5)])
    call(limiter, requests=1)
    path.unlink()
    deleted_s = time.monotonic()

    with caplog.at_level(logging.WARNING, "lionlite"):
        call(limiter, requests=2)

    assert time.monotonic() - deleted_s >= 0.5
    assert "has forgotten the budget" in caplog.text


def test_one_who_was_away_for_an_interval_finds_a_new_file_empty(on_sqlite, path):
    limiter = on_sqlite(requests=[Rate(2, 0.1)])
    call(limiter, requests=1)
    path.unlink()
    time.sleep(0.2)

    assert limiter.try_reserve({"requests": 2}) is not None


def test_members_of_a_deleted_file_meet_in_the_new_one(on_sqlite, path):
    name = fresh_name()
    first, second = (on_sqlite(name, requests=[Rate(4, 0.4)]) for _ in range(2))
    call(first, requests=1)
    call(second, requests=1)
    path.unlink()

    call(first, requests=1)
    call(second, requests=1)

    assert first.stats().dimensions == second.stats().dimensions


def test_a_file_that_is_no_database_is_a_typed_error(on_sqlite, path):
    path.write_bytes(b"this is no database, whatever its name may say" * 100)

    with pytest.raises(BudgetError, match="delete the file to begin anew") as caught:
        on_sqlite(requests=[Rate(5, HOUR)]).reserve({"requests": 1})

    assert str(path) in str(caught.value)
    assert not caught.value.retryable


def test_a_file_whose_pages_are_damaged_is_a_typed_error(on_sqlite, path):
    limiter = on_sqlite(requests=[Rate(5, HOUR)])
    call(limiter, requests=1)
    limiter.close()
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xff" * (len(raw) - 4096)
    path.write_bytes(raw)

    with pytest.raises(BudgetError, match="failed"):
        on_sqlite(requests=[Rate(5, HOUR)]).reserve({"requests": 1})


def test_a_row_that_cannot_be_read_is_a_typed_error(on_sqlite, path):
    limiter = on_sqlite(requests=[Rate(5, HOUR)])
    call(limiter, requests=1)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE budgets SET head = '{}'")
    connection.commit()
    connection.close()

    with pytest.raises(BudgetError, match="cannot be read; delete the file"):
        limiter.reserve({"requests": 1})


def test_a_folder_that_does_not_exist_is_a_typed_error(on_sqlite, path):
    path.parent.rmdir()

    with pytest.raises(BudgetError, match="No such file or directory"):
        on_sqlite(requests=[Rate(5, HOUR)]).reserve({"requests": 1})


def test_a_file_that_may_not_be_written_is_a_typed_error(on_sqlite, path, monkeypatch):
    call(on_sqlite(requests=[Rate(5, HOUR)]), requests=1)
    # Whoever runs the tests may write anywhere: let SQLite refuse instead.
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3,
        "connect",
        lambda path, **kwargs: connect(f"file:{path}?mode=ro", uri=True, **kwargs),
    )

    with pytest.raises(BudgetError, match="readonly"):
        on_sqlite(requests=[Rate(5, HOUR)]).reserve({"requests": 1})


def test_a_full_disk_is_a_typed_error(on_sqlite, path):
    limiter = on_sqlite(requests=[Rate(10**6, HOUR)])
    call(limiter, requests=1)
    for link in limiter._store._idle:
        pages = link._rows.execute("PRAGMA page_count").fetchone()[0]
        link._rows.execute(f"PRAGMA max_page_count={pages}")

    with pytest.raises(BudgetError, match="full") as caught:
        for _ in range(3_000):
            limiter.try_reserve({"requests": 1})

    assert caught.value.retryable


@pytest.fixture
def locked(path):
    """A way to lock the file as a stopped process would; unlocked after the test."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    yield lambda: connection.execute("BEGIN IMMEDIATE")
    connection.close()


def test_a_locked_file_is_a_typed_error_within_the_deadline(on_sqlite, locked):
    limiter = on_sqlite(requests=[Rate(5, HOUR)])
    call(limiter, requests=1)
    locked()
    began_s = time.monotonic()

    with scope.deadline(0.3), pytest.raises(BudgetError, match="locked") as caught:
        limiter.reserve({"requests": 1})

    assert time.monotonic() - began_s < 5
    assert caught.value.retryable


def test_a_locked_file_raises_nothing_out_of_a_call_that_is_over(on_sqlite, locked, caplog):
    limiter = on_sqlite(charge="adjust", tokens=[Rate(100, HOUR)])
    reservation = limiter.reserve({"tokens": 100})
    locked()
    began_s = time.monotonic()

    with caplog.at_level(logging.WARNING, "lionlite"), reservation:
        reservation.sent()
        reservation.replied()
        reservation.settle({"tokens": 30})

    assert time.monotonic() - began_s < 5
    assert caplog.text.count("told to the store later") == 1


def test_what_could_not_be_told_is_told_when_the_store_answers(on_sqlite, path):
    limiter = on_sqlite(charge="adjust", tokens=[Rate(100, HOUR)])
    reservation = limiter.reserve({"tokens": 100})
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    with reservation:
        reservation.sent()
        reservation.settle({"tokens": 30})
    connection.close()

    limiter.reserve({"tokens": 70}).cancel()

    assert limiter.stats().dimensions["tokens"].used == 30


def test_a_file_locked_for_a_moment_delays_and_harms_nobody(on_sqlite, path):
    limiter = on_sqlite(requests=[Rate(5, HOUR)])
    call(limiter, requests=1)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    unlock = threading.Timer(0.3, connection.close)
    unlock.start()

    call(limiter, requests=1)

    unlock.join()
    assert limiter.stats().dimensions["requests"].used == 2


def test_a_deadline_while_the_budget_is_full_is_no_failure_of_the_store(on_sqlite):
    limiter = on_sqlite(charge="adjust", tokens=[Rate(5, HOUR)])
    held = limiter.reserve({"tokens": 5})

    with scope.deadline(0.2), pytest.raises(BudgetTimeout):
        limiter.reserve({"tokens": 5})

    held.cancel()
