"""The decorators of `cd` that change what goes into a function and what comes out.

Holds: `ShapingDecorator`, from which `CallDecorator` inherits: map, filter,
reduce, compose, pre_post_process. Does not hold: those that say when and how
often a function runs (cd.py), nor threads: everything here runs in the
calling thread.

Where a meaning differs from LionAGI's (0.0.300):

| what | LionAGI | lionlite |
|---|---|---|
| `cd.compose`, a function fails | ValueError with its text | its error, with a note |
| `cd.map`, `cd.filter`, `cd.reduce` of a text or a dict | its characters or keys | one item |
| `cd.pre_post_process` on a method | `self` is processed too | `self` is left as it is |
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from lionlite.calls.asked import name_of
from lionlite.calls.inputs import iterate
from lionlite.calls.plain import require_plain
from lionlite.calls.single import note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class ShapingDecorator:
    """Decorators that change arguments and values; used by the name of `cd`."""

    @staticmethod
    def map(
        function: Callable[[Any], S],
    ) -> Callable[[Callable[P, Iterable[Any]]], Callable[P, list[S]]]:
        """Return a list of *function* of each item of what the call returns.

        One after the other, in the calling thread; for threads see `lcall`.

        Args:
            function: Of one item. A text and a dict are one item.

        Raises:
            ConfigError: A function is not a plain one. Calls raise it if what
                they return cannot be iterated.
        """
        require_plain(function, where="cd.map()")

        def decorate(func: Callable[P, Iterable[Any]]) -> Callable[P, list[S]]:
            require_plain(func, where="cd.map()")

            @functools.wraps(func)
            def mapped(*args: P.args, **kwargs: P.kwargs) -> list[S]:
                return [function(item) for item in iterate(func(*args, **kwargs))]

            return mapped

        return decorate

    @staticmethod
    def filter(
        predicate: Callable[[Any], object],
    ) -> Callable[[Callable[P, Iterable[S]]], Callable[P, list[S]]]:
        """Return a list of those items of what the call returns that pass.

        Args:
            predicate: Of one item. A text and a dict are one item.

        Raises:
            ConfigError: A function is not a plain one. Calls raise it if what
                they return cannot be iterated.
        """
        require_plain(predicate, where="cd.filter()")

        def decorate(func: Callable[P, Iterable[S]]) -> Callable[P, list[S]]:
            require_plain(func, where="cd.filter()")

            @functools.wraps(func)
            def filtered(*args: P.args, **kwargs: P.kwargs) -> list[S]:
                return [item for item in iterate(func(*args, **kwargs)) if predicate(item)]

            return filtered

        return decorate

    @staticmethod
    def reduce(
        function: Callable[[S, Any], S], initial: S
    ) -> Callable[[Callable[P, Iterable[Any]]], Callable[P, S]]:
        """Return what *function* makes of the items of what the call returns.

        Args:
            function: Of the value so far and the next item. A text and a dict
                are one item.
            initial: The value before the first item.

        Raises:
            ConfigError: A function is not a plain one. Calls raise it if what
                they return cannot be iterated.
        """
        require_plain(function, where="cd.reduce()")

        def decorate(func: Callable[P, Iterable[Any]]) -> Callable[P, S]:
            require_plain(func, where="cd.reduce()")

            @functools.wraps(func)
            def reduced(*args: P.args, **kwargs: P.kwargs) -> S:
                return functools.reduce(function, iterate(func(*args, **kwargs)), initial)

            return reduced

        return decorate

    @staticmethod
    def compose(*functions: Callable[[Any], Any]) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
        """Send what the call returns through *functions*, the first one first.

        An error of one of them is let through, with a note that names it.

        Args:
            *functions: Each of what the one before it returned.

        Raises:
            ConfigError: A function is not a plain one.
        """
        for function in functions:
            require_plain(function, where="cd.compose()")

        def decorate(func: Callable[P, Any]) -> Callable[P, Any]:
            require_plain(func, where="cd.compose()")

            @functools.wraps(func)
            def composed(*args: P.args, **kwargs: P.kwargs) -> Any:
                value = func(*args, **kwargs)
                for function in functions:
                    try:
                        value = function(value)
                    except BaseException as error:
                        note(error, f"In {name_of(function)}, composed onto {name_of(func)}.")
                        raise
                return value

            return composed

        return decorate

    @staticmethod
    def pre_post_process(
        preprocess: Callable[[Any], Any], postprocess: Callable[[R], S]
    ) -> Callable[[Callable[P, R]], Callable[P, S]]:
        """Send each argument through *preprocess*, and the value through *postprocess*.

        Args:
            preprocess: Of one argument, by place or by name. A first parameter
                called `self` or `cls` is left as it is.
            postprocess: Of the value.

        Raises:
            ConfigError: A function is not a plain one.
        """
        require_plain(preprocess, where="cd.pre_post_process()")
        require_plain(postprocess, where="cd.pre_post_process()")

        def decorate(func: Callable[P, R]) -> Callable[P, S]:
            require_plain(func, where="cd.pre_post_process()")
            inner: Callable[..., R] = func
            kept = 1 if _is_method(func) else 0

            @functools.wraps(func)
            def processed(*args: P.args, **kwargs: P.kwargs) -> S:
                given = [*args[:kept], *(preprocess(value) for value in args[kept:])]
                named = {name: preprocess(value) for name, value in kwargs.items()}
                return postprocess(inner(*given, **named))

            return processed

        return decorate


def _is_method(func: object) -> bool:
    try:
        names = list(inspect.signature(func).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False  # written in C
    return names[:1] in (["self"], ["cls"])
