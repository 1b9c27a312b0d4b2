"""What a later run takes from the file, and what it asks again."""

from __future__ import annotations

import functools
import re
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import attrs
import pytest
from checkpoint_tools import Provider, do, rows, run

from lionlite.calls.journal.checkpoint import open_checkpoint


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


def two_chats(provider, *, second="refine"):
    def workflow(item):
        first = provider.chat(f"ask {item}")
        return first, provider.chat(f"{second} {first}")

    return workflow


def test_a_second_run_asks_nothing_and_returns_the_same(path):
    provider = Provider()
    first = run(path, "abc", two_chats(provider))

    again = run(path, "abc", two_chats(provider))

    assert again == first == [("ask a #1", "refine ask a #1 #2"), *first[1:]]
    assert len(provider.asked) == 6


def test_a_workflow_is_taken_up_after_its_last_finished_chat(path):
    provider = Provider(fails_on=["refine ask b #3"])
    broken = run(path, "abc", two_chats(provider))
    provider.fails_on.clear()
    before = list(provider.asked)

    done = run(path, "abc", two_chats(provider))

    assert isinstance(broken[1], ConnectionError)
    assert provider.asked[len(before) :] == ["refine ask b #3"]
    assert [done[0], done[2]] == [broken[0], broken[2]]


def test_an_edited_prompt_is_asked_again_and_the_others_are_not(path):
    provider = Provider()
    run(path, "ab", two_chats(provider))

    run(path, "ab", two_chats(provider, second="shorten"))

    assert [prompt.split()[0] for prompt in provider.asked[4:]] == ["shorten", "shorten"]


def test_only_a_changed_item_runs_and_the_order_does_not_matter(path):
    provider = Provider()
    first = run(
        path,
        [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}],
        lambda row: provider.chat(row["text"]),
    )

    again = run(
        path,
        [{"text": "c", "id": 3}, {"text": "b", "id": 2}, {"text": "a", "id": 1}],
        lambda row: provider.chat(row["text"]),
    )

    assert provider.asked == ["a", "b", "c"]
    assert again[1:] == first[::-1]


def test_equal_items_are_told_apart_by_their_order(path):
    provider = Provider()
    first = run(path, ["same", "same", "other", "same"], provider.chat)

    again = run(path, ["other", "same", "same", "same", "same"], provider.chat)

    assert first[:2] == ["same #1", "same #2"]
    assert again == ["other #3", "same #1", "same #2", "same #4", "same #5"]


def test_the_same_chat_twice_in_an_item_keeps_both_answers(path):
    provider = Provider()
    vote = lambda item: [provider.chat(item) for _ in range(3)]
    first = run(path, ["a"], vote)

    assert run(path, ["a"], vote) == first == [["a #1", "a #2", "a #3"]]
    assert len(provider.asked) == 3


def test_a_chat_that_failed_leaves_no_gap_before_one_that_did_not(path):
    provider = Provider(fails_on=["a"])

    def stubborn(item):
        try:
            return provider.chat(item)
        except ConnectionError:
            provider.fails_on.clear()
            return provider.chat(item)

    first = run(path, ["a"], stubborn)

    assert run(path, ["a"], stubborn) == first == ["a #2"]
    assert provider.asked == ["a", "a"]


def test_a_chat_has_one_name_in_every_run_and_no_other_has_it(path, tmp_path):
    provider = Provider(fails_on=["a", "b"])
    twice = lambda item: [attempt(provider, item) for _ in range(2)]
    for _ in range(2):
        run(path, ["a", "b", "a"], twice)
    run(tmp_path / "other.db", ["a"], twice)

    first, second, other = provider.names[:6], provider.names[6:12], provider.names[12:]
    assert first == second
    assert len({*first, *other}) == 8
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,200}", name) for name in first)


def attempt(provider, prompt):
    try:
        return provider.chat(prompt)
    except ConnectionError:
        return None


def test_chats_of_many_threads_in_one_item_are_all_kept(path):
    provider = Provider()

    def fan_out(item):
        prompts = [f"{item} {number % 10}" for number in range(40)]
        with ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(copy_context().run, provider.chat, prompt) for prompt in prompts]
        return sorted(job.result() for job in jobs)

    first = run(path, ["a"], fan_out)

    assert run(path, ["a"], fan_out) == first
    assert len(provider.asked) == len(first[0]) == 40


