"""What the fake provider charges, and when, in each charge mode."""

from __future__ import annotations

import math

import pytest

from lionlite.testing.gate import Charged, Gate, Headroom, Refusal, Ticket
from lionlite.testing.settings import Settings

pytestmark = pytest.mark.quick


def gate(**options):
    return Gate(Settings(interval_s=10.0, **options))


def test_a_gate_without_limits_lets_everything_in():
    open_gate = gate()

    assert all(isinstance(open_gate.admit(1.0, 10**9), Ticket) for _ in range(100))
    assert open_gate.headroom(1.0) == {}


def test_a_refused_request_uses_up_nothing():
    strict = gate(max_requests=5, max_tokens=100)
    strict.admit(0.0, 80)

    refusal = strict.admit(1.0, 30)

    assert refusal == Refusal("tokens", limit=100, used=80, requested=30, wait_s=9.0)
    assert strict.headroom(1.0)["requests"] == Headroom(limit=5, remaining=4, reset_s=9.0)


def test_the_refusal_names_the_limit_with_the_longer_wait():
    strict = gate(max_requests=1, max_tokens=100)
    strict.admit(0.0, 10)

    assert strict.admit(4.0, 95) == Refusal("requests", 1, 1, 1, 6.0)
    assert strict.admit(4.0, 101) == Refusal("tokens", 100, 10, 101, math.inf)


@pytest.mark.parametrize("charge", ["estimate", "adjust", "usage"])
def test_the_first_charge_is_for_the_arrival(charge):
    judge = gate(charge=charge)

    charged = judge.on_arrival(judge.admit(3.0, 50))

    assert charged == Charged(0 if charge == "usage" else 50, 3.0)


@pytest.mark.parametrize(
    ("charge", "charged", "remaining"),
    [
        ("estimate", Charged(50, 3.0), 50),
        ("adjust", Charged(20, 3.0), 80),
        ("usage", Charged(20, 4.0), 80),
    ],
)
def test_the_reply_settles_by_the_charge_mode(charge, charged, remaining):
    judge = gate(max_tokens=100, charge=charge)
    ticket = judge.admit(3.0, 50)

    settled = judge.settle(ticket, usage=20, now_s=4.0)

    assert settled == charged
    assert judge.headroom(4.0)["tokens"].remaining == remaining


@pytest.mark.parametrize("charge", ["estimate", "adjust", "usage"])
def test_charges_are_told_without_a_token_limit_too(charge):
    judge = gate(max_requests=5, charge=charge)

    settled = judge.settle(judge.admit(3.0, 50), usage=20, now_s=4.0)

    assert settled.tokens == (50 if charge == "estimate" else 20)


def test_an_estimate_blocks_until_it_is_corrected():
    judge = gate(max_tokens=100, charge="adjust")
    ticket = judge.admit(0.0, 90)
    assert isinstance(judge.admit(1.0, 20), Refusal)

    judge.settle(ticket, usage=10, now_s=2.0)

    assert isinstance(judge.admit(2.0, 20), Ticket)


def test_usage_is_let_in_while_one_token_is_left():
    judge = gate(max_tokens=100, charge="usage")
    first, second = judge.admit(0.0, 500), judge.admit(0.1, 500)
    judge.settle(first, usage=99, now_s=1.0)
    assert isinstance(judge.admit(1.5, 500), Ticket)

    judge.settle(second, usage=1, now_s=2.0)

    assert judge.admit(3.0, 500) == Refusal("tokens", 100, 100, 1, wait_s=8.0)
    assert isinstance(judge.admit(11.0, 500), Ticket)
