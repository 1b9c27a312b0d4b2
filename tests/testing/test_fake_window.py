"""The judge's window against the definition, written out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lionlite.testing.report import highest_in_window
from lionlite.testing.window import SlidingWindow

pytestmark = pytest.mark.quick

# Eighths of a second are exact in binary, so that boundaries are hit exactly.
INSTANTS = st.integers(0, 64).map(lambda eighths: eighths / 8)
ARRIVALS = st.lists(st.tuples(INSTANTS, st.integers(1, 5)), max_size=30)
INTERVALS = st.integers(1, 24).map(lambda eighths: eighths / 8)
LIMITS = st.integers(1, 8)


def by_definition(points, interval_s):
    """The highest sum in any half-open window: one that ends at each point."""
    return max(
        (
            sum(cost for at_s, cost in points if at_s <= end_s and end_s - at_s < interval_s)
            for end_s, _ in points
        ),
        default=0,
    )


@settings(max_examples=200, deadline=None)
@given(arrivals=ARRIVALS, interval_s=INTERVALS, limit=LIMITS)
def test_it_admits_exactly_what_no_window_forbids(arrivals, interval_s, limit):
    window, taken = SlidingWindow(limit, interval_s), []

    for at_s, cost in arrivals:  # in any order, as threads may bring them
        allowed = by_definition([*taken, (at_s, cost)], interval_s) <= limit
        assert window.fits(at_s, cost) is allowed
        if allowed:
            window.take(at_s, cost)
            taken.append((at_s, cost))

    assert highest_in_window(taken, interval_s) <= limit


@settings(max_examples=200, deadline=None)
@given(arrivals=ARRIVALS, interval_s=INTERVALS, limit=LIMITS)
def test_the_wait_it_names_is_the_shortest(arrivals, interval_s, limit):
    window = SlidingWindow(limit, interval_s)

    for at_s, cost in sorted(arrivals):
        wait_s = window.wait_s(at_s, cost)
        if math.isinf(wait_s):
            assert cost > limit
            continue
        if wait_s > 0:
            assert not window.fits(at_s + wait_s - 1 / 8, cost)
        assert window.fits(at_s + wait_s, cost)
        if wait_s == 0:
            window.take(at_s, cost)


@settings(max_examples=200, deadline=None)
@given(arrivals=ARRIVALS, interval_s=INTERVALS, corrections=st.lists(st.integers(0, 9)))
def test_corrections_count_at_the_instant_of_the_entry(arrivals, interval_s, corrections):
    window = SlidingWindow(1000, interval_s)
    entries = [window.take(at_s, cost) for at_s, cost in arrivals]

    for entry, cost in zip(entries, corrections, strict=False):
        window.correct(entry, cost)

    last_s = max((entry.at_s for entry in entries), default=0.0)
    expected = sum(e.cost for e in entries if last_s - e.at_s < interval_s)
    assert window.held(last_s) == expected


@given(points=ARRIVALS, interval_s=INTERVALS)
def test_the_report_counts_by_the_same_definition(points, interval_s):
    assert highest_in_window(points, interval_s) == by_definition(points, interval_s)


def test_entries_one_interval_apart_share_no_window():
    window = SlidingWindow(1, 1.0)
    window.take(5.0, 1)

    assert [window.fits(5.9, 1), window.fits(6.0, 1)] == [False, True]


def test_an_arrival_between_two_entries_is_judged_by_the_later_window():
    window = SlidingWindow(2, 1.0)
    window.take(0.5, 1)
    window.take(1.2, 1)

    assert not window.fits(1.1, 1)
    assert window.wait_s(1.1, 1) == pytest.approx(0.4)


def test_a_late_arrival_is_judged_by_what_has_left_since():
    window = SlidingWindow(1, 1.0)
    window.take(0.0, 1)
    window.held(1.5)  # the clock was read later than the arrival was stamped

    assert not window.fits(0.9, 1)


def test_it_names_the_time_until_it_is_empty():
    window = SlidingWindow(9, 2.0)
    assert window.reset_s(0.0) == 0.0

    window.take(1.0, 3)
    window.take(2.5, 3)

    assert window.reset_s(3.0) == 1.5
    assert window.held(3.0) == 3
    assert window.reset_s(9.0) == 0.0
