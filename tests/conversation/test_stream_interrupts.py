"""Ctrl-C while a stream is opened, read or left: all that it held is given back, once."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from contextlib import suppress

import pytest
from interrupts import ctrl_c_at

import lionlite as ll
from lionlite import scope
from lionlite.exceptions import LionError, ServiceError
from lionlite.service import stream as stream_module
from lionlite.service.lessons import Lessons
from lionlite.testing import FakeProvider, FakeStream, Fault

PIECES = ["The answer ", "is ", "42."]
HALF = b'data: {"choices":[{"index":0,"delta":{"content":"half"}}]}\n\n'

FILES = {stream_module.__file__}
# They stand outside of what they protect until their first step.
OUTSIDE = {"__exit__", "close"}
# Run by the collector, which swallows what they raise.
COLLECTED = {"_give_up", "_leave"}


class Counting:
    """The work around a stream: counts who waits for a reply."""

    remembers = False

    def __init__(self):
        self.waiting = 0

    def waits(self, what):
        self.waiting += what == "reply"

    def goes_on(self, what):
        self.waiting -= what == "reply"

    def ended(self, record):
        pass


@pytest.fixture
def exchanges(monkeypatch):
    """The exchanges that began and did not end."""
    under_way, end = [], Lessons.end

    def begin(_):
        under_way.append(object())
        return under_way[-1]

    def counted_end(lessons, exchange):
        if exchange is not None:
            under_way.remove(exchange)
        end(lessons, None)

    monkeypatch.setattr(Lessons, "begin", begin)
    monkeypatch.setattr(Lessons, "end", counted_end)
    return under_way


def until(holds):
    ends_at_s = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < ends_at_s, "it never came true"
        time.sleep(0.0002)


def interrupted(number, session, read, work):
    """Stream with Ctrl-C at the *number*-th place; return whether it came, and the stream, alive.

    In a thread of its own: an exception from a tracer stays its context on CPython 3.11.
    """
    came, alive = [], []

    def target():
        try:
            with (
                scope.entered(scope.Scope(work=work)),
                suppress(LionError),
                ctrl_c_at(number, FILES, outside=OUTSIDE, collected=COLLECTED),
                session.stream("What is it?") as stream,
            ):
                alive.append(stream)
                read(stream)
        except KeyboardInterrupt:
            came.append(number)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    return bool(came), alive


def all_of_it(stream):
    for _ in stream:
        pass


def the_first_piece(stream):
    next(stream)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="not every opcode is traced")
@pytest.mark.parametrize(
    ("answer", "read"),
    [
        (FakeStream(PIECES), all_of_it),
        (FakeStream(PIECES, delay_s=0.01), the_first_piece),
        (Fault.raw(200, HALF, "text/event-stream"), all_of_it),
        (Fault.status(400), all_of_it),
    ],
    ids=["read to its end", "left early", "cut", "refused"],
)
def test_ctrl_c_at_any_place_gives_all_back_once(answer, read, exchanges):
    work = Counting()
    with FakeProvider(lambda _: answer) as provider, provider.service(max_retries=0) as service:
        for number in itertools.count():
            session, before = ll.Session(service=service), service.stats().calls

            has_come, _alive = interrupted(number, session, read, work)

            until(lambda: service.stats().budget.in_flight == 0)
            until(lambda: (work.waiting, exchanges) == (0, []))
            assert service.stats().calls - before <= 1
            # The turn is free, and no connection was given back twice: it would serve both.
            with suppress(ServiceError), ll.deadline(5), session.stream("And now?") as one:
                next(one)
                with session.stream("And?", remember=False) as two:
                    assert "".join(two) == "".join(PIECES)
                assert "".join(one) == "".join(PIECES[1:])
            if not has_come:
                break

    assert number > 10
