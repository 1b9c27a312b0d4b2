"""Who keeps the items of a run: what it is asked, told, and what its word means."""

from __future__ import annotations

import threading

import pytest

from lionlite.calls.asked import options_from
from lionlite.calls.course import as_they_come, in_order
from lionlite.calls.engine import Engine
from lionlite.calls.family import lcall
from lionlite.calls.item import ItemWork, begin_within
from lionlite.exceptions import CallError, Cancelled, CheckpointError, ConfigError, Interrupted
from lionlite.records import CallRecord
from lionlite.scope import Scope, cancellable, current, entered, sleep

pytestmark = pytest.mark.quick


class Shelf:
    """The `Memory` of an item."""

    def __init__(self):
        self.asked = []

    def chat(self, request):
        self.asked.append(request)
        return "kept " + request.decode()


class Entry:
    """The record of one item, in a `Book`."""

    def __init__(self, book, index, skip):
        self.book, self.index, self.skip = book, index, skip
        self.shelf = Shelf()
        self.work = ItemWork(self.shelf)

    def note(self, what):
        self.book.notes.append((self.index, what))

    def begun(self):
        self.note("begun")

    def succeeded(self, value):
        self.note("succeeded")
        if self.index in self.book.refused:
            raise self.book.refused[self.index]
        if self.index == self.book.breaks_at:
            self.book.trouble = OSError("disk full")
        return ("kept", value)

    def failed(self, error):
        self.note(f"failed {type(error).__name__}")


class Book:
    """A `Recorder` in memory."""

    def __init__(self, *, done=(), refused=(), breaks_at=None, bad=None):
        self.done, self.refused, self.bad = dict(done), dict(refused), bad
        self.breaks_at = breaks_at
        self.trouble = None
        self.notes, self.begun, self.entries = [], [], []

    def begin(self, index, item):
        self.begun.append((index, item, threading.get_ident()))
        if isinstance(item, BaseException):
            raise item
        skip = (self.done[index],) if index in self.done else None
        self.entries.append(Entry(self, index, skip))
        return self.entries[-1]


def run(book, items, func, **options):
    options = options_from(**{"max_workers": 1, **options})
    return in_order(Engine(items, func, options, is_eager=False, recorder=book))


def same(item):
    return item


def test_every_item_is_begun_by_the_calling_thread_in_order():
    book = Book()

    run(book, iter("abc"), same, max_workers=3)

    me = threading.get_ident()
    assert book.begun == [(0, "a", me), (1, "b", me), (2, "c", me)]


def test_the_recorders_value_is_the_one_to_use():
    book = Book()

    assert run(book, "ab"[:1], same) == [("kept", "a")]
    assert book.notes == [(0, "begun"), (0, "succeeded")]


def test_an_item_that_is_finished_is_not_called():
    book, called = Book(done={1: "old", 3: None}), []

    values = run(book, range(5), called.append)

    assert values == [("kept", None), "old", ("kept", None), None, ("kept", None)]
    assert called == [0, 2, 4]


def test_a_run_of_finished_items_only_ends_and_starts_no_thread():
    book = Book(done={index: -index for index in range(1000)})
    before = threading.active_count()

    assert run(book, iter(range(1000)), same) == [-index for index in range(1000)]
    assert threading.active_count() == before


def test_finished_items_come_as_pairs_too():
    book = Book(done={0: "old"})
    engine = Engine("ab", same, options_from(), is_eager=True, recorder=book)

    assert sorted(as_they_come(engine)) == [(0, "old")]


def test_errors_are_told_and_stand_in_their_places():
    book = Book()

    [value, error] = run(book, [1, 0], lambda number: 1 / number, on_error="return")

    assert value == ("kept", 1.0)
    assert isinstance(error, ZeroDivisionError)
    assert book.notes[-1] == (1, "failed ZeroDivisionError")


@pytest.mark.parametrize(
    ("error", "mode", "fatal"),
    [(ConfigError("no JSON", fatal=True), "return", True), (ValueError("no"), "continue", False)],
)
def test_what_succeeded_raises_is_the_items_error(error, mode, fatal):
    book = Book(refused={2: error})

    with pytest.raises(CallError) as caught:
        run(book, range(5), same, on_error=mode)

    assert (caught.value.failed, caught.value.fatal) == ({2: error}, fatal)
    assert len([note for note in book.notes if note[1] == "begun"]) == (3 if fatal else 5)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("mode", ["stop", "continue", "return"])
def test_trouble_stops_the_run_and_loses_nothing_finished(workers, mode):
    book = Book(breaks_at=20)

    with pytest.raises(CheckpointError, match=r"OSError: disk full\. No new items") as caught:
        run(book, range(1000), same, max_workers=workers, on_error=mode)

    ended = [index for index, what in book.notes if what == "succeeded"]
    results = caught.value.results
    assert [index for index, value in enumerate(results) if value is not None] == sorted(ended)
    assert all(results[index] == ("kept", index) for index in ended)
    assert len(ended) <= 21 + workers
    assert caught.value.__cause__ is book.trouble


