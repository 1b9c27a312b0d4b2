"""What things look like where something went wrong."""

from __future__ import annotations

import traceback

import pytest

import lionlite as ll
from lionlite.limits.limiter import RateLimiter
from lionlite.limits.shared import SharedLimiter
from lionlite.service.request import Request
from lionlite.service.transport.parse import RawReply
from lionlite.testing import FakeProvider, FaultServer, ManualClock

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    "make",
    [
        lambda: ll.Session(""),
        lambda: ll.Prompt(7),
        lambda: ll.Services.OpenAI(api_key="k" * 20, max_requests=0),
        lambda: RateLimiter({}, max_concurrency=0),
        lambda: SharedLimiter({}, store="redis://h/0", budget="b", on_store_down="panic"),
        lambda: FakeProvider(max_requests=0),
        lambda: FaultServer("no such fault"),
        lambda: ManualClock("now"),
    ],
    ids=lambda make: ", ".join(name for name in make.__code__.co_names if name != "ll"),
)
def test_an_object_that_could_not_be_made_can_be_shown_with_its_locals(make):
    with pytest.raises(ll.ConfigError) as caught:
        make()

    whole = traceback.TracebackException.from_exception(caught.value, capture_locals=True)

    assert str(caught.value) in "".join(whole.format())


def test_an_object_without_attributes_says_that_it_was_not_made():
    assert repr(ll.Session.__new__(ll.Session)) == "<Session, not made>"


def test_an_object_that_was_made_shows_what_it_is():
    assert repr(ll.Session()) == "<Session of 1 branches, 0 messages>"
    assert repr(ManualClock(7)) == "ManualClock(now_s=7.0)"


@pytest.mark.parametrize(
    "value",
    [
        RawReply(200, {"x-echo": "sk-secret"}, b"sk-secret"),
        Request("m", [{"content": "sk-secret"}], b"sk-secret", headers={"x": "sk-secret"}),
        ll.Reply("hello", raw={"echo": "sk-secret"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_way_of_showing_a_value_shows_what_its_repr_hides(value):
    shows = getattr(value, "__rich_repr__", None) or (lambda: ())

    assert "sk-secret" not in f"{value!r} {value} {list(shows())}"
