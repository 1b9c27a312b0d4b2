"""Whether and when a failed call is tried again, and the loop that does it.

Holds: `Patience`, and `within`, which bounds one call. Does not hold: which
arguments the public functions take (single.py, decorators/cd.py), nor retries of
one request to a provider, which the service does by itself, below this.
Values, so safe anywhere.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import attrs

from lionlite import scope
from lionlite.calls.asked import whole
from lionlite.calls.verdict import is_fatal
from lionlite.exceptions import Cancelled, ConfigError, LionError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

MAX_RETRY_AFTER_S = 120.0
"""An error that asks for a longer wait is handed to the caller, who decides: a broken header must
not park a thread. The service has the same bound."""


@attrs.frozen
class Patience:
    """How often a call is tried again, and how long it waits in between.

    Attributes:
        retries: More attempts after the first, >= 0.
        delay_s: Seconds before the second attempt.
        backoff_factor: By which each wait is longer than the one before.
        timeout_s: Seconds that each attempt has, None = as many as it takes.
    """

    retries: int
    delay_s: float
    backoff_factor: float
    timeout_s: float | None = None

    def wait_s(self, error: BaseException, *, failed: int) -> float | None:
        """Return how long to wait before the next attempt, None to give up.

        Args:
            error: With which the last attempt ended.
            failed: Attempts that failed so far, >= 1.

        Returns:
            Seconds, >= 0: our own backoff, or what the error asks for if that
            is longer; the caller must not wait past its deadline.

        Threads: pure.
        """
        if failed > self.retries or is_final(error) or isinstance(error, ConfigError):
            return None
        asked_s = _asked_s(error)
        if asked_s > MAX_RETRY_AFTER_S:
            return None
        return min(max(self._backoff_s(failed), asked_s), threading.TIMEOUT_MAX)

    def _backoff_s(self, failed: int) -> float:
        if not self.delay_s:
            return 0.0
        try:
            return self.delay_s * float(self.backoff_factor) ** (failed - 1)
        except OverflowError:
            return scope.FOREVER_S

    def call(self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *func* until it succeeds, and return its value.

        Raises:
            BaseException: The error of the last attempt, let through as it is.
            Cancelled: The scope was cancelled during a wait.

        Threads: waits in the calling thread only.
        """
        failed = 0
        while True:
            try:
                return within(self.timeout_s, func, *args, **kwargs)
            except Exception as error:
                failed += 1
                wait_s = self.wait_s(error, failed=failed)
                if wait_s is None or wait_s >= scope.current().left_s:
                    raise
            scope.sleep(wait_s, phase="backoff")


def patience_from(
    retries: object, delay: float, backoff_factor: float, timeout: float | None = None
) -> Patience:
    """Return the `Patience` for arguments as users give them.

    Raises:
        ConfigError: One of them is wrong.
    """
    return Patience(
        retries=whole(retries, name="retries", least=0),
        # No infinity: times a factor of 0 it would be no number.
        delay_s=min(scope.seconds_from(delay, name="delay"), threading.TIMEOUT_MAX),
        backoff_factor=_factor_from(backoff_factor),
        timeout_s=None if timeout is None else scope.seconds_from(timeout, name="timeout"),
    )


def within(
    timeout_s: float | None, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> R:
    """Return what *func* returns when all its waiting must end in *timeout_s*.

    Raises:
        BaseException: What *func* raises.
        DeadlineExceeded: Before the call, if there is no time left for it.
        Cancelled: Before the call, if the scope is cancelled.

    Threads: calls *func* in the calling thread.
    """
    if timeout_s is None:
        scope.current().check("call")
        return func(*args, **kwargs)
    with scope.deadline(timeout_s) as inner:
        inner.check("call")
        return func(*args, **kwargs)


def is_final(error: BaseException) -> bool:
    """Return whether nothing may stand in for *error*: no default, no None.

    That is a cancel and every error after it, an error after which every other
    call would fail in the same way, and what is no `Exception`, such as Ctrl-C.
    """
    if isinstance(error, Cancelled) or not isinstance(error, Exception) or is_fatal(error):
        return True
    # Functions wrap the errors of their chats in errors of their own.
    return any(token.is_cancelled for token in scope.current().tokens)


def _factor_from(value: float) -> float:
    # NaN is not >= 0 either.
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return value
    msg = f"backoff_factor must be a number >= 0; got {value!r}."
    raise ConfigError(msg)


def _asked_s(error: BaseException) -> float:
    return (error.retry_after_s or 0.0) if isinstance(error, LionError) else 0.0
