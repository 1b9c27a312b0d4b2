"""run(): an outcome for every item, whatever happens to it."""

from __future__ import annotations

import logging
import math
import pickle
import threading

import pytest

from lionlite import deadline
from lionlite.calls.family import lcall
from lionlite.calls.runs import run as run_module
from lionlite.calls.runs.result import Run
from lionlite.calls.runs.run import last_run, run
from lionlite.exceptions import (
    AuthenticationError,
    CallError,
    Cancelled,
    ConfigError,
    DeadlineExceeded,
    RateLimitError,
)
from lionlite.scope import cancellable, current


def inverse(number):
    return 12 // number


def double(number):
    return 2 * number


def statuses(result):
    return [outcome.status for outcome in result]


def test_results_are_the_values_in_order_with_none_for_failures():
    result = run([1, 0, 3], inverse)

    assert (result.results, list(result.errors)) == ([12, None, 4], [1])
    assert isinstance(result.errors[1], ZeroDivisionError)


def test_a_run_is_a_sequence_of_outcomes():
    result = run(["ab", "cd", "ef"], str.upper)

    assert (len(result), result[1].input, result[-1].value) == (3, "cd", "EF")
    assert [outcome.index for outcome in result] == [0, 1, 2]
    assert [outcome.value for outcome in result[1:]] == ["CD", "EF"]


def test_an_outcome_of_an_item_that_failed_says_why():
    outcome = run([0], inverse)[0]

    assert (outcome.is_ok, outcome.is_failed, outcome.value) == (False, True, None)
    assert isinstance(outcome.error, ZeroDivisionError)


@pytest.mark.parametrize("share", [1, 10, 50, 99, 100])
def test_every_finished_value_is_there_whatever_share_fails(share):
    def func(number):
        if number % 100 < share:
            raise ValueError(number)
        return number

    result = run(range(300), func, max_workers=8)

    good = [number for number in range(300) if number % 100 >= share]
    assert result.results == [number if number in set(good) else None for number in range(300)]
    assert sorted(result.errors) == sorted(set(range(300)) - set(good))


def test_an_item_is_tried_again_and_its_last_error_stands():
    tries = []

    def func(item):
        tries.append(item)
        raise ValueError(len(tries))

    result = run(["x"], func, retries=2)

    assert (len(tries), str(result.errors[0])) == (3, "3")


def test_elapsed_is_that_of_the_function_and_not_of_the_wait_in_the_queue():
    pause = threading.Event()

    result = run(range(6), lambda _: pause.wait(0.05), max_workers=1)

    assert all(0.05 <= outcome.elapsed_s < 0.25 for outcome in result)
    assert result.elapsed_s >= 0.3


def test_nothing_is_a_run_too():
    result = run([], inverse)

    assert (len(result), result.results, result.is_complete, result.to_dicts()) == (0, [], True, [])


def test_a_run_has_the_arguments_of_lcall_under_the_same_names():
    with pytest.raises(ConfigError, match=r"run\(\) has no argument 'max_worker': did you mean"):
        run([1], inverse, max_worker=3)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_failures": 0}, "max_failures must be an int >= 1; got 0"),
        ({"max_failures": "all"}, "max_failures must be an int"),
        ({"skip_missing": "yes"}, "skip_missing must be True or False; got 'yes'"),
        ({"key": 3}, "key must be a function of an item or the name of a field; got int"),
        ({"on_error": "raise"}, "on_error must be"),
        ({"max_workers": 0}, "max_workers must be"),
        ({"checkpoint": 3}, "checkpoint= takes the path"),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else "",
)
def test_wrong_arguments_are_found_before_anything_is_called(options, match):
    called = []

    with pytest.raises(ConfigError, match=match):
        run([1], called.append, **options)

    assert called == []


@pytest.mark.parametrize("items", [5, None], ids=["number", "nothing"])
def test_an_input_that_cannot_be_iterated_is_refused(items):
    with pytest.raises(ConfigError, match="items must be iterable"):
        run(items, inverse)


MISSING = [None, math.nan]


