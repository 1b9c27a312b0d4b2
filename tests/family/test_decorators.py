"""What all decorators of cd keep, and what each does in one thread."""

from __future__ import annotations

import functools
import inspect
import pickle
import time

import pytest

from lionlite import scope
from lionlite.calls import again
from lionlite.calls.decorators.cd import cd
from lionlite.exceptions import (
    AuthenticationError,
    Cancelled,
    ConfigError,
    DeadlineExceeded,
    RateLimitError,
)

pytestmark = pytest.mark.quick

# Each with arguments that leave `add(1, 2)` as it is, as far as there are such.
ALL = {
    "timeout": cd.timeout(5),
    "retry": cd.retry(),
    "default": cd.default(None),
    "throttle": cd.throttle(0),
    "max_concurrency": cd.max_concurrency(),
    "cache": cd.cache(ttl=60),
    "bare cache": cd.cache,
    "map": cd.map(str),
    "filter": cd.filter(bool),
    "reduce": cd.reduce(max, 0),
    "compose": cd.compose(),
    "pre_post_process": cd.pre_post_process(int, int),
}
TIMELY = ["timeout", "retry", "default", "throttle", "max_concurrency", "cache", "bare cache"]


def note(waits, seconds, *, phase):
    waits.append(seconds)


@pytest.fixture
def slept(monkeypatch):
    """Return the waits between attempts; they take no time."""
    waits = []
    monkeypatch.setattr(again.scope, "sleep", functools.partial(note, waits))
    return waits


@cd.retry(retries=2, delay=0)
@cd.throttle(0)
@cd.cache
@cd.max_concurrency(2)
@cd.default(-1)
@cd.timeout(5)
def stacked(number: int, by: int = 2) -> int:
    """Multiply."""
    return number * by


class Counter:
    def __init__(self):
        self.calls = 0

    @cd.retry(retries=1, delay=0)
    @cd.throttle(0)
    @cd.max_concurrency(1)
    @cd.default(0)
    @cd.timeout(5)
    def count(self, number):
        self.calls += number
        return self.calls

    @cd.cache
    def remembered(self, number):
        self.calls += 1
        return self, number

    @cd.pre_post_process(int, str)
    def processed(self, number, *, by):
        return number * by

    @classmethod
    @cd.map(str)
    def named(cls):
        return [cls.__name__, 1]

    @staticmethod
    @cd.filter(bool)
    def true():
        return [0, 1]


