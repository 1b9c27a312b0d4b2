"""What a member makes of a store's answers, with a store that says what the test wants."""

from __future__ import annotations

import pytest

from lionlite.exceptions import BudgetError
from lionlite.limits.rates import Rate
from lionlite.limits.stores.book import TRY
from lionlite.limits.stores.protocol import LOST, store_down
from lionlite.limits.stores.terms import terms_of
from lionlite.limits.stores.till import MOST_NOTES, Till

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
    till, store = till_of(entered(), down, granted(2), done(3), done(4))
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
