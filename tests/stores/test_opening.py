"""What store= may say, and what its errors tell; nothing is opened here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from lionlite.exceptions import ConfigError
from lionlite.limits.rates import Rate
from lionlite.limits.shared import SharedLimiter
from lionlite.limits.stores.opening import open_store

pytest.importorskip("redis")

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("sqlite:////var/lib/budget.db", "sqlite:////var/lib/budget.db"),
        ("sqlite:///budget.db", f"sqlite:///{Path.cwd()}/budget.db"),
        ("redis://localhost", "redis://localhost:6379/0"),
        ("redis://10.0.0.1:7000/3", "redis://10.0.0.1:7000/3"),
        ("rediss://user:secret@cache.example:7000/3", "rediss://cache.example:7000/3"),
        ("redis://:secret@[::1]/", "redis://[::1]:6379/0"),
    ],
)
def test_an_address_is_a_store(url, where):
    store = open_store(url)

    assert store.where == where
    assert "secret" not in repr(store) + repr(vars(store))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "budget.db",
        "sqlite://budget.db",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///folder/",
        "sqlite:///budget.db?mode=ro",
        "postgres://localhost/x",
        "memcached://localhost",
        "redis://",
        "redis://:6379",
        "redis://host:port/0",
        "redis://host:99999/0",
        "redis://host/budgets",
        "redis://host/0?ssl_cert_reqs=none",
        None,
        7,
    ],
)
def test_what_is_no_address_is_refused_with_the_cure(url):
    with pytest.raises(ConfigError, match=r"store=.*write"):
        open_store(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:s3cret@host:port/0",
        "redis://user:s3cret@host/db",
        "reddis://user:s3cret@host/0",
        "redis://user:s3c@ret@host/0?x=1",
        "user:s3cret@host",
    ],
)
def test_no_message_shows_a_password(url):
    with pytest.raises(ConfigError) as caught:
        open_store(url)

    assert "s3c" not in str(caught.value)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=r"pip install 'lionlite\[redis\]'"):
        open_store("redis://localhost")


def shared(**kwargs):
    limits = {"requests": [Rate(1, 60)]}
    return SharedLimiter(limits, **{"store": "sqlite:///x.db", "budget": "b", **kwargs})


@pytest.mark.parametrize("budget", ["", "a\nb", "x" * 201, None, 3])
def test_a_budget_has_a_printable_name(budget):
    with pytest.raises(ConfigError, match="budget= takes a printable name"):
        shared(budget=budget)


@pytest.mark.parametrize("choice", ["", "ignore", None])
def test_there_are_two_ways_to_go_on_without_a_store(choice):
    with pytest.raises(ConfigError, match="on_store_down= takes 'raise' or 'share'"):
        shared(on_store_down=choice)


@pytest.mark.parametrize("count", [0, -1, True, 1.5, "2"])
def test_max_concurrency_is_a_count(count):
    with pytest.raises(ConfigError, match="max_concurrency takes an int >= 1"):
        shared(max_concurrency=count)


@pytest.mark.parametrize("rate", ["5/minute", 5, Rate(0, 1), Rate(5, -1)])
def test_limits_are_rates(rate):
    with pytest.raises(ConfigError):
        SharedLimiter({"requests": [rate]}, store="sqlite:///x.db", budget="b")


def test_two_rates_of_one_interval_are_refused():
    with pytest.raises(ConfigError, match="two rates of one interval"):
        SharedLimiter({"requests": [Rate(1, 60), Rate(2, 60)]}, store="sqlite:///x", budget="b")


def test_limits_that_change_are_refused_with_the_cure():
    with pytest.raises(ConfigError, match="another budget="):
        shared().set_rates("requests", [Rate(2, 60)])


def test_it_says_what_it_is_without_opening_anything(tmp_path):
    limiter = shared(store=f"sqlite:///{tmp_path}/b.db")

    stats = limiter.stats()

    assert repr(limiter) == (
        f"<SharedLimiter 'b' in sqlite:///{tmp_path}/b.db, requests 1 per 60 s; charge 'estimate'>"
    )
    assert (stats.dimensions["requests"].remaining, stats.guard_s) == (1, 0.1)
    assert list(tmp_path.iterdir()) == []
