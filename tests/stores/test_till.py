"""What a member makes of a store's answers, with a store that says what the test wants."""

from __future__ import annotations

import pytest

from lionlite.exceptions import BudgetError
from lionlite.limits.rates import Rate
from lionlite.limits.stores.book import QUEUE, TRY
from lionlite.limits.stores.protocol import LOST, store_down
from lionlite.limits.stores.terms import terms_of
from lionlite.limits.stores.till import MOST_NOTES, NOTE_S, SHY_S, Till

pytestmark = pytest.mark.quick

FOREVER = float("inf")


class Scripted:
    """A store that answers what it is told to, and notes what it was asked."""

    where = "scripted://"

    def __init__(self, *answers):
        self.answers = list(answers)
        self.deeds = []

    def trip(self, deed, within_s):
        self.deeds.append(deed)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        pass

    @property
    def verbs(self):
        return [deed.verb for deed in self.deeds]


def till_of(*answers, **limits):
    limits = limits or {"requests": [Rate(10, 60)]}
    store = Scripted(*answers)
    return Till(store, "b", terms_of(limits, "estimate")), store


def entered(epoch="e", version=1, used=0):
    return ["entered", epoch, version, 0, 0, 1, used]


def done(version, used=0):
    return ["done", "e", version, 0, 0, 1, used]


def granted(version, used=1):
    return ["granted", "e", version, 0, 0, 1, used]


def wait(version):
    return ["wait", "e", version, 0, 0, 1, 0]


def note(name):
    return lambda: ("sent", (name, 0))


def test_it_enters_before_the_first_question():
    till, store = till_of(entered(), granted(2))

    verdict = till.take(TRY, till.ticket(), (1,), FOREVER)

    assert verdict.status == "granted"
    assert store.verbs == ["enter", "take"]
    assert (till.seen.epoch, till.seen.version, till.seen.used) == ("e", 2, (1,))


def test_it_tells_a_store_that_forgot_what_was_used():
    till, store = till_of(
        entered(), granted(8, used=3), [LOST], entered("f", 1, 10), ["wait", "f", 2, 0, 0, 1, 10]
    )
    till.take(TRY, till.ticket(), (1,), FOREVER)

    till.take(TRY, till.ticket(), (1,), FOREVER)

    known, version, lost, owed = store.deeds[3].args[1:]
    assert (known, version, lost, owed) == ("e", 8, (10,), (0,))
    assert till.seen.epoch == "f"


def test_of_a_long_interval_it_tells_what_it_saw_last():
    till, store = till_of(
        *(entered(), granted(8, used=3), [LOST], entered("f"), granted(2)),
        requests=[Rate(10, 86_400)],
    )
    till.take(TRY, till.ticket(), (1,), FOREVER)

    till.take(TRY, till.ticket(), (1,), FOREVER)

    assert store.deeds[3].args[3] == (3,)


def test_a_store_that_forgets_everything_is_given_up():
    till, _ = till_of(entered(), *([LOST], entered()) * 4)

    with pytest.raises(BudgetError, match="forgets what it is told"):
        till.take(TRY, till.ticket(), (1,), FOREVER)


def test_an_answer_that_came_late_changes_nothing():
    till, _ = till_of(entered(), granted(9, used=5), granted(7, used=4))
    till.take(TRY, till.ticket(), (1,), FOREVER)

    till.take(TRY, till.ticket(), (1,), FOREVER)

    assert (till.seen.version, till.seen.used) == (9, (5,))


def test_notes_are_told_in_their_order_when_the_store_answers_again():
    down = store_down("scripted://", "no answer")
    till, store = till_of(entered(), down, wait(2), done(3), done(4))
    till.tell(note("a.1"))
    till.tell(note("a.2"))

    till.take(TRY, "a.3", (1,), FOREVER)

    assert [deed.args[0] for deed in store.deeds[3:]] == ["a.1", "a.2"]


def test_a_store_that_was_just_down_is_not_asked_for_every_note():
    till, store = till_of(store_down("scripted://", "no answer"))

    for number in range(5):
        till.tell(note(f"a.{number}"))

    assert store.verbs == ["enter"]


def test_no_more_notes_are_kept_than_memory_has_room_for():
    till, _ = till_of(store_down("scripted://", "no answer"))

    for number in range(MOST_NOTES + 5):
        till.tell(note(f"a.{number}"))

    assert len(till._notes) == MOST_NOTES


def test_a_lease_ends_with_the_deadline_but_an_arrival_needs_no_long_one():
    seconds = []
    for charge in ("estimate", "usage"):
        for left_s in (2.0, 7_200.0, FOREVER):
            store = Scripted(entered(), granted(2))
            till = Till(store, "b", terms_of({"requests": [Rate(10, 60)]}, charge))
            till.take(TRY, till.ticket(), (1,), left_s)
            seconds.append(store.deeds[1].args[2] / 1e6)

    assert seconds == [2, 600, 600, 2, 7_200, 600]


