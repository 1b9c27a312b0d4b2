"""Ctrl-C at every place of taking room without waiting leaves nothing taken."""

from __future__ import annotations

import itertools
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from interrupts import ctrl_c_at

from lionlite.limits import accounts, budget, desk, limiter, reservation, windows
from lionlite.limits.limiter import RateLimiter
from lionlite.limits.rates import Rate

pytestmark = pytest.mark.quick

FILES = {module.__file__ for module in (limiter, reservation, desk, budget, accounts, windows)}
# The first step of what begins or ends a `with`: it stands outside of what it protects.
OUTSIDE = {"__enter__", "__exit__"}


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="not every opcode is traced")
@pytest.mark.parametrize("used", [0, 4], ids=["room", "no room"])
def test_ctrl_c_at_any_place_of_try_reserve_takes_nothing(used):
    def interrupted_at(number):
        """Take room with Ctrl-C at that place; return whether it came."""
        limiter_ = RateLimiter({"requests": [Rate(4, 60.0)]})
        if used:
            limiter_.reserve({"requests": used})
        try:
            with ctrl_c_at(number, FILES, outside=OUTSIDE):
                held = limiter_.try_reserve({"requests": 1})
        except KeyboardInterrupt:
            stats = limiter_.stats()
            assert (stats.dimensions["requests"].used, stats.waiting) == (used, 0), number
            return True
        assert (held is None) == bool(used)
        return False

    def places():
        return next(number for number in itertools.count() if not interrupted_at(number))

    # In a thread of its own: what a tracer raises stays its context (CPython 3.11).
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(places).result(50) > 20