def test_an_item_without_chats_is_not_called_again(path):
    calls = []
    double = lambda item: calls.append(item) or item * 2

    assert run(path, [1, 2], double) == run(path, [1, 2, 3], double)[:2] == [2, 4]
    assert calls == [1, 2, 3]


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"version": "two"}, {"func": lambda item: item * 2}],
    ids=["version", "version as text", "function"],
)
def test_without_chats_another_version_or_function_does_it_again(path, change):
    calls = []

    def double(item):
        calls.append(item)
        return item * 2

    func = change.pop("func", double)
    run(path, [1], double)

    assert run(path, [1], func, **change) == [2]
    assert len(calls) == (2 if func is double else 1)
    # And the first state of it is still there.
    assert run(path, [1], double) == [2]
    assert len(calls) == (2 if func is double else 1)


def test_the_arguments_of_a_partial_are_part_of_the_function(path):
    times = lambda factor, item: factor * item
    run(path, [1], functools.partial(times, 2))

    assert run(path, [1], functools.partial(times, 3)) == [3]
    assert rows(path, "SELECT value FROM outcome ORDER BY value") == [("2",), ("3",)]


def test_replay_false_takes_finished_items_whole(path):
    provider = Provider(fails_on=["ask b"])
    run(path, "ab", two_chats(provider))
    provider.fails_on.clear()
    calls = []

    def workflow(item):
        calls.append(item)
        return two_chats(provider)(item)

    workflow.__qualname__ = two_chats(provider).__qualname__
    again = run(path, "ab", workflow, replay=False)

    assert calls == ["b"]
    assert again[0] == ["ask a #1", "refine ask a #1 #2"]


def test_failed_items_alone_run_again(path):
    ran = []

    def picky(item):
        ran.append(item)
        if item == 2 and len(ran) < 4:
            raise ValueError("not yet")
        return item

    first = run(path, [1, 2, 3], picky)
    again = run(path, [1, 2, 3], picky)

    assert [type(one) for one in first] == [int, ValueError, int]
    assert again == [1, 2, 3]
    assert ran == [1, 2, 3, 2]


def test_a_key_keeps_an_item_whose_input_changed_and_asks_only_what_changed(path):
    provider = Provider()
    work = lambda row: (provider.chat("hello"), provider.chat(row["text"]))
    run(path, [{"id": 7, "text": "a"}], work, key=lambda row: row["id"])

    run(path, [{"id": 7, "text": "b"}], work, key=lambda row: row["id"])

    assert provider.asked == ["hello", "a", "b"]


def test_a_key_does_not_hide_that_an_item_without_chats_changed(path):
    length = lambda row: len(row["text"])
    run(path, [{"id": 7, "text": "a"}], length, key=lambda row: row["id"])

    assert run(path, [{"id": 7, "text": "abc"}], length, key=lambda row: row["id"]) == [3]


def test_types_of_results_survive_where_chats_are_replayed(path):
    @attrs.frozen
    class Answer:
        text: str
        odd: object

    provider = Provider()
    work = lambda item: Answer(provider.chat(item), odd={1, 2})

    assert run(path, ["a"], work) == run(path, ["a"], work) == [Answer("a #1", {1, 2})]


def test_a_function_that_makes_chats_only_now_is_called(path):
    provider = Provider()
    func = lambda item: provider.chat(item) if provider.asks else "no chat"
    provider.asks = False
    assert run(path, ["a"], func, version=1) == ["no chat"]
    provider.asks = True

    assert run(path, ["a"], func, version=2) == ["a #1"]
    assert run(path, ["a"], func, version=2) == ["a #1"]


def test_records_after_the_end_keep_nothing_and_break_nothing(path):
    provider = Provider()
    with open_checkpoint(path, provider.chat) as checkpoint:
        record = checkpoint.begin(0, "a")

    assert do(record, provider.chat, "a") == "a #1"
    assert checkpoint.trouble is None
    assert rows(path, "SELECT count(*) FROM chat") == [(0,)]
