"""`cd`: what a function shall obey at every call, written above it.

Holds: `CallDecorator`, known as `cd`, and those of its decorators that say
when and how often a function runs. Does not hold: those that change values
(shaping.py), nor how it is done: retries (again.py), waiting in line
(line.py), remembering (memo.py).

All take plain functions and methods and keep name, docstring, signature and
types; a decorated function at the top of a module pickles by its name. What a
decorator counts (starts, places, values) is counted per function, so for a
method over all instances.
Threads: decorated functions are as safe as the functions they hold.

Where a meaning differs from LionAGI's (0.0.300):

| what | LionAGI | lionlite |
|---|---|---|
| `async def` | taken, or made of it | ConfigError |
| `cd.timeout`, `cd.retry`, `cd.default` | return a coroutine function | return a plain function |
| `cd.retry(retries=3)` | 3 attempts in all | 3 more after the first |
| `cd.default(None)` | raises | returns None |
| `cd.default(...)`, fatal or cancelled | the default | the error |
| `cd.throttle` over threads | all pass together | one every *period* seconds, in turn |
| `cd.cache` | *ttl* unused, bare only | *ttl* and *maxsize* hold, bare or with arguments |
| `cd.cache`, 1 and True | one key | two keys |
| `cd.cache` in threads | each one calls | one calls, the others wait for it |
| `cd.max_concurrency` | coroutines only | plain functions, in threads |
| `cd.force_async` | in a thread pool | not there: `lcall` has the threads |
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, ParamSpec, TypeVar, overload

from lionlite import scope
from lionlite.calls.again import is_final, patience_from, within
from lionlite.calls.asked import whole
from lionlite.calls.decorators.memo import CallKey, Memo
from lionlite.calls.decorators.shaping import ShapingDecorator
from lionlite.calls.plain import require_whole
from lionlite.calls.single import log_default
from lionlite.exceptions import ConfigError
from lionlite.line import Line, Pace

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D")

CACHE_TTL_S = 600.0
CACHE_SIZE = 128
"""LionAGI's time to live, and the size of `functools.lru_cache`."""


