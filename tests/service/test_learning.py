"""What past calls say about the next one: pure parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionlite.records import Usage
from lionlite.service.experience import MAX_FACTOR, MIN_CALLS, Experience
from lionlite.service.refunds import MIN_GAP, VOTES, RefundWatch, Sighting

pytestmark = pytest.mark.quick


def observed(*pairs: tuple[int, int], answers: int = 1) -> Experience:
    experience = Experience()
    for reported, said in pairs:
        experience.observe(
            counted_input=100,
            usage=Usage(input_tokens=reported, output_tokens=said),
            answers=answers,
        )
    return experience


def test_nothing_seen_changes_nothing():
    experience = Experience()

    assert (experience.input_factor, experience.output_tokens) == (1.0, None)


def test_a_first_reply_corrects_the_count_of_the_input():
    assert observed((240, 5)).input_factor == 2.4


def test_answers_are_guessed_only_after_a_few():
    assert observed(*[(100, 30)] * (MIN_CALLS - 1)).output_tokens is None
    assert observed(*[(100, 30)] * MIN_CALLS).output_tokens == 30


def test_nearly_every_answer_stays_within_the_guess():
    assert observed(*[(100, said) for said in range(1, 21)]).output_tokens == 19


def test_old_answers_are_forgotten():
    experience = observed(*[(100, 900)] * 50, *[(100, 10)] * 50)

    assert experience.output_tokens == 10


def test_several_answers_of_one_call_are_counted_apart():
    assert observed(*[(100, 300)] * MIN_CALLS, answers=3).output_tokens == 100


def test_a_reply_without_input_tokens_teaches_nothing():
    assert observed(*[(0, 300)] * MIN_CALLS).output_tokens is None


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=80))
def test_no_usage_whatever_makes_a_senseless_guess(pairs):
    experience = observed(*pairs)

    assert 0 < experience.input_factor <= MAX_FACTOR
    assert experience.output_tokens is None or 1 <= experience.output_tokens <= 10**9


def sightings(count: int, *, refund: float, reserved: int = 1_000, refill_per_s: float = 0.0):
    """Yield calls of 10 used tokens; after each the server gives back *refund* of the rest."""
    used = 0.0
    for number in range(count):
        used += reserved
        yield Sighting(
            began_s=2 * number,
            ended_s=2 * number + 1,
            used=int(used),
            reserved=reserved,
            actual=10,
            refill_per_s=refill_per_s,
        )
        used -= refund * (reserved - 10)


def watched(seen, *, is_alone: bool = True) -> bool:
    watch = RefundWatch()
    for sighting in seen:
        watch.see(sighting, is_alone=is_alone)
    return watch.refunds


def test_refunds_are_believed_after_some_in_a_row():
    assert not watched(sightings(VOTES, refund=1.0))
    assert watched(sightings(VOTES + 1, refund=1.0))


def test_a_server_that_gives_nothing_back_is_not_taken_for_one_that_does():
    assert not watched(sightings(50, refund=0.0))


def test_calls_that_overlap_say_nothing():
    assert not watched(sightings(50, refund=1.0), is_alone=False)
    late = [
        Sighting(began_s=0, ended_s=5, used=1, reserved=1_000, actual=1, refill_per_s=0)
    ] * 20
    assert not watched(late)


def test_small_gaps_and_quick_refills_say_nothing():
    assert not watched(sightings(50, refund=1.0, reserved=MIN_GAP))
    assert not watched(sightings(50, refund=1.0, refill_per_s=500.0))