class Failing:
    """Raises *errors* one after the other, then returns its argument."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.started = 0

    def __call__(self, value=None):
        self.started += 1
        if self.errors:
            raise self.errors.pop(0)
        return value


@pytest.mark.parametrize("name", ALL)
def test_name_docstring_and_signature_stay(name):
    def add(left: int, right: int = 2) -> int:
        """Add them."""
        return left + right

    decorated = ALL[name](add)

    assert inspect.isfunction(decorated)
    assert (decorated.__name__, decorated.__doc__) == ("add", "Add them.")
    assert inspect.signature(decorated) == inspect.signature(add)
    assert decorated.__wrapped__ is add


async def a_coroutine_function():
    """Nothing here awaits it."""


async def an_async_generator():
    yield 1


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("func", "match"),
    [
        (a_coroutine_function, "async function"),
        (an_async_generator, "async function"),
        (functools.partial(a_coroutine_function), "async function"),
        (classmethod(len), "Put @classmethod above it"),
        (property(len), "Put @property above it"),
        ("text", "takes a function; got str"),
    ],
    ids=["async", "async generator", "partial", "classmethod", "property", "text"],
)
def test_what_is_no_plain_function_is_refused(name, func, match):
    with pytest.raises(ConfigError, match=match):
        ALL[name](func)


@pytest.mark.parametrize("name", TIMELY)
def test_a_generator_function_is_refused_where_its_body_would_run_too_late(name):
    def numbers():
        yield 1

    with pytest.raises(ConfigError, match="generator function"):
        ALL[name](numbers)


def test_decorators_stack_and_pickle_by_name():
    assert (stacked(3), stacked(3, by=3)) == (6, 9)
    assert pickle.loads(pickle.dumps(stacked)) is stacked


def test_methods_work_as_before():
    counter = Counter()

    assert (counter.count(2), counter.count(number=3), counter.calls) == (2, 5, 5)
    assert counter.processed("3", by="4") == "12"
    assert (Counter.named(), counter.true()) == (["Counter", "1"], [1])


def test_methods_remember_by_instance():
    first, second = Counter(), Counter()

    assert first.remembered(1) is first.remembered(1)
    assert first.remembered(1)[0] is first
    assert second.remembered(1)[0] is second
    assert (first.calls, second.calls) == (1, 1)


# timeout


def test_timeout_bounds_every_call_anew():
    @cd.timeout(5)
    def wait(seconds):
        scope.sleep(seconds, phase="test")
        return "done"

    for _ in range(2):
        with pytest.raises(TimeoutError):
            wait(30)
        assert wait(0.001) == "done"


def test_a_timeout_around_is_kept_if_it_is_sooner():
    @cd.timeout(60)
    def left_s():
        return scope.current().left_s

    with scope.deadline(5):
        assert left_s() <= 5
    assert 50 < left_s() <= 60


def test_a_late_value_counts():
    assert cd.timeout(0.001)(lambda: time.sleep(0.01) or "paid for")() == "paid for"


# retry


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_retry_gives_so_many_attempts_more(slept, retries):
    func = Failing(*map(ValueError, range(9)))

    with pytest.raises(ValueError, match=str(retries)):
        cd.retry(retries, delay=1)(func)()

    assert func.started == retries + 1
    assert slept == [1, 2][:retries]


def test_retry_waits_as_the_guide_says(slept):
    func = Failing(ValueError(), RateLimitError(retry_after_s=9.0), ValueError())

    assert cd.retry()(func)("value") == "value"
    assert slept == [2, 9, 8]


def test_retry_leaves_what_is_final(slept):
    func = Failing(AuthenticationError())

    with pytest.raises(AuthenticationError):
        cd.retry()(func)()

    assert (func.started, slept) == (1, [])


# default


@pytest.mark.parametrize("value", [None, 0, "spare"])
def test_default_stands_in_for_an_error(value):
    func = cd.default(value)(Failing(ValueError()))

    assert func("answer") == value
    assert func("answer") == "answer"


@pytest.mark.parametrize(
    "error", [Cancelled(), AuthenticationError(), KeyboardInterrupt()], ids=repr
)
def test_default_hides_nothing_final(error):
    with pytest.raises(type(error)):
        cd.default(None)(Failing(error))()


def test_the_uppermost_acts_first(slept):
    func = Failing(*[ValueError()] * 3)

    assert cd.default("spare")(cd.retry(1)(func))("answer") == "spare"
    assert cd.retry(1)(cd.default("spare")(func))("answer") == "spare"
    assert func.started == 3


# map, filter, reduce, compose, pre_post_process


def test_map_filter_and_reduce_shape_what_comes_out():
    def numbers(upto):
        return range(upto)

    assert cd.map(lambda number: number * 10)(numbers)(4) == [0, 10, 20, 30]
    assert cd.filter(lambda number: number % 2)(numbers)(4) == [1, 3]
    assert cd.reduce(lambda total, number: total + number, 100)(numbers)(4) == 106
    assert cd.reduce(max, 7)(numbers)(0) == 7


def test_they_take_what_a_generator_gives():
    def numbers():
        yield from range(3)

    assert cd.map(str)(numbers)() == ["0", "1", "2"]


@pytest.mark.parametrize("one", ["text", {"a": 1}, b"raw"], ids=repr)
def test_a_text_and_a_dict_are_one_item(one):
    assert cd.map(type)(lambda: one)() == [type(one)]
    assert cd.filter(bool)(lambda: one)() == [one]
    assert cd.reduce(lambda total, _: total + 1, 0)(lambda: one)() == 1


@pytest.mark.parametrize("decorate", [cd.map(str), cd.filter(bool), cd.reduce(max, 0)])
def test_a_value_that_cannot_be_iterated_is_named(decorate):
    with pytest.raises(ConfigError, match="got int"):
        decorate(lambda: 7)()


def test_compose_goes_on_with_what_came_out():
    def double(number):
        return number * 2

    assert cd.compose(double)(lambda left, right: left + right)(3, 5) == 16
    assert cd.compose(double, str)(lambda: 4)() == "8"
    assert cd.compose()(lambda: 4)() == 4


def test_an_error_in_a_composed_function_keeps_its_class_and_says_where():
    def divide(number):
        return 1 / number

    with pytest.raises(ZeroDivisionError) as caught:
        cd.compose(divide)(lambda: 0)()

    assert "divide" in caught.value.__notes__[0]


def test_pre_post_process_shapes_every_argument_and_the_value():
    def join(left, right, *, between):
        return left + between + right

    decorated = cd.pre_post_process(str.upper, lambda text: [text])(join)

    assert decorated("a", right="b", between="x") == ["AXB"]


def test_pre_post_process_takes_functions_without_a_signature():
    assert cd.pre_post_process(int, str)(max)("3", "20") == "20"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: cd.timeout(-1), "timeout takes seconds"),
        (lambda: cd.timeout(len), "timeout takes seconds"),
        (lambda: cd.retry(len), "retries must be an int >= 0"),
        (lambda: cd.retry(delay=-1), "delay takes seconds"),
        (lambda: cd.retry(backoff_factor="2"), "backoff_factor must be"),
        (lambda: cd.throttle(None), "period takes seconds"),
        (lambda: cd.max_concurrency(0), "limit must be an int >= 1"),
        (lambda: cd.max_concurrency(len), "limit must be an int >= 1"),
        (lambda: cd.cache(ttl=0), "ttl=0 would remember nothing"),
        (lambda: cd.cache(ttl="1"), "ttl takes seconds"),
        (lambda: cd.cache(maxsize=0), "maxsize must be an int >= 1"),
        (lambda: cd.cache(60), "takes a function; got int"),
        (lambda: cd.map(7), "takes a function; got int"),
        (lambda: cd.filter(a_coroutine_function), "async function"),
        (lambda: cd.reduce(None, 0), "takes a function; got NoneType"),
        (lambda: cd.compose(str, 7), "takes a function; got int"),
        (lambda: cd.pre_post_process(str, None), "takes a function; got NoneType"),
    ],
)
def test_wrong_arguments_are_refused_where_they_are_written(make, match):
    with pytest.raises(ConfigError, match=match):
        make()


def test_a_call_without_time_left_is_not_made():
    called = []

    with scope.deadline(0), pytest.raises(DeadlineExceeded):
        cd.retry()(called.append)(1)

    assert called == []
