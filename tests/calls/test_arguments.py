"""What a mapping call refuses before it calls anything."""

from __future__ import annotations

import functools
import os

import numpy as np
import pytest

from lionlite.calls.family import alcall, icall, lcall
from lionlite.exceptions import CallError, ConfigError

pytestmark = pytest.mark.quick

FAMILY = [
    pytest.param(lcall, id="lcall"),
    pytest.param(alcall, id="alcall"),
    pytest.param(icall, id="icall"),
]


async def fetch(item):
    return item


async def stream(item):
    yield item


class AsyncCallable:
    async def __call__(self, item):
        return item

    async def method(self, item):
        return item


@pytest.mark.parametrize("call", FAMILY)
@pytest.mark.parametrize(
    "func",
    [
        pytest.param(fetch, id="async def"),
        pytest.param(stream, id="async generator"),
        pytest.param(functools.partial(fetch), id="partial"),
        pytest.param(functools.partial(functools.partial(fetch)), id="partial of a partial"),
        pytest.param(AsyncCallable(), id="object with async __call__"),
        pytest.param(functools.partial(AsyncCallable()), id="partial of such an object"),
        pytest.param(AsyncCallable().method, id="async method"),
    ],
)
def test_async_functions_are_refused_before_any_call(call, func):
    with pytest.raises(ConfigError, match=r"func is async.*plain function"):
        call(iter("abc"), func)


def test_a_coroutine_from_a_plain_function_stops_the_run():
    """It is closed, so Python does not warn that it was never awaited."""

    def hidden(item):
        return fetch(item)

    with pytest.raises(CallError, match="returned a coroutine") as caught:
        lcall(range(1000), hidden, max_workers=2, on_error="return")

    assert caught.value.fatal
    assert len(caught.value.failed) <= 2


@pytest.mark.parametrize("call", FAMILY)
def test_extra_keywords_are_refused_naming_partial(call):
    words = rf"{call.__name__}\(\) has no argument 'model'.*functools\.partial\(func, model="
    with pytest.raises(ConfigError, match=words):
        call([1], str, model="gpt")


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("flatten", r"LionAGI joined the lists that func returned; .* \[part for value in values "),
        ("dropna", r"LionAGI dropped None from items and results; .* if item is not None\]"),
    ],
)
@pytest.mark.parametrize("call", FAMILY)
def test_what_lionagi_did_to_items_and_results_has_a_cure_of_its_own(call, name, cure):
    with pytest.raises(ConfigError, match=rf"has no argument '{name}': {cure}") as caught:
        call([1], str, **{name: True})

    assert "partial" not in str(caught.value)


def test_a_misspelt_keyword_is_told_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'max_workers'"):
        lcall([1], str, max_worker=3)


def test_swapped_arguments_are_told_the_order():
    with pytest.raises(ConfigError, match=r"got list. The order is lcall\(items, func\)"):
        lcall(str, [1, 2])


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "8", None], ids=repr)
def test_max_workers_is_auto_or_an_int_above_0(value):
    with pytest.raises(ConfigError, match=r"max_workers must be (\"auto\" or )?an int >= 1; got"):
        lcall([1], str, max_workers=value)


def test_max_workers_may_be_an_int_of_numpy():
    assert lcall([1], str, max_workers=np.int64(2)) == ["1"]


@pytest.mark.parametrize("value", ["raise", None, True], ids=repr)
def test_on_error_is_one_of_three_words(value):
    with pytest.raises(ConfigError, match='on_error must be "stop", "continue" or "return"'):
        lcall([1], str, on_error=value)


@pytest.mark.parametrize("value", [1, "bar", None], ids=repr)
def test_progress_is_a_bool_or_a_function(value):
    with pytest.raises(ConfigError, match="progress must be True, False or a function"):
        lcall([1], str, progress=value)


@pytest.mark.parametrize("value", [-1, True, 1.0, "2", None], ids=repr)
def test_retries_is_an_int_from_0(value):
    with pytest.raises(ConfigError, match=r"retries must be an int >= 0; got"):
        lcall([1], str, retries=value)


@pytest.mark.parametrize("value", [-1, True, "2", None, float("nan")], ids=repr)
def test_grace_is_seconds(value):
    with pytest.raises(ConfigError, match=r"grace takes seconds, a number >= 0; got"):
        lcall([1], str, grace=value)


def test_sigterm_is_a_bool():
    with pytest.raises(ConfigError, match="sigterm must be True or False; got 1"):
        lcall([1], str, sigterm=1)


def test_sigterm_is_refused_where_python_hears_no_signal():
    [error] = lcall([1], lambda _: lcall([1], str, sigterm=True), on_error="return")

    assert isinstance(error, ConfigError)
    assert "sigterm=True works in the main thread only" in str(error)


@pytest.mark.parametrize(
    "argument",
    [{"replay": False}, {"version": "2"}, {"key": str}, {"encode": str}, {"durability": "power"}],
    ids=lambda argument: next(iter(argument)),
)
@pytest.mark.parametrize("call", FAMILY)
def test_what_says_how_a_checkpoint_is_kept_needs_one(call, argument):
    words = rf'{next(iter(argument))}= says how .* pass checkpoint="run\.db" too'
    with pytest.raises(ConfigError, match=words):
        call([1], str, **argument)


def test_icall_checks_at_once_and_reads_nothing_before_it_is_asked():
    items = iter("ab")

    pairs = icall(items, os.fspath)

    assert next(items) == "a"
    assert list(pairs) == [(0, "b")]
