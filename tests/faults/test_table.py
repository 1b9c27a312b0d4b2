"""Every fault of the catalogue, against `chat`, `stream` and `lcall`: how it must end."""

from __future__ import annotations

import pytest
from fault_table import CHAT, ROWS, STREAM, TABLE

from lionlite.exceptions import DeadlineExceeded
from lionlite.testing import FAULTS
from lionlite.testing.faultserver import TEXT

by_row = pytest.mark.parametrize("row", ROWS, ids="-".join)

SILENT = {name for name, end in CHAT.items() if end.kind and STREAM[name].kind is None} - {
    # Their stream is whole.
    *(name for name in CHAT if FAULTS[name].group == "stream"),
    "length_too_long",
    "length_too_long_hang",
    "chunks_without_end",
}


def test_every_fault_has_its_row():
    assert set(CHAT) == set(STREAM) == set(FAULTS)


@by_row
def test_a_call_ends_as_the_table_says(run, row):
    name, verb = row
    played, want = run.played[row], TABLE[verb][name]
    error = played.error

    if want.kind is None:
        assert error is None
        assert played.text == ("" if verb == "stream" and name in SILENT else TEXT)
        assert played.requests == 1
        return
    if want.is_race:
        assert isinstance(error, (want.kind, DeadlineExceeded))
        # An attempt whose time ran out before it was sent counts as one too.
        assert 1 <= played.requests <= error.attempts < 6
        return
    assert type(error) is want.kind
    assert (error.retryable, error.attempts, played.requests) == (
        want.retryable,
        want.attempts,
        want.attempts,
    )
    assert {fact: getattr(error, fact) for fact in want.facts} == want.facts


# One test over all rows each: a thousand tests more would cost more than they tell.


def test_every_call_ends_by_its_deadline(run):
    late = {
        row: played.elapsed_s
        for row, played in run.played.items()
        if played.elapsed_s >= TABLE[row[1]][row[0]].timeout_s + 0.5
    }

    assert late == {}


def test_every_call_gives_permit_and_connection_back_and_the_next_one_is_fine(run):
    ends = {
        row: (played.in_flight, played.left_open, played.next_text)
        for row, played in run.played.items()
    }

    assert {row: end for row, end in ends.items() if end != (0, 0, TEXT)} == {}


def test_no_file_or_socket_is_left(run):
    assert run.leaked_files == 0
