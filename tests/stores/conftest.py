"""Stores for every test that says which it needs."""

from __future__ import annotations

import pytest
from store_tools import REDIS_URL, fresh_name, own_redis, redis_or_skip

from lionlite.limits.limiter import RateLimiter
from lionlite.limits.shared import SharedLimiter


@pytest.fixture(params=["sqlite", "redis"])
def store_url(request, tmp_path):
    """The address of an empty SQLite file, then that of a shared Redis."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/budget.db"
    return redis_or_skip()


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path}/budget.db"


@pytest.fixture
def redis_server(tmp_path):
    with own_redis(tmp_path) as server:
        yield server


@pytest.fixture
def shared(store_url):
    """Makes members of budgets in one store, and closes them after the test."""
    yield from _members(store_url)


@pytest.fixture
def on_sqlite(sqlite_url):
    yield from _members(sqlite_url)


@pytest.fixture
def on_redis():
    yield from _members(redis_or_skip(REDIS_URL))


@pytest.fixture(params=["memory", "sqlite", "redis"])
def limiter_of(request, tmp_path):
    """Makes limiters of each kind: what holds for one holds for all."""
    if request.param == "memory":
        yield from _limiters_in_memory()
    elif request.param == "sqlite":
        yield from _members(f"sqlite:///{tmp_path}/budget.db")
    else:
        yield from _members(redis_or_skip())


def _limiters_in_memory():
    made = []

    def make(charge="estimate", max_concurrency=None, **limits):
        made.append(RateLimiter(limits, charge=charge, max_concurrency=max_concurrency))
        return made[-1]

    yield make
    for limiter in made:
        limiter.close()


def _members(url):
    made = []

    def make(budget=None, charge="estimate", max_concurrency=None, on_store_down="raise", **limits):
        limiter = SharedLimiter(
            limits,
            store=url,
            budget=budget or fresh_name(),
            charge=charge,
            max_concurrency=max_concurrency,
            on_store_down=on_store_down,
        )
        made.append(limiter)
        return limiter

    yield make
    for limiter in made:
        limiter.close()
