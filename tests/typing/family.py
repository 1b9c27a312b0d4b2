"""The types of mcall, bcall, tcall, rcall and cd, as mypy --strict sees them. Nothing runs this.

A line with `type: ignore` is a claim too: mypy must refuse it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_type

from lionlite.calls.batches import bcall
from lionlite.calls.decorators.cd import cd
from lionlite.calls.matrix import mcall
from lionlite.calls.single import rcall, tcall

if TYPE_CHECKING:
    from collections.abc import Callable


def length(text: str) -> int:
    return len(text)


def answer(question: str, *, temperature: float = 0) -> str:
    return question * int(temperature)


# mcall and bcall

assert_type(mcall(["a"], [length]), list[int])
assert_type(mcall(["a"], length, retries=1, max_workers=8), list[int])
assert_type(mcall(["a"], [length], on_error="return"), list[int | BaseException])
assert_type(mcall(["a"], [length], explode=True), list[list[int]])
assert_type(
    mcall(["a"], [length], explode=True, on_error="return"), list[list[int | BaseException]]
)
mcall([1], [length])  # type: ignore[arg-type]
mcall(["a"], [length], flatten=True)  # type: ignore[call-overload]

assert_type(bcall(["a"], length, batch_size=2), list[int])
assert_type(bcall(["a"], length, batch_size=2, max_workers="auto"), list[int])
assert_type(bcall(["a"], length, batch_size=2, on_error="return"), list[int | BaseException])
bcall(["a"], length)  # type: ignore[call-overload]
bcall([1], length, batch_size=2)  # type: ignore[arg-type]

# tcall and rcall

assert_type(tcall(length, "a"), int)
assert_type(tcall(answer, "a", temperature=1, delay=1, timeout=8, err_msg="Row 7"), str)
assert_type(tcall(length, "a", ignore_err=True), int | None)
assert_type(tcall(length, "a", timing=True), tuple[int, float])
assert_type(tcall(length, "a", timing=True, ignore_err=True), tuple[int | None, float])
tcall(7)  # type: ignore[call-overload]
tcall(length, "a", timing="yes")  # type: ignore[call-overload]

assert_type(rcall(length, "a", retries=2, delay=0.5, backoff_factor=3, timeout=8), int)
assert_type(rcall(length, "a", default=None), int | None)
assert_type(rcall(length, "a", default="spare"), int | str)
rcall(length, "a", retries="two")  # type: ignore[call-overload]

# cd


@cd.timeout(8)
@cd.retry(2, delay=1, backoff_factor=2)
@cd.throttle(0.1)
@cd.max_concurrency(4)
@cd.cache
def ask(question: str, *, temperature: float = 0) -> str:
    return question * int(temperature)


assert_type(ask("a", temperature=1), str)
ask(1)  # type: ignore[arg-type]
ask("a", temprature=1)  # type: ignore[call-arg]


@cd.cache(ttl=60, maxsize=None)
def remembered(text: str) -> int:
    return len(text)


@cd.default(None)
def maybe(text: str) -> int:
    return len(text)


@cd.map(str)
def as_texts(upto: int) -> list[int]:
    return list(range(upto))


@cd.map(lambda number: number + 1)
def untyped(upto: int) -> range:
    return range(upto)


@cd.filter(lambda number: number > 1)
def large(upto: int) -> range:
    return range(upto)


@cd.reduce(lambda total, number: total + number, 0)
def total(upto: int) -> range:
    return range(upto)


@cd.pre_post_process(int, str)
def doubled(number: int) -> int:
    return number * 2


assert_type(remembered("a"), int)
remembered(1)  # type: ignore[arg-type]
assert_type(maybe("a"), int | None)
assert_type(as_texts(3), list[str])
assert_type(large(3), list[int])
assert_type(total(3), int)
assert_type(doubled(3), str)
total("3")  # type: ignore[arg-type]
cd.retry(retrys=2)  # type: ignore[call-arg]
cd.cache(60)  # type: ignore[call-overload]


class Asker:
    @cd.retry()
    @cd.cache(ttl=None)
    def ask(self, question: str) -> str:
        return question


assert_type(Asker().ask("a"), str)
Asker().ask(1)  # type: ignore[arg-type]
callback: Callable[[str], str] = Asker().ask