@pytest.mark.parametrize("missing", MISSING, ids=repr)
def test_a_missing_item_fails_without_a_call(missing):
    called = []

    result = run(["a", missing, "b"], called.append)

    assert (sorted(called), statuses(result)) == (["a", "b"], ["ok", "failed", "ok"])
    with pytest.raises(ConfigError, match=r"The input is missing .* skip_missing=True"):
        raise result.errors[1]


@pytest.mark.parametrize("missing", MISSING, ids=repr)
def test_a_missing_item_is_left_out_when_asked(missing):
    result = run(["a", missing], str.upper, skip_missing=True)

    assert (result.results, result.errors, result[1].is_skipped) == (["A", None], {}, True)
    assert result.is_complete


def test_a_row_is_missing_when_all_its_fields_are():
    rows = [{"a": 1, "b": None}, {"a": None, "b": math.nan}, {}]

    assert statuses(run(rows, len, skip_missing=True)) == ["ok", "skipped", "ok"]


def test_a_function_that_names_its_fields_needs_them_all():
    class Reads:
        fields = ("text",)

        def __call__(self, row):
            return row["text"]

    rows = [{"text": None, "n": 1}, {"text": "x", "n": None}]

    assert run(rows, Reads(), skip_missing=True).results == [None, "x"]


def test_the_key_may_be_a_function_or_the_name_of_a_field():
    rows = [{"id": "p"}, {"id": "q"}]

    by_name = [outcome.key for outcome in run(rows, len, key="id")]
    by_function = [outcome.key for outcome in run(rows, len, key=lambda row: row["id"] * 2)]

    assert (by_name, by_function) == (["p", "q"], ["pp", "qq"])


def test_a_key_that_is_no_field_ends_the_run_and_says_which_there_are():
    with pytest.raises(CallError, match="key='idd' is no field of the item: did you mean 'id'"):
        run([{"id": 1}], len, key="idd")


@pytest.mark.parametrize("workers", [1, 64])
def test_the_first_failures_stop_a_run_in_which_nothing_goes_well(caplog, workers):
    caplog.set_level(logging.WARNING, "lionlite")

    def func(_):
        raise RateLimitError("429", retryable=True)

    result = run(iter(range(10_000)), func, max_workers=workers)

    assert result.stopped.startswith("The first 20 items all failed, the last: RateLimitError")
    assert 20 <= len(result.failed) < 20 + workers
    assert len(result) < 400
    assert caplog.text.count("run() of func stopped: The first 20 items") == 1


def test_one_that_goes_well_lets_the_run_go_on():
    def func(number):
        if number:
            raise RateLimitError
        return "fine"

    assert len(run(range(60), func, max_workers=1).failed) == 59


def test_errors_of_the_function_alone_let_the_run_go_on():
    """They cost nothing, and often belong to the items."""
    assert len(run(range(60), "x".index, max_workers=1).failed) == 60


def test_missing_items_do_not_stop_a_run():
    assert len(run([None] * 50 + [1], double)) == 51


def test_max_failures_stops_the_run_at_so_many():
    def func(number):
        if number % 2:
            raise ValueError(number)

    result = run(range(1000), func, max_failures=3, max_workers=1)

    assert result.stopped == "max_failures=3 items failed, the last: ValueError: 5."
    assert (list(result.errors), result[6].is_unfinished) == ([1, 3, 5], True)


def test_a_fatal_error_stops_the_run_and_is_no_exception():
    def func(number):
        if number == 5:
            raise AuthenticationError("no such key")
        return number

    result = run(range(1000), func, max_workers=1)

    assert result.results[:7] == [0, 1, 2, 3, 4, None, None]
    assert result.stopped == "AuthenticationError: no such key."
    assert not result.is_complete


def test_stop_raises_at_the_first_error_with_everything_finished():
    with pytest.raises(CallError, match="Index 2: ZeroDivisionError") as caught:
        run([1, 2, 0, *range(1, 500)], inverse, on_error="stop", max_workers=1)

    assert (caught.value.results[:3], list(caught.value.failed)) == ([12, 6, None], [2])
    assert last_run().results == caught.value.results


