"""A Redis server as store: what it keeps, and what happens when it is not well."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

import pytest
from store_tools import Asker, Clock, fresh_name, redis_or_skip, store_at

from lionlite import scope
from lionlite.exceptions import BudgetError
from lionlite.limits.rates import Rate
from lionlite.limits.shared import SharedLimiter
from lionlite.limits.stores.book import TRY
from lionlite.limits.stores.redis import KEY_PREFIX
from lionlite.limits.stores.terms import terms_of

HOUR = 3600


@pytest.fixture
def client():
    redis = pytest.importorskip("redis")
    with redis.Redis.from_url(redis_or_skip()) as client:
        yield client


def client_of(server):
    redis = pytest.importorskip("redis")
    return redis.Redis.from_url(server.url)


def member(server, budget="b", **kwargs):
    limits = kwargs.pop("limits", {"requests": [Rate(5, HOUR)]})
    return SharedLimiter(limits, store=server.url, budget=budget, **kwargs)


def call(limiter, **costs):
    with limiter.reserve(costs) as reservation:
        reservation.sent()
        reservation.replied()
        reservation.settle(costs)


# What is kept -------------------------------------------------------------------------


def test_a_budget_is_one_key_that_expires(client, on_redis):
    name = fresh_name()
    call(on_redis(name, requests=[Rate(5, 30)]), requests=1)

    keys = client.keys(f"*{name}*")

    assert keys == [f"{KEY_PREFIX}{name}".encode()]
    # One interval and a minute after the last lease, which is 600 s.
    assert 600 < client.ttl(keys[0]) <= 600 + 30 + 60 + 1


def test_a_rate_has_a_bounded_number_of_fields(client):
    clock = Clock()
    store = store_at(redis_or_skip(), clock)
    asker = Asker(store, terms_of({"requests": [Rate(9**9, 1)]}, "estimate"), fresh_name())
    asker.enter("e")

    for number in range(1_200):
        clock.now += 1_000
        asker.do("take", TRY, f"a.{number}", 10**6, -1, (1,))
        asker.do("settle", f"a.{number}", 0, 0, (1,))

    assert client.hlen(KEY_PREFIX + asker.budget) <= 1_001
    store.close()


# The server's troubles ----------------------------------------------------------------


def test_a_flushed_script_cache_is_no_trouble(redis_server):
    limiter = member(redis_server)
    call(limiter, requests=1)

    with client_of(redis_server) as client:
        client.script_flush()
        call(limiter, requests=1)
        client.script_flush()

        assert limiter.stats().dimensions["requests"].used == 2


def test_a_server_that_forgot_everything_counts_as_used_up(redis_server, caplog):
    limiter = member(redis_server, limits={"requests": [Rate(2, 0.5)]})
    call(limiter, requests=1)
    with client_of(redis_server) as client:
        client.flushall()
    flushed_s = time.monotonic()

    with caplog.at_level(logging.WARNING, "lionlite"):
        call(limiter, requests=2)

    assert time.monotonic() - flushed_s >= 0.5
    assert "has forgotten the budget" in caplog.text


def test_a_restart_ends_in_typed_errors_or_grants_and_never_above_the_limit(redis_server):
    interval_s = 0.5
    limiters = [member(redis_server, limits={"requests": [Rate(6, interval_s)]}) for _ in range(2)]
    until_s = time.monotonic() + 2.4
    sent_s, errors = [], []

    def saturate(limiter):
        while time.monotonic() < until_s:
            try:
                with scope.deadline(1), limiter.reserve({"requests": 1}) as reservation:
                    sent_s.append(time.monotonic())
                    reservation.sent()
                    reservation.settle({"requests": 1})
            except BudgetError as error:
                errors.append(error)
                time.sleep(0.05)

    threads = [threading.Thread(target=saturate, args=(one,)) for one in limiters * 2]
    for thread in threads:
        thread.start()
    for _ in range(2):
        time.sleep(0.5)
        redis_server.stop()
        time.sleep(0.2)
        redis_server.start()
    for thread in threads:
        thread.join()

    sent_s.sort()
    spans = [after - before for before, after in zip(sent_s, sent_s[6:], strict=False)]
    assert min(spans) >= interval_s
    assert len(sent_s) > 12
    assert all(error.retryable for error in errors)


def test_a_server_that_is_gone_is_a_typed_error(redis_server):
    redis_server.stop()

    with pytest.raises(BudgetError, match=f"redis://127.0.0.1:{redis_server.port}/0") as caught:
        member(redis_server).reserve({"requests": 1})

    assert caught.value.retryable
    assert 'on_store_down="share"' in str(caught.value)


def test_a_server_that_hangs_is_a_typed_error_within_the_deadline(redis_server):
    limiter = member(redis_server)
    call(limiter, requests=1)
    os.kill(redis_server.process.pid, signal.SIGSTOP)
    began_s = time.monotonic()

    with scope.deadline(0.4), pytest.raises(BudgetError) as caught:
        limiter.reserve({"requests": 1})

    assert time.monotonic() - began_s < 4
    assert caught.value.retryable
    os.kill(redis_server.process.pid, signal.SIGCONT)
    with scope.deadline(10):
        call(limiter, requests=1)


def test_all_who_wait_fail_with_the_first_when_the_server_goes(redis_server):
    limiter = member(redis_server)
    call(limiter, requests=5)
    ended = []

    def wait():
        try:
            limiter.reserve({"requests": 1})
        except BudgetError as error:
            ended.append(error)

    threads = [threading.Thread(target=wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    while limiter.stats().waiting < 8:
        time.sleep(0.01)

    redis_server.stop()
    for thread in threads:
        thread.join(20)

    assert len(ended) == 8
    assert len({id(error) for error in ended}) == 8


def test_a_call_that_is_over_ends_quietly_without_the_server(redis_server, caplog):
    limiter = member(redis_server, charge="adjust", limits={"tokens": [Rate(100, HOUR)]})
    reservation = limiter.reserve({"tokens": 100})
    redis_server.stop()

    with caplog.at_level(logging.WARNING, "lionlite"), reservation:
        reservation.sent()
        reservation.settle({"tokens": 30})
    limiter.pause(1)

    assert caplog.text.count("told to the store later") == 1


def test_no_error_shows_the_password(redis_server, caplog):
    with client_of(redis_server) as client:
        client.config_set("requirepass", "right-s3cret")
    url = redis_server.url.replace("://", "://:wrong-s3cret@")
    limiter = SharedLimiter({"requests": [Rate(5, HOUR)]}, store=url, budget="b")

    with pytest.raises(BudgetError) as caught:
        limiter.reserve({"requests": 1})
    limiter.pause(1)

    seen, error = [caplog.text, repr(limiter)], caught.value
    while error is not None:
        seen += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    assert "s3cret" not in "".join(seen)


def test_the_right_password_opens(redis_server):
    with client_of(redis_server) as client:
        client.config_set("requirepass", "p@ss/word")
    url = redis_server.url.replace("://", "://:p%40ss%2Fword@")

    call(SharedLimiter({"requests": [Rate(5, HOUR)]}, store=url, budget="b"), requests=1)


def test_a_server_without_memory_is_a_typed_error(redis_server):
    limiter = member(redis_server)
    with client_of(redis_server) as client:
        client.config_set("maxmemory", "1")

        with pytest.raises(BudgetError, match="memory"):
            limiter.reserve({"requests": 1})


def test_closing_one_limiter_cuts_no_trip_of_its_threads(redis_server):
    limiter = member(redis_server, limits={"requests": [Rate(10**6, HOUR)]})
    together, errors = threading.Barrier(5), []

    def settle_much():
        held = [limiter.reserve({"requests": 1}) for _ in range(50)]
        together.wait()
        try:
            for one in held:
                one.sent()
                one.settle({"requests": 1})
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=settle_much) for _ in range(4)]
    for thread in threads:
        thread.start()
    together.wait()
    limiter.close()
    for thread in threads:
        thread.join()

    assert errors == []
    assert limiter.stats().dimensions["requests"].used == 200
