"""Where a meaning differs from LionAGI's, the docstrings say so; here is our value of every row."""

from __future__ import annotations

import functools
import logging
import threading
import time

import pytest

from lionlite import scope
from lionlite.calls import batches, matrix, single
from lionlite.calls.batches import bcall
from lionlite.calls.decorators import cd as decorators
from lionlite.calls.decorators import shaping
from lionlite.calls.decorators.cd import cd
from lionlite.calls.family import alcall, icall, lcall
from lionlite.calls.matrix import mcall
from lionlite.calls.single import rcall, tcall
from lionlite.exceptions import (
    AuthenticationError,
    CallError,
    Cancelled,
    ConfigError,
    DeadlineExceeded,
)
from lionlite.testing import ManualClock

pytestmark = pytest.mark.quick

MAPPING = {
    "lcall": lcall,
    "alcall": alcall,
    "icall": lambda items, func, **kw: [value for _, value in sorted(icall(items, func, **kw))],
    "bcall": functools.partial(bcall, batch_size=2),
    "mcall": lambda items, func, **kw: mcall(items, [func], explode=True, **kw)[0],
}


def rows_of(module):
    """Return the first cell of every row of the table in the docstring of *module*."""
    lines = [line for line in module.__doc__.splitlines() if line.startswith("| ")]
    return [line.split(" | ")[0].removeprefix("| ") for line in lines[1:]]


CHECKS = {}


def row(*names):
    def keep(check):
        CHECKS.update(dict.fromkeys(names, check))
        return check

    return keep


class Failing:
    def __init__(self, error=None):
        self.error = error or ValueError("bad")
        self.started = 0

    def __call__(self, *_):
        self.started += 1
        raise self.error


async def a_coroutine_function():
    """Nothing here awaits it."""


# single.py


@row("`rcall(retries=N)`")
def _():
    for retries in range(3):
        func = Failing()
        with pytest.raises(ValueError):
            rcall(func, retries=retries, delay=0)
        assert func.started == retries + 1


@row("`rcall` after the last failure")
def _():
    began_s = time.monotonic()
    with pytest.raises(ValueError):
        rcall(Failing(), delay=60)
    assert time.monotonic() - began_s < 30


@row("`rcall(default=None)`")
def _():
    assert rcall(Failing(), default=None) is None


@row("`rcall(default=...)`, fatal or cancelled")
def _():
    for error in (AuthenticationError(), Cancelled()):
        with pytest.raises(type(error)):
            rcall(Failing(error), default="spare")


@row("`timeout=`")
def _():
    with pytest.raises(DeadlineExceeded):
        rcall(scope.sleep, 30, phase="test", timeout=0.01)
    with pytest.raises(DeadlineExceeded):
        tcall(scope.sleep, 30, phase="test", timeout=0.01)


@row("`tcall(delay=, timeout=)`")
def _():
    began_s = time.monotonic()
    assert 0 < tcall(lambda: scope.current().left_s, delay=0.03, timeout=20) <= 20
    assert time.monotonic() - began_s >= 0.03


@row("`tcall(timing=True)`")
def _():
    assert tcall(int, delay=0.2, timing=True)[1] < 0.2


@row("`tcall(timing=True, ignore_err=True)` on an error")
def _():
    value, seconds = tcall(Failing(), timing=True, ignore_err=True)
    assert value is None
    assert isinstance(seconds, float)


@row("`tcall(err_msg=...)`")
def _(capsys, caplog):
    with pytest.raises(ValueError) as caught:
        tcall(Failing(), err_msg="Row 7")
    with caplog.at_level(logging.WARNING, logger="lionlite"):
        tcall(Failing(), err_msg="Row 8", ignore_err=True)
    assert caught.value.__notes__ == ["Row 7"]
    assert caplog.messages[0].startswith("Row 8")
    assert capsys.readouterr().out == ""


# decorators.py


@row("`async def`")
def _():
    for decorate in (cd.timeout(1), cd.retry(), cd.default(0), cd.cache, cd.map(str)):
        with pytest.raises(ConfigError, match="async"):
            decorate(a_coroutine_function)


@row("`cd.timeout`, `cd.retry`, `cd.default`")
def _():
    for decorate in (cd.timeout(1), cd.retry(), cd.default(0)):
        assert decorate(lambda: "a value")() == "a value"


@row("`cd.retry(retries=3)`")
def _():
    func = Failing()
    with pytest.raises(ValueError):
        cd.retry(retries=3, delay=0)(func)()
    assert func.started == 4


@row("`cd.default(None)`")
def _():
    assert cd.default(None)(Failing())() is None


