"""Ctrl-C at every place where it may come between a grant and its end gives it back."""

from __future__ import annotations

import itertools
import sys
import threading
from contextlib import suppress

import pytest
from interrupts import ctrl_c_at

import lionlite as ll
from lionlite.limits import accounts, budget, desk, limiter, reservation, windows
from lionlite.service import call
from lionlite.testing import FakeProvider, Fault

FILES = {
    module.__file__
    for module in (call, limiter, reservation, desk, budget, accounts, windows)
}
# The first step of taking the lock's `with` apart: nothing has begun yet.
OUTSIDE = {"__enter__"}


def interrupted(number, session):
    """Chat with Ctrl-C at the *number*-th place; return whether it came.

    In a thread of its own: an exception from a tracer stays its context on CPython 3.11.
    """
    came = []

    def target():
        try:
            with suppress(ll.LionError), ctrl_c_at(number, FILES, outside=OUTSIDE):
                session.chat("What is it?")
        except KeyboardInterrupt:
            came.append(number)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    return bool(came)


def counted(window):
    return {
        name: sum(node.costs.get(name, 0) for node in window.nodes) for name in window.used
    }


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="not every opcode is traced")
@pytest.mark.parametrize("answer", ["42", Fault.status(400)], ids=["answered", "refused"])
def test_ctrl_c_at_any_place_gives_the_permit_back(answer):
    limits = {"max_requests": 10**6, "max_tokens": 10**9, "interval": 60}
    with (
        FakeProvider(lambda _: answer) as provider,
        provider.service(max_retries=0, **limits) as service,
    ):
        ledger = service._delivery.limiter.desk.budget.ledger
        for number in itertools.count():
            if not interrupted(number, ll.Session(service=service)):
                break
            assert service.stats().budget.in_flight == 0, number
            for window in ledger.windows:
                assert window.used == counted(window), number

    assert number > 60