def test_trouble_tells_the_errors_of_before():
    book = Book(breaks_at=1)

    with pytest.raises(CheckpointError) as caught:
        run(book, range(10), lambda n: 1 / n, on_error="return")

    assert list(caught.value.failed) == [0]
    assert caught.value.results[:2] == [None, ("kept", 1.0)]


@pytest.mark.parametrize(
    ("raised", "error", "words"),
    [
        (KeyError("id"), CallError, r"item at index 2 could not be begun: KeyError: 'id'"),
        (CheckpointError("The file is gone"), CheckpointError, "^The file is gone. No new items"),
    ],
    ids=["key= raises", "the file does"],
)
def test_an_item_that_cannot_be_begun_ends_the_reading(raised, error, words):
    with pytest.raises(error, match=words) as caught:
        run(Book(), [1, 2, raised, 4], same)

    assert len(caught.value.results) == 3
    assert caught.value.__cause__ is raised


def test_items_that_were_cut_are_told_nothing():
    book = Book()
    with cancellable() as token:

        def func(_):
            token.cancel()
            sleep(600, phase="turn")

        with pytest.raises(Cancelled):
            run(book, [1, 2], func)

    assert book.notes == [(0, "begun")]


def cut_chat(token):
    """Cancel the run and do as a chat does then."""
    token.cancel()
    try:
        sleep(600, phase="turn")
    except Cancelled as error:
        current().work.ended(CallRecord("m", error=type(error).__name__))
        raise


@pytest.mark.parametrize("way", ["a value", "another error"])
def test_a_function_that_hides_a_cut_chat_has_not_finished(way):
    book = Book()
    with cancellable() as token:

        def func(_):
            try:
                cut_chat(token)
            except Cancelled as error:
                if way == "another error":
                    raise RuntimeError("no answer") from error
            return "no answer"

        with pytest.raises(Cancelled):
            run(book, [1, 2], func)

    assert book.notes == [(0, "begun")]


def test_a_cut_is_no_error_of_an_interrupted_run():
    book = Book()

    def func(number):
        if number == 0:
            raise KeyboardInterrupt
        return number

    with pytest.raises(Interrupted):
        run(book, [1, 2, 0, 3], func)

    assert (2, "failed KeyboardInterrupt") not in book.notes


def test_each_attempt_is_begun_and_only_the_last_error_is_told():
    book = Book()

    run(book, [0], lambda number: 1 / number, retries=2, on_error="return")

    assert [what for _, what in book.notes] == ["begun"] * 3 + ["failed ZeroDivisionError"]


def test_the_works_of_items_collect_what_their_chats_tell():
    book = Book()

    def func(number):
        for part in range(number):
            current().work.ended(CallRecord(f"{number}.{part}"))

    run(book, [1, 2], func, max_workers=2)

    seen = [[record.model for record in entry.work.records] for entry in book.entries]
    assert seen == [["1.0"], ["2.0", "2.1"]]


def test_chats_of_a_run_inside_an_item_belong_to_the_item():
    book = Book()

    def inner(number):
        current().work.ended(CallRecord("m"))
        return current().work.chat(b"%d" % number)

    [(_, values)] = run(book, [1], lambda _: lcall(range(3), inner))

    [entry] = book.entries
    assert values == ["kept 0", "kept 1", "kept 2"]
    assert sorted(entry.shelf.asked) == [b"0", b"1", b"2"]
    assert len(entry.work.records) == 3


def test_an_inner_run_with_a_memory_of_its_own_asks_that():
    outer, inner = Book(), Book()

    run(outer, [1], lambda _: run(inner, [2], lambda _: current().work.chat(b"x")))

    assert [book.entries[0].shelf.asked for book in (outer, inner)] == [[], [b"x"]]


def test_a_recorder_may_stand_around_another():
    inner = Book()
    mine = ItemWork()

    record = begin_within(inner, 0, "item", work=mine)
    record.work.ended(CallRecord("m"))

    assert mine.records == record.work.records == (CallRecord("m"),)
    assert current() == Scope()


def test_work_without_memory_remembers_nothing():
    work = ItemWork()

    assert not work.remembers
    with pytest.raises(LookupError, match="No chat of this item is remembered"):
        work.chat(b"request")


def test_work_tells_the_work_around_of_waiting():
    told = []

    class Ear(ItemWork):
        def waits(self, what):
            told.append(f"waits {what}")

        def goes_on(self, what):
            told.append(f"goes on {what}")

    with entered(Scope(work=Ear())):
        work = ItemWork()
    work.waits("reply")
    work.goes_on("reply")

    assert told == ["waits reply", "goes on reply"]
