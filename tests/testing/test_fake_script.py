"""Which reply comes next."""

from __future__ import annotations

import threading

import pytest

from lionlite.exceptions import ConfigError
from lionlite.testing import Fault
from lionlite.testing.script import Script, Turn

pytestmark = pytest.mark.quick


def contents(script, count, body=None):
    return [script.next_turn(body or {}).content for _ in range(count)]


def test_one_reply_serves_every_request():
    assert contents(Script("a"), 3) == ["a", "a", "a"]


def test_a_sequence_is_used_in_turn_then_exhausted():
    script = Script(["a", {"content": "b"}])

    assert contents(script, 3) == ["a", {"content": "b"}, None]
    assert script.next_turn({}).is_broken


def test_scripted_replies_come_first_and_in_order():
    script = Script("later")
    script.put_in_front(["c"])
    script.put_in_front(["a", "b"])

    assert contents(script, 4) == ["a", "b", "c", "later"]


def test_a_function_is_given_the_request():
    script = Script(lambda body: lambda again: body["model"] + again["model"])

    assert contents(script, 1, {"model": "m"}) == ["mm"]


def test_a_delay_without_reply_delays_the_next_one():
    delay = Fault.delay(0.5)
    script = Script([delay, "late"])

    assert script.next_turn({}) == Turn(content="late", faults=(delay,))


def test_delays_add_up():
    script = Script(Fault.delay(0.5, then=Fault.delay(1.0, then="late")))

    assert script.next_turn({}).delay_s == 1.5


def test_a_delay_at_the_end_of_the_script_is_exhausted_too():
    assert Script([Fault.delay(0.5)]).next_turn({}).is_broken


@pytest.mark.parametrize("reply", [None, 5, b"bytes", ["a", None]], ids=repr)
def test_what_is_no_reply_is_refused_at_once(reply):
    with pytest.raises(ConfigError, match="give a text, a mapping"):
        Script(reply)


def test_what_is_no_reply_is_refused_in_front_too():
    script = Script("a")

    with pytest.raises(ConfigError, match="reply is int"):
        script.put_in_front(["b", 5])
    assert contents(script, 1) == ["a"]


def test_a_function_that_returns_no_reply_is_refused():
    with pytest.raises(ConfigError, match="reply is NoneType"):
        Script(lambda body: None).next_turn({})


def test_threads_never_share_a_reply():
    script, got = Script([str(n) for n in range(400)]), []

    def take():
        got.extend(contents(script, 50))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(got, key=int) == [str(n) for n in range(400)]
