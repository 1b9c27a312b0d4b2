"""Several functions: each on its own item, or each on every item."""

from __future__ import annotations

import itertools
import threading

import pytest

from lionlite.calls.matrix import mcall
from lionlite.exceptions import AuthenticationError, CallError, ConfigError, Interrupted
from lionlite.scope import current, deadline

pytestmark = pytest.mark.quick


def double(number):
    return number * 2


def plus_three(number):
    return number + 3


def broken(number):
    raise ValueError(number)


def test_each_function_gets_its_own_item():
    assert mcall([1, 2], [double, plus_three]) == [2, 5]


def test_exploded_each_function_gets_every_item():
    assert mcall([1, 2], [double, plus_three], explode=True) == [[2, 4], [4, 5]]


@pytest.mark.parametrize("explode", [False, True])
def test_values_come_in_order_whoever_is_first(explode):
    numbers = list(range(40))
    pause = threading.Event()
    funcs = [lambda number, by=by: (pause.wait(0.002 * (by % 3)), number * by)[1] for by in numbers]

    got = mcall(numbers, funcs, explode=explode, max_workers=16)

    if explode:
        assert got == [[number * by for number in numbers] for by in numbers]
    else:
        assert got == [number * number for number in numbers]


@pytest.mark.parametrize("explode", [False, True])
def test_all_run_at_the_same_time(explode):
    meeting = threading.Barrier(4, timeout=10)
    items = [1, 2] if explode else [1, 2, 3, 4]
    funcs = [lambda _: meeting.wait() >= 0] * len(items)

    got = mcall(items, funcs, explode=explode, max_workers=4)

    assert got == ([[True, True], [True, True]] if explode else [True] * 4)


def test_a_single_function_stands_for_a_list_of_one():
    assert mcall([4], double) == [8]
    assert mcall([4, 5], double, explode=True) == [[8, 10]]


def test_nothing_gives_nothing():
    assert mcall([], []) == []
    assert mcall([], [double], explode=True) == [[]]
    assert mcall([1], [], explode=True) == []


def test_none_and_lists_are_items_like_any_other():
    assert mcall([None, [1, 2]], [repr, len]) == ["None", 2]
    assert mcall([None, [[1]]], [repr], explode=True) == [["None", "[[1]]"]]


def test_a_text_is_one_item():
    assert mcall("abc", [len]) == [3]
    assert mcall("abc", [len, str.upper], explode=True) == [[3], ["ABC"]]


@pytest.mark.parametrize(
    ("items", "got"),
    [
        ([1, 2, 3], "2 functions and 3 items"),
        ([1], "2 functions and 1 items"),
        ([], "2 functions and 0 items"),
        (itertools.count(), "2 functions and more items"),
    ],
    ids=["more", "fewer", "none", "endless"],
)
def test_other_lengths_are_refused_before_any_call(items, got):
    called = []

    with pytest.raises(ConfigError, match=got) as caught:
        mcall(items, [called.append, called.append])

    assert isinstance(caught.value, ValueError)
    assert called == []


def test_errors_stand_in_their_places_if_asked_for():
    got = mcall([1, 2], [double, broken], explode=True, on_error="return")

    assert got[0] == [2, 4]
    assert [type(value) for value in got[1]] == [ValueError, ValueError]


def test_a_failure_keeps_everything_finished():
    with pytest.raises(CallError) as caught:
        mcall([1, 2, 3], [double, broken, double], on_error="continue")

    assert caught.value.results == [2, None, 6]
    assert list(caught.value.failed) == [1]


def test_an_exploded_failure_keeps_its_rows_and_says_where():
    with pytest.raises(CallError, match="2 of 6 items failed") as caught:
        mcall([1, 2], [double, broken, plus_three], explode=True, on_error="continue")

    assert caught.value.results == [[2, 4], [None, None], [4, 5]]
    assert [divmod(index, 2) for index in caught.value.failed] == [(1, 0), (1, 1)]
    assert caught.value.__notes__ == [f"Index 2: {__name__}.broken, item 0."]


def test_rows_are_whole_even_where_nothing_was_begun():
    with pytest.raises(CallError) as caught:
        mcall(range(200), [broken, double], explode=True, max_workers=1)

    assert [len(row) for row in caught.value.results] == [200, 200]
    assert list(caught.value.failed) == [0]


def test_ctrl_c_keeps_the_rows():
    def pressed(number):
        if number == 2:
            raise KeyboardInterrupt
        return number

    with pytest.raises(Interrupted) as caught:
        mcall([1, 2], [double, pressed], explode=True, max_workers=1)

    assert caught.value.results == [[2, 4], [1, None]]


def test_an_input_that_fails_is_a_call_error():
    def numbers():
        yield 1
        raise OSError("no disk")

    with pytest.raises(CallError, match="The input failed at index 1: OSError: no disk") as caught:
        mcall(numbers(), [double, double])

    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.results == [None]


def test_a_fatal_error_stops_every_mode():
    def no_key(_):
        raise AuthenticationError("no such key")

    with pytest.raises(CallError) as caught:
        mcall([1, 2], [no_key, double], on_error="return", max_workers=1)

    assert caught.value.fatal


def test_retries_and_progress_count_every_call():
    tried, shown = [], []

    def second_time(number):
        tried.append(number)
        if tried.count(number) < 2:
            raise ValueError(number)
        return number

    got = mcall(
        [1, 2],
        [second_time, double],
        explode=True,
        retries=1,
        progress=lambda done, total: shown.append((done, total)),
    )

    assert got == [[1, 2], [2, 4]]
    assert shown[-1] == (4, 4)


def test_the_deadline_around_holds_in_every_call():
    with deadline(30) as outer:
        ends = mcall([1, 2], [lambda _: current().ends_at_s] * 2)

    assert ends == [outer.ends_at_s] * 2


async def a_coroutine_function(_):
    """Nothing here awaits it."""


@pytest.mark.parametrize(
    ("funcs", "arguments", "match"),
    [
        ([double, a_coroutine_function], {}, "func is async, and mcall awaits nothing"),
        ([double, 7], {}, "func must be callable; got int"),
        (7, {}, "funcs must be a function or an iterable of them; got int"),
        ([double] * 2, {"max_workers": 0}, "max_workers must be an int >= 1"),
        ([double] * 2, {"explode": "yes"}, "explode must be True or False"),
        ([double] * 2, {"flatten": True}, r"mcall\(\) has no argument 'flatten'"),
        ([], {"dropna": True}, r"mcall\(\) has no argument 'dropna'"),
    ],
    ids=["async", "int in list", "int", "workers", "explode", "flatten", "dropna"],
)
def test_wrong_arguments_are_refused_before_any_item_is_read(funcs, arguments, match):
    read = []

    with pytest.raises(ConfigError, match=match):
        mcall((read.append(number) for number in range(2)), funcs, **arguments)

    assert read == []
