"""A service whose budget is kept in a store."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

import lionlite as ll
from lionlite import BudgetTimeout, ConfigError, Services
from lionlite.testing import FakeProvider

LOCAL = "http://127.0.0.1:9/v1"


@pytest.fixture
def store(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/budget.db"


def say(service) -> str:
    return ll.Session(service=service).chat("hi")


def test_two_services_with_one_store_have_one_budget(store, caplog):
    with FakeProvider() as provider, caplog.at_level(logging.WARNING, "lionlite"):
        options = {"max_requests": 3, "store": store}
        with provider.service(**options) as first, provider.service(**options) as second:
            answers = [say(first), say(second), say(first)]

            with pytest.raises(BudgetTimeout), ll.deadline(0.2):
                say(second)

    assert answers == ["ok"] * 3
    assert caplog.records == []


def test_names_tell_budgets_of_one_store_apart(store):
    with FakeProvider() as provider:
        options = {"max_requests": 1, "store": store}
        with provider.service(budget="a", **options) as first:
            with provider.service(budget="b", **options) as second:
                assert [say(first), say(second)] == ["ok", "ok"]


def test_other_limits_under_one_name_are_refused_showing_both(store):
    with FakeProvider() as provider:
        with provider.service(max_requests=3, store=store, budget="x") as first:
            say(first)
            with provider.service(max_requests=4, store=store, budget="x") as second:
                with pytest.raises(ConfigError, match=r"requests 4 per 60 s.*requests 3 per 60 s"):
                    say(second)


OTHER = """
import sys
import lionlite as ll
base_url, store = sys.argv[1:]
service = ll.Services.Compatible(
    base_url=base_url, model="m", max_requests=3, store=store, budget="b"
)
with ll.deadline(1):
    print(ll.Session(service=service).chat("hi"))
"""


def test_another_process_shares_the_budget(store):
    with FakeProvider() as provider:
        with provider.service(max_requests=3, store=store, budget="b") as service:
            command = [sys.executable, "-c", OTHER, provider.base_url, store]
            theirs = [subprocess.run(command, capture_output=True, text=True) for _ in range(2)]
            ours = say(service)
            last = subprocess.run(command, capture_output=True, text=True)

    assert [done.stdout for done in theirs] == ["ok\n", "ok\n"]
    assert ours == "ok"
    assert "BudgetTimeout" in last.stderr
    assert provider.report().accepted == 3


def test_usage_settles_in_the_store(store):
    with FakeProvider(charge="adjust") as provider:
        options = {"max_tokens": 1_000, "store": store, "charge": "adjust"}
        with provider.service(**options, token_encoding_name="estimate") as service:
            for _ in range(5):
                ll.Session(service=service).chat("hi", max_tokens=900)

            assert service.stats().budget.dimensions["tokens"].used == 5 * 9


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"store": "sqlite:///b.db"}, "pass max_requests=, max_tokens= or limits="),
        ({"budget": "b", "max_requests": 1}, "pass store="),
        ({"store": "mysql://h/b", "max_requests": 1}, "store= knows sqlite:/// and redis://"),
        ({"store": ":memory:", "max_requests": 1}, "store="),
        ({"store": "sqlite:///b.db", "budget": "", "max_requests": 1}, "budget="),
        (
            {"store": "sqlite:///b.db", "on_store_down": "never", "max_requests": 1},
            "on_store_down=",
        ),
    ],
    ids=["no limits", "no store", "unknown", "no address", "empty name", "unknown choice"],
)
def test_what_makes_no_sense_is_refused_before_any_request(options, match):
    with pytest.raises(ConfigError, match=match):
        Services.Compatible(base_url=LOCAL, model="m", **options)


@pytest.mark.quick
def test_no_file_is_made_before_the_first_call(tmp_path):
    store = f"sqlite:///{tmp_path}/budget.db"

    Services.Compatible(base_url=LOCAL, model="m", max_requests=1, store=store)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.quick
def test_a_password_of_the_store_is_never_shown():
    service = Services.Compatible(
        base_url=LOCAL, model="m", max_requests=1, store="redis://me:pass-w0rd@127.0.0.1:1/0"
    )

    with pytest.raises(ll.LionError) as caught, ll.deadline(2):
        say(service)

    assert "pass-w0rd" not in repr(service) + repr(caught.value) + repr(vars(service))
