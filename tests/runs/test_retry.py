"""Run.retry_failed(): only what is not finished runs again."""

from __future__ import annotations

import threading

import pandas as pd
import pytest

from lionlite.calls.runs.run import last_run, run
from lionlite.exceptions import AuthenticationError, CallError, ConfigError, ServerError


class Flaky:
    """Fails for the numbers in *bad*, and remembers what it was called with."""

    def __init__(self, bad, error=ValueError):
        self.bad = set(bad)
        self.error = error
        self.called = []

    def __call__(self, number):
        self.called.append(number)
        if number in self.bad:
            raise self.error(number)
        return number * 10

    def mend(self):
        self.bad.clear()
        self.called.clear()


def test_only_failed_items_are_called_again_and_the_order_is_kept():
    func = Flaky({2, 5})
    first = run(range(8), func)
    func.mend()

    second = first.retry_failed()

    assert sorted(func.called) == [2, 5]
    assert second.results == [number * 10 for number in range(8)]
    assert first.results[2] is None


def test_what_fails_again_keeps_its_newest_error():
    func = Flaky({1})
    first = run(range(3), func)

    second = first.retry_failed()

    assert (list(second.errors), second.errors[1] is first.errors[1]) == ([1], False)


def test_a_stopped_run_goes_on_with_all_that_is_left():
    func = Flaky({3}, AuthenticationError)
    first = run(range(1000), func, max_workers=1)
    func.mend()

    second = first.retry_failed(max_workers=8)

    assert (len(first) < 1000, second.results) == (True, [n * 10 for n in range(1000)])
    assert sorted(func.called) == list(range(3, 1000))
    assert (second.stopped, second.is_complete) == (None, True)


def test_a_generator_goes_on_where_it_stopped():
    func = Flaky({3}, AuthenticationError)
    first = run((n for n in range(1000)), func, max_workers=1)
    func.mend()

    assert first.retry_failed().results == [n * 10 for n in range(1000)]


def test_a_series_keeps_its_index_over_a_retry():
    func = Flaky({7}, AuthenticationError)
    series = pd.Series(range(500), index=[f"row {n}" for n in range(500)])
    first = run(series, func, max_workers=1)
    func.mend()

    second = first.retry_failed()

    assert second.to_pandas()["value"].to_dict() == {f"row {n}": n * 10 for n in range(500)}
    assert second[499].key == "row 499"


def test_options_may_change_and_unknown_ones_are_refused():
    result = run([None, 1], str)

    assert result.retry_failed(skip_missing=True)[0].is_skipped
    with pytest.raises(ConfigError, match=r"retry_failed\(\) has no argument 'max_worker'"):
        result.retry_failed(max_worker=1)


def test_a_run_that_goes_on_cannot_be_retried():
    def func(_):
        return last_run().retry_failed()

    assert "The run still goes on" in str(run([1], func).errors[0])


def test_times_add_up():
    def func(number):
        threading.Event().wait(0.02)
        raise ValueError(number)

    first = run([1], func)
    second = first.retry_failed()

    assert second[0].elapsed_s > first[0].elapsed_s
    assert second.elapsed_s > first.elapsed_s


def test_a_finished_run_has_nothing_to_retry():
    func = Flaky(())
    first = run(range(4), func)
    func.mend()

    second = first.retry_failed()

    assert (func.called, second.results, last_run()) == ([], first.results, second)


def test_the_total_shown_is_that_of_what_runs_again():
    func, seen = Flaky({1, 2}), []
    first = run(range(9), func)
    func.mend()

    first.retry_failed(progress=lambda done, total: seen.append((done, total)))

    assert seen[-1] == (2, 2)


def test_the_total_of_a_generator_is_unknown():
    seen = []

    run((n for n in range(3)), str, progress=lambda done, total: seen.append((done, total)))

    assert seen[-1] == (3, None)


def test_an_item_whose_key_fails_is_not_lost():
    def key(number):
        if number == 2:
            raise KeyError("no key")
        return number

    with pytest.raises(CallError, match="index 2 could not be begun: KeyError"):
        run(iter(range(4)), str, key=key, max_workers=1)

    again = last_run().retry_failed(key=None)
    assert again.results == ["0", "1", "2", "3"]


def test_a_finished_item_without_chats_is_taken_from_the_checkpoint(tmp_path):
    func = Flaky({1})
    run(range(3), func, checkpoint=tmp_path / "run.db")
    func.mend()

    second = run(range(3), func, checkpoint=tmp_path / "run.db")

    assert (func.called, second.results, second.is_complete) == ([1], [0, 10, 20], True)


def test_a_checkpoint_tells_equal_items_apart_in_a_retry(tmp_path):
    answers, bad = iter("abcdef"), {"b"}
    calls = threading.Lock()

    def func(_):
        with calls:
            answer = next(answers)
        if answer in bad:
            raise ValueError(answer)
        return answer

    first = run(["same"] * 3, func, checkpoint=tmp_path / "run.db", max_workers=1)
    bad.clear()
    second = first.retry_failed()
    third = run(["same"] * 3, func, checkpoint=tmp_path / "run.db")

    assert first.results == ["a", None, "c"]
    assert third.results == second.results == ["a", "d", "c"]


class Writing:
    """Writes its answer into the item, and fails at the calls in *bad*."""

    def __init__(self, *bad):
        self.bad = bad
        self.calls = 0

    def __call__(self, row):
        self.calls += 1
        if self.calls in self.bad:
            raise ServerError(str(self.calls))
        row["answer"] = self.calls
        return self.calls


def equal_rows(number):
    return [{"text": "same"} for _ in range(number)]


def test_an_item_that_was_changed_leaves_its_answer_to_no_equal_one(tmp_path):
    path, func = tmp_path / "run.db", Writing(2)

    first = run(equal_rows(3), func, checkpoint=path, max_workers=1)
    second = first.retry_failed()

    assert (first.results, second.results) == ([1, None, 3], [1, 4, 3])
    assert run(equal_rows(3), func, checkpoint=path).results == [1, 4, 3]


def test_items_left_unread_are_told_from_changed_ones_before_them(tmp_path):
    path, func = tmp_path / "run.db", Writing(2)

    first = run(iter(equal_rows(9)), func, checkpoint=path, max_workers=1, max_failures=1)
    second = first.retry_failed(max_failures=None)

    assert second.results == [1, 3, *range(4, 11)]
    assert run(equal_rows(9), func, checkpoint=path).results == second.results


def test_a_run_may_be_retried_more_than_once(tmp_path):
    path, func = tmp_path / "run.db", Writing(1, 2)
    first = run(equal_rows(2), func, checkpoint=path, max_workers=1)

    second, third = first.retry_failed(max_workers=1), first.retry_failed(max_workers=1)

    assert second.results == third.results == [3, 4]
    assert func.calls == 4


@pytest.mark.parametrize(
    ("before", "after"), [(True, {"key": "text"}), (False, {})], ids=["other names", "first names"]
)
def test_a_retry_gives_equal_items_new_names_in_their_order(tmp_path, before, after):
    writing, path = Writing(2), tmp_path / "run.db"

    def func(row):
        return writing(dict(row))

    rows = [{"text": None}, *equal_rows(3)]
    first = run(rows, func, max_workers=1, skip_missing=True, checkpoint=path if before else None)
    second = first.retry_failed(checkpoint=path, **after)

    assert second.results == [None, 1, 4, 3]
    # Only the second of the three was kept under its new name.
    again = run(equal_rows(3), func, checkpoint=path, max_workers=1, **after)
    assert again.results == [5, 4, 6]