def test_every_call_of_every_process_has_a_name_of_its_own():
    tills = [till_of()[0] for _ in range(2)]

    names = [till.ticket() for till in tills * 3]
    tills[0].renew()

    assert len(set(names)) == 6
    assert tills[0].ticket() not in names


class HandAdvanced:
    """An instant that only trips move."""

    def __init__(self, monkeypatch):
        self.now_s = 1_000.0
        monkeypatch.setattr("lionlite.limits.stores.till.time", self)

    def monotonic(self):
        return self.now_s


class Slow(Scripted):
    """A store that takes *trip_s* for each trip, and fails what has less time."""

    def __init__(self, time, trip_s, verdict="wait"):
        super().__init__()
        self.time, self.trip_s, self.verdict = time, trip_s, verdict
        self.is_down = False
        self.within_s = []

    def trip(self, deed, within_s):
        self.deeds.append(deed)
        self.within_s.append(within_s)
        self.time.now_s += min(self.trip_s, within_s)
        if self.is_down or within_s < self.trip_s:
            raise store_down(self.where, "no answer")
        status = {"enter": "entered", "take": self.verdict}.get(deed.verb, "done")
        return [status, "e", len(self.deeds), 0, 0, 1, 0]


@pytest.fixture
def slow(monkeypatch):
    """A till before a store that is slow, and has been down while 100 notes were made."""

    def make(trip_s, verdict="wait"):
        time = HandAdvanced(monkeypatch)
        store = Slow(time, trip_s, verdict)
        till = Till(store, "b", terms_of({"requests": [Rate(10, 60)]}, "estimate"))
        till.enter()
        store.is_down = True
        for number in range(100):
            till.tell(note(f"a.{number}"))
        store.is_down = False
        time.now_s += SHY_S
        store.deeds.clear()
        store.within_s.clear()
        return till, store, time

    return make


def told(store):
    return [deed.args[0] for deed in store.deeds if deed.verb == "sent"]


def test_telling_takes_a_second_at_most_however_much_there_is_to_tell(slow):
    till, store, time = slow(trip_s=0.04)
    began_s = time.now_s

    till.tell(note("last"))

    assert time.now_s - began_s <= NOTE_S
    assert max(store.within_s) <= NOTE_S
    assert len(told(store)) > 10


def test_what_there_was_no_time_to_tell_is_told_later_and_in_order(slow):
    till, store, _ = slow(trip_s=0.04)

    for _ in range(10):
        till.tell(note("more"))

    assert told(store) == [*(f"a.{number}" for number in range(100)), *["more"] * 10]


def test_a_call_that_is_told_to_wait_tells_no_longer_than_it_may_wait(slow):
    till, store, time = slow(trip_s=0.04)
    ends_at_s = time.now_s + 0.3

    till.take(QUEUE, "a.x", (1,), 0.3)

    assert time.now_s <= ends_at_s
    assert told(store)[:3] == ["a.0", "a.1", "a.2"]


def test_a_call_that_was_granted_goes_on_at_once(slow):
    till, store, time = slow(trip_s=0.04, verdict="granted")
    began_s = time.now_s

    till.take(QUEUE, "a.x", (1,), FOREVER)

    assert time.now_s - began_s == pytest.approx(0.04)
    assert told(store) == []


def test_no_trip_is_begun_that_a_slow_store_could_not_end(slow):
    till, store, _ = slow(trip_s=0.45)

    till.tell(note("last"))
    till.tell(note("more"))

    assert told(store) == ["a.0", "a.1", "a.2", "a.3"]


def test_a_note_that_had_little_time_is_told_later_without_a_warning(slow, caplog):
    till, store, _ = slow(trip_s=0.2)
    caplog.clear()

    till.take(QUEUE, "a.x", (1,), 0.3)
    till.take(QUEUE, "a.x", (1,), 2.0)

    assert told(store)[:3] == ["a.0", "a.0", "a.1"]
    assert caplog.text == ""


def test_a_note_that_a_signal_cut_short_is_told_again(slow):
    class SoftLimitError(Exception):
        pass

    till, store, _ = slow(trip_s=0.04)
    trip = store.trip

    def cut(deed, within_s):
        trip(deed, within_s)
        store.trip = trip
        raise SoftLimitError

    store.trip = cut
    with pytest.raises(SoftLimitError):
        till.tell(note("last"))
    till.tell(note("more"))

    assert told(store)[:3] == ["a.0", "a.0", "a.1"]
