"""After a 429: a pause, one probe, then a ramp."""

from __future__ import annotations

import pytest

from lionlite.limits.entries import Entry
from lionlite.limits.gate import Gate

pytestmark = pytest.mark.quick

SECOND = 1_000_000_000


def entry_at(now):
    entry = Entry({"requests": 1})
    entry.granted_at = now
    entry.is_granted = True
    return entry


def probing(gate, now):
    probe = entry_at(now)
    gate.granted(probe, now)
    return probe


def test_an_unpaused_gate_lets_anyone_pass_at_any_time():
    gate = Gate()

    assert (gate.is_open, gate.next_at(5)) == (True, 0)


def test_nobody_passes_before_the_longest_pause_ends():
    gate = Gate()

    gate.pause(0, 10)
    gate.pause(SECOND, 2)

    assert (gate.is_open, gate.next_at(SECOND)) == (False, 10 * SECOND)


def test_one_probe_passes_and_the_others_wait_for_it():
    gate = Gate()
    gate.pause(0, 1)

    probe = probing(gate, SECOND)
    before_sending = gate.next_at(SECOND)
    probe.is_sent = gate.sent(probe, 2 * SECOND)

    assert before_sending == 31 * SECOND
    assert gate.next_at(2 * SECOND) == 4 * SECOND


def test_a_probe_that_ends_unrefused_has_passed_at_once():
    gate = Gate()
    gate.pause(0, 1)
    probe = probing(gate, SECOND)
    probe.is_sent = True

    assert gate.ended(probe, SECOND + 5)
    assert gate.next_at(SECOND + 5) == SECOND + 5


def test_a_probe_that_was_never_sent_leaves_the_probing_to_the_next():
    gate = Gate()
    gate.pause(0, 1)
    probe = probing(gate, SECOND)

    gate.ended(probe, 2 * SECOND)

    assert gate.next_at(2 * SECOND) == 2 * SECOND
    probing(gate, 2 * SECOND)
    assert gate.next_at(2 * SECOND) == 32 * SECOND


def test_what_others_do_says_nothing_about_the_probe():
    gate = Gate()
    gate.pause(0, 1)
    old = entry_at(0)
    probing(gate, SECOND)

    assert not gate.sent(old, SECOND)
    assert not gate.ended(old, SECOND)
    assert gate.next_at(SECOND) == 31 * SECOND


def test_the_grants_of_the_ramp_double_with_each_step_and_then_all_pass():
    gate = Gate()
    gate.pause(0, 0)
    probe = probing(gate, 0)
    probe.is_sent = True
    gate.ended(probe, 0)
    instants = []
    now = 0
    while not gate.is_open:
        now = max(now, gate.next_at(now))
        instants.append(now)
        gate.granted(entry_at(now), now)

    by_step = [sum(at < step * SECOND // 5 for at in instants) for step in range(1, 11)]
    assert by_step == [1, 3, 7, 15, 31, 63, 127, 255, 511, 1_023]
    assert now == 2 * SECOND
    assert gate.next_at(now) == 0


def test_the_grant_that_follows_a_silent_probe_begins_the_ramp():
    gate = Gate()
    gate.pause(0, 0)
    probe = probing(gate, 0)
    gate.sent(probe, 0)

    gate.granted(entry_at(2 * SECOND), 2 * SECOND)

    assert gate.next_at(2 * SECOND) == 2 * SECOND + SECOND // 5


def test_a_refused_probe_pauses_again_and_longer():
    gate = Gate()
    pauses = []
    now = 0
    for _ in range(7):
        probe = entry_at(now + 1)
        gate.refuse(probe, now + 1, None)
        pauses.append((gate.next_at(now) - now - 1) / SECOND)
        now = gate.next_at(now)
        gate.granted(entry_at(now), now)

    assert pauses == [0.5, 1, 2, 4, 8, 8, 8]


def test_a_herd_of_refusals_counts_once():
    gate = Gate()
    herd = [entry_at(5) for _ in range(64)]

    news = [gate.refuse(entry, 10, None) for entry in herd]

    assert news == [True] + [False] * 63
    assert gate.next_at(10) == 10 + SECOND // 2


def test_the_server_s_wish_is_the_pause():
    gate = Gate()

    gate.refuse(None, 0, 20)

    assert gate.paused_until == 20 * SECOND


def test_a_wish_that_proved_too_short_does_not_make_a_storm():
    gate = Gate()
    pauses = []
    now = 0
    for wish_s in (0.25, 0.25, 0.25, 20, 1, 0.25, 0):
        gate.refuse(entry_at(now + 1), now + 1, wish_s)
        pauses.append((gate.next_at(now) - now - 1) / SECOND)
        now = gate.next_at(now)
        gate.granted(entry_at(now), now)

    assert pauses == pytest.approx([0.25, 0.5, 1, 20, 8, 8, 0.064])


def test_a_wish_counts_again_after_an_answer():
    gate = Gate()
    gate.refuse(entry_at(1), 1, 0.006)
    probe = probing(gate, gate.next_at(1))
    probe.is_sent = True
    gate.ended(probe, SECOND)

    gate.refuse(entry_at(2 * SECOND), 2 * SECOND, 0.006)

    assert gate.next_at(2 * SECOND) == 2 * SECOND + 6_000_000


def test_a_pause_during_the_ramp_starts_all_over():
    gate = Gate()
    gate.pause(0, 0)
    probe = probing(gate, 0)
    probe.is_sent = True
    gate.ended(probe, 0)

    gate.pause(SECOND, 5)

    assert (gate.is_open, gate.next_at(SECOND)) == (False, 6 * SECOND)