class CallDecorator(ShapingDecorator):
    """Decorators for functions that call a provider, or anything else that is slow.

    The uppermost acts first: `@cd.default("")` above `@cd.retry()` gives the
    default when all attempts have failed.
    """

    @staticmethod
    def timeout(timeout: float) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Bound everything that waits inside a call, as `deadline` does.

        A function that is stuck in I/O of its own is not interrupted; the
        value with which it comes late counts (see `tcall`).

        Args:
            timeout: Seconds for each call, >= 0.

        Raises:
            ConfigError: *timeout* is wrong, or the function is not a plain one.
        """
        timeout_s = scope.seconds_from(timeout, name="timeout")

        def decorate(func: Callable[P, R]) -> Callable[P, R]:
            require_whole(func, where="cd.timeout()")

            @functools.wraps(func)
            def bounded(*args: P.args, **kwargs: P.kwargs) -> R:
                return within(timeout_s, func, *args, **kwargs)

            return bounded

        return decorate

    @staticmethod
    def retry(
        retries: int = 3, delay: float = 2.0, backoff_factor: float = 2.0
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Call again after an error, as `rcall` does; the last error is let through.

        Args:
            retries: More attempts after the first, >= 0.
            delay: Seconds before the second attempt.
            backoff_factor: By which each wait is longer than the one before.

        Raises:
            ConfigError: An argument is wrong, or the function is not a plain one.
        """
        patience = patience_from(retries, delay, backoff_factor)

        def decorate(func: Callable[P, R]) -> Callable[P, R]:
            require_whole(func, where="cd.retry()")

            @functools.wraps(func)
            def persistent(*args: P.args, **kwargs: P.kwargs) -> R:
                return patience.call(func, *args, **kwargs)

            return persistent

        return decorate

    @staticmethod
    def default(default_value: D) -> Callable[[Callable[P, R]], Callable[P, R | D]]:
        """Return *default_value* instead of raising an error.

        A cancel, Ctrl-C and an error with a true `.fatal` are raised all the
        same. Each error is logged at level debug.

        Args:
            default_value: What every failed call returns, the same object.

        Raises:
            ConfigError: The function is not a plain one.
        """

        def decorate(func: Callable[P, R]) -> Callable[P, R | D]:
            require_whole(func, where="cd.default()")

            @functools.wraps(func)
            def safe(*args: P.args, **kwargs: P.kwargs) -> R | D:
                try:
                    return func(*args, **kwargs)
                except Exception as error:
                    if is_final(error):
                        raise
                    log_default(func, error)
                return default_value

            return safe

        return decorate

    @staticmethod
    def throttle(period: float) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Let calls start at least *period* seconds apart, over all threads.

        First come first served; each process has a pace of its own. A budget
        of requests belongs into the service (`max_requests=`), which counts
        tokens too.

        Args:
            period: Seconds from one start to the next, >= 0. Functions
                decorated by one and the same `throttle(...)` share the pace.

        Raises:
            ConfigError: *period* is wrong, or the function is not a plain one.
                Calls raise DeadlineExceeded and Cancelled while they wait.
        """
        pace = Pace(scope.seconds_from(period, name="period"))

        def decorate(func: Callable[P, R]) -> Callable[P, R]:
            require_whole(func, where="cd.throttle()")

            @functools.wraps(func)
            def paced(*args: P.args, **kwargs: P.kwargs) -> R:
                pace.wait()
                return func(*args, **kwargs)

            return paced

        return decorate

    @staticmethod
    def max_concurrency(limit: int = 5) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Let at most *limit* calls of the function run at the same time.

        First come first served, per process. A call from within a call, in
        threads of a nested `lcall` too, is part of it and does not wait: else
        it could wait for itself.

        Args:
            limit: Calls, >= 1.

        Raises:
            ConfigError: *limit* is wrong, or the function is not a plain one.
                Calls raise DeadlineExceeded and Cancelled while they wait.
        """
        places = whole(limit, name="limit", least=1)

        def decorate(func: Callable[P, R]) -> Callable[P, R]:
            require_whole(func, where="cd.max_concurrency()")
            line = Line(places, phase="max_concurrency")

            @functools.wraps(func)
            def admitted(*args: P.args, **kwargs: P.kwargs) -> R:
                if line.is_held_here():
                    return func(*args, **kwargs)
                with line.place():
                    return func(*args, **kwargs)

            return admitted

        return decorate

    @overload
    @staticmethod
    def cache(
        func: Callable[P, R],
        *,
        ttl: float | None = ...,
        maxsize: int | None = ...,
        clock: Callable[[], float] = ...,
    ) -> Callable[P, R]: ...
    @overload
    @staticmethod
    def cache(
        func: None = ...,
        *,
        ttl: float | None = ...,
        maxsize: int | None = ...,
        clock: Callable[[], float] = ...,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
    @staticmethod
    def cache(
        func: Callable[P, R] | None = None,
        *,
        ttl: float | None = CACHE_TTL_S,
        maxsize: int | None = CACHE_SIZE,
        clock: Callable[[], float] = time.monotonic,
    ) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
        """Remember values by their arguments: `@cd.cache` or `@cd.cache(ttl=60)`.

        While one thread makes a value, others with the same arguments wait for
        it. Errors are not remembered: each belongs to its caller, and the next
        one waiting calls anew. All callers get the same object. Arguments are
        kept alive with their value; of a method, the instance too.

        Args:
            func: The function, if written without brackets.
            ttl: Seconds for which a value counts, > 0; None = for ever.
            maxsize: Values kept, >= 1; the one not asked for the longest goes
                first. None = any number.
            clock: Tells the time in seconds; for tests.

        Raises:
            ConfigError: An argument is wrong, or the function is not a plain
                one. Calls raise it when an argument cannot be hashed, or when
                the function calls itself with the same arguments.
                They raise DeadlineExceeded and Cancelled while they wait.
        """
        ttl_s = _ttl_from(ttl)
        size = None if maxsize is None else whole(maxsize, name="maxsize", least=1)

        def decorate(func: Callable[P, R]) -> Callable[P, R]:
            require_whole(func, where="cd.cache()")
            memo: Memo[R] = Memo(ttl_s, size, clock)

            @functools.wraps(func)
            def remembered(*args: P.args, **kwargs: P.kwargs) -> R:
                key = CallKey(func, args, kwargs)
                entry = memo.get(key)
                if entry is None:
                    entry = memo.made(key, functools.partial(func, *args, **kwargs))
                return entry.value

            return remembered

        return decorate if func is None else decorate(func)


cd = CallDecorator
"""The name to use: `@cd.retry(2)`."""


def _ttl_from(ttl: float | None) -> float:
    if ttl is None:
        return scope.FOREVER_S
    ttl_s = scope.seconds_from(ttl, name="ttl")
    if not ttl_s:
        msg = "ttl=0 would remember nothing: give seconds > 0, or None to remember for ever."
        raise ConfigError(msg)
    return ttl_s