@row("`cd.default(...)`, fatal or cancelled")
def _():
    for error in (AuthenticationError(), Cancelled()):
        with pytest.raises(type(error)):
            cd.default("spare")(Failing(error))()


@row("`cd.throttle` over threads")
def _():
    func = cd.throttle(0.02)(time.monotonic)
    stamps = lcall(range(4), lambda _: func(), max_workers=4)
    assert max(stamps) - min(stamps) >= 3 * 0.02 - 0.01


@row("`cd.cache`")
def _():
    calls, clock = [], ManualClock()
    for func in (cd.cache(calls.append), cd.cache(ttl=9, maxsize=1, clock=clock)(calls.append)):
        func(1)
        func(1)
    assert calls == [1, 1]
    clock.advance(10)
    func(1)
    assert calls == [1, 1, 1]


@row("`cd.cache`, 1 and True")
def _():
    func = cd.cache(lambda value: [type(value)])
    assert [func(1), func(True)] == [[int], [bool]]


@row("`cd.cache` in threads")
def _():
    calls, start = [], threading.Barrier(16, timeout=20)
    func = cd.cache(lambda: calls.append(time.sleep(0.02)))
    lcall(range(16), lambda _: (start.wait(), func()), max_workers=16)
    assert len(calls) == 1


@row("`cd.max_concurrency`")
def _():
    now, most = [], []

    @cd.max_concurrency(2)
    def func(number):
        now.append(number)
        most.append(len(now))
        time.sleep(0.005)
        now.remove(number)

    lcall(range(16), func, max_workers=16)
    assert max(most) <= 2


@row("`cd.force_async`")
def _():
    assert not hasattr(cd, "force_async")


# shaping.py


@row("`cd.compose`, a function fails")
def _():
    with pytest.raises(KeyError) as caught:
        cd.compose(Failing(KeyError("key")))(str)()
    assert "Failing" in caught.value.__notes__[0]


@row("`cd.map`, `cd.filter`, `cd.reduce` of a text or a dict")
def _():
    for one in ("text", {"a": 1}):
        assert cd.map(len)(lambda one=one: one)() == [len(one)]
        assert cd.filter(bool)(lambda one=one: one)() == [one]
        assert cd.reduce(lambda total, _: total + 1, 0)(lambda one=one: one)() == 1


@row("`cd.pre_post_process` on a method")
def _():
    class Doubler:
        @cd.pre_post_process(int, str)
        def double(self, number):
            assert isinstance(self, Doubler)
            return number * 2

    assert Doubler().double("4") == "8"


# batches.py


@row("`bcall`: the function gets")
def _():
    assert bcall([1, 2, 3], type, batch_size=2) == [int, int, int]


@row("`bcall`: the input is read")
def _():
    log = []

    def numbers():
        for number in range(6):
            log.append("read")
            yield number

    bcall(numbers(), lambda _: log.append("called"), batch_size=2)
    assert log[:4] in (
        ["read", "read", "called", "called"],
        ["read", "called", "read", "called"],
    )


@row("`bcall`: an item fails")
def _():
    with pytest.raises(CallError) as caught:
        bcall([1, 2, 0, 4], lambda number: 8 // number, batch_size=2)
    assert caught.value.results[:2] == [8, 4]


# matrix.py


@row("`mcall`, other lengths")
def _():
    func = Failing()
    with pytest.raises(ConfigError):
        mcall([1, 2, 3], [func, func])
    assert func.started == 0


@row("None among the items")
def _():
    for call in MAPPING.values():
        assert call([None, 1], repr) == ["None", "1"]


@row("lists among the items")
def _():
    for call in MAPPING.values():
        assert call([[1, 2], [3]], len) == [2, 1]


@row("`flatten=`, `dropna=`")
def _():
    for call in MAPPING.values():
        for name in ("flatten", "dropna"):
            with pytest.raises(ConfigError, match=name):
                call([1], repr, **{name: True})


@row("keywords for the function")
def _():
    for call in MAPPING.values():
        with pytest.raises(ConfigError, match=r"functools\.partial"):
            call(["11"], int, base=2)
        assert call(["11"], functools.partial(int, base=2)) == [3]


ROWS = [
    name for module in (single, decorators, shaping, batches, matrix) for name in rows_of(module)
]


@pytest.mark.parametrize("name", ROWS)
def test_our_value_of_every_row_is(name, request):
    check = CHECKS[name]

    wanted = check.__code__.co_varnames[: check.__code__.co_argcount]

    check(**{fixture: request.getfixturevalue(fixture) for fixture in wanted})


def test_no_row_stands_twice_and_none_is_checked_that_is_not_there():
    assert sorted(ROWS) == sorted(CHECKS)