def test_continue_runs_all_items_and_raises_then():
    with pytest.raises(CallError, match=r"2 of 4 items failed\. Index 1: Zero") as caught:
        run([1, 0, 0, 4], inverse, on_error="continue")

    assert (caught.value.results, list(caught.value.failed)) == ([12, None, None, 3], [1, 2])


def test_a_missing_item_is_an_error_where_errors_are_raised():
    with pytest.raises(CallError, match="Index 1: ConfigError: The input is missing"):
        run([1, None, 4], inverse, on_error="continue")


def test_a_missing_item_stops_a_run_that_stops_at_errors():
    with pytest.raises(CallError, match="index 1 could not be begun: ConfigError") as caught:
        run([1, None, *range(500)], double, on_error="stop", max_workers=1)

    assert (list(caught.value.failed), len(last_run())) == ([1], 2)


def test_what_says_how_a_checkpoint_is_kept_needs_one():
    with pytest.raises(ConfigError, match="version= says how a checkpoint is kept"):
        run([1], double, version=2)


def test_an_input_that_fails_raises_and_loses_nothing():
    is_done = threading.Event()

    def items():
        yield 1
        is_done.wait()
        raise OSError("gone")

    def func(number):
        is_done.set()
        return inverse(number)

    with pytest.raises(CallError, match="The input failed at index 1: OSError: gone") as caught:
        run(items(), func)

    assert caught.value.results == last_run().results == [12]


def test_a_cancelled_scope_raises_and_the_run_is_kept():
    started = threading.Event()

    def func(_):
        started.set()
        current().token.is_cancelled or threading.Event().wait(0.05)
        current().check("turn")

    with cancellable() as token:
        threading.Thread(target=lambda: (started.wait(), token.cancel())).start()
        with pytest.raises(Cancelled):
            run(range(100), func, max_workers=2)

    assert set(statuses(last_run())) <= {"ok", "unfinished"}


def test_a_deadline_is_each_items_own_error():
    def func(_):
        current().check("turn")

    with deadline(0):
        result = run(range(3), func)

    assert {type(error) for error in result.errors.values()} == {DeadlineExceeded}


def test_the_scope_of_the_caller_holds_in_the_items():
    with deadline(60):
        result = run([1], lambda _: current().left_s)

    assert 0 < result.results[0] <= 60


def test_the_last_run_is_kept_even_if_nobody_assigned_it():
    run([1, 2], double)

    assert last_run().results == [2, 4]


def test_a_run_inside_an_item_is_not_the_last_one():
    outer = run([3], lambda n: run(range(n), double).results)

    assert (outer.results, last_run()) == ([[0, 2, 4]], outer)


def test_runs_nest_on_two_threads():
    def level(depth):
        return lambda n: run([n, n], level(depth - 1) if depth else double, max_workers=2).results

    assert run([1, 2], level(2), max_workers=2).results[1] == [[[4, 4]] * 2] * 2


def test_many_runs_at_once_keep_to_themselves():
    def one(number):
        return run(range(200), lambda n: n * number, max_workers=4).results

    assert lcall(range(16), one, max_workers=16) == [
        [n * number for n in range(200)] for number in range(16)
    ]


def test_a_run_can_be_read_while_it_goes_on():
    seen = []

    def func(number):
        seen.append(repr(last_run()))
        return number

    run(range(5), func, max_workers=1)

    assert all(text.startswith("Run of func, going on\n") for text in seen)


def test_a_run_pickles_without_its_function():
    result = run([1, 0], lambda n: 12 // n)

    copy = pickle.loads(pickle.dumps(result))

    assert isinstance(copy, Run)
    assert (copy.results, copy.summary()) == (result.results, result.summary())
    with pytest.raises(ConfigError, match="does not pickle: call run"):
        copy.retry_failed()


def test_the_module_keeps_only_the_last_run():
    first = run([1], double)
    second = run([1], double)

    assert run_module.last_run() is second is not first
