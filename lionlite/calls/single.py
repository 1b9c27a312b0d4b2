"""`tcall` and `rcall`: one function called once, or until it succeeds.

Holds: the two public functions. Does not hold: the rule of retries (again.py),
nor anything with many items (family.py, matrix.py, batches.py). Everything
runs in the calling thread; safe in any.

Where a meaning differs from LionAGI's (0.0.300):

| what | LionAGI | lionlite |
|---|---|---|
| `rcall(retries=N)` | N attempts in all | N more attempts after the first |
| `rcall` after the last failure | sleeps once more | raises at once |
| `rcall(default=None)` | no default | the default is None |
| `rcall(default=...)`, fatal or cancelled | the default | the error |
| `timeout=` | for coroutines only | a deadline for the chats and waits inside |
| `tcall(delay=, timeout=)` | the delay is forgotten | first the delay, then *timeout* seconds |
| `tcall(timing=True)` | the delay included | the call alone |
| `tcall(timing=True, ignore_err=True)` on an error | None | (None, seconds) |
| `tcall(err_msg=...)` | printed | a note on the error, or a logged warning |
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from lionlite import scope
from lionlite.calls.again import is_final, patience_from, within
from lionlite.calls.asked import name_of
from lionlite.calls.plain import require_plain
from lionlite.calls.verdict import describe
from lionlite.exceptions import ConfigError
from lionlite.unset import UNSET, UnsetType

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")
D = TypeVar("D")

_log = logging.getLogger("lionlite")


@overload
def tcall(
    func: Callable[..., R],
    /,
    *args: Any,
    delay: float = ...,
    err_msg: str | None = ...,
    ignore_err: Literal[False] = ...,
    timing: Literal[False] = ...,
    timeout: float | None = ...,
    **kwargs: Any,
) -> R: ...
@overload
def tcall(
    func: Callable[..., R],
    /,
    *args: Any,
    delay: float = ...,
    err_msg: str | None = ...,
    ignore_err: Literal[True],
    timing: Literal[False] = ...,
    timeout: float | None = ...,
    **kwargs: Any,
) -> R | None: ...
@overload
def tcall(
    func: Callable[..., R],
    /,
    *args: Any,
    delay: float = ...,
    err_msg: str | None = ...,
    ignore_err: Literal[False] = ...,
    timing: Literal[True],
    timeout: float | None = ...,
    **kwargs: Any,
) -> tuple[R, float]: ...
@overload
def tcall(
    func: Callable[..., R],
    /,
    *args: Any,
    delay: float = ...,
    err_msg: str | None = ...,
    ignore_err: Literal[True],
    timing: Literal[True],
    timeout: float | None = ...,
    **kwargs: Any,
) -> tuple[R | None, float]: ...
def tcall(
    func: Callable[..., R],
    /,
    *args: Any,
    delay: float = 0,
    err_msg: str | None = None,
    ignore_err: bool = False,
    timing: bool = False,
    timeout: float | None = None,
    **kwargs: Any,
) -> R | tuple[R | None, float] | None:
    """Call *func* once, later, under a deadline or timed, and return its value.

    *func* runs in the calling thread. *timeout* bounds all that waits in
    lionlite inside it: chats, their retries, `lcall`, other waits. It cannot
    interrupt a function that is stuck in I/O of its own, and starts no thread
    that it would have to abandon, to go on and spend money; such a function
    returns late, and its value counts.

    Args:
        func: A plain function. Parameters of its own that are called like one
            of ours are given through `functools.partial`.
        *args: For *func*.
        delay: Seconds to wait before the call; cut by a deadline around it.
        err_msg: What to say of an error: a note on it, or, if it is ignored,
            the beginning of a warning in the log.
        ignore_err: Return None instead of raising. A cancel, Ctrl-C and an
            error with a true `.fatal` are raised all the same.
        timing: Return (value, seconds of the call without *delay*).
        timeout: Seconds that the call has, after *delay*; None = no bound of
            its own.
        **kwargs: For *func*.

    Returns:
        The value, None after an ignored error; with *timing* a tuple.

    Raises:
        ConfigError: An argument is wrong; nothing was called.
        DeadlineExceeded: *timeout*, or a deadline around the call, passed.
        Cancelled: The scope around the call was cancelled.
        BaseException: What *func* raised, as it is.

    Threads: safe anywhere.
    """
    require_plain(func, where="tcall()")
    delay_s = scope.seconds_from(delay, name="delay")
    timeout_s = None if timeout is None else scope.seconds_from(timeout, name="timeout")
    if not (err_msg is None or isinstance(err_msg, str)):
        msg = f"err_msg must be a str; got {type(err_msg).__name__}."
        raise ConfigError(msg)
    if delay_s:
        scope.sleep(delay_s, phase="delay")
    value: R | None = None
    began_s = time.perf_counter()
    try:
        value = within(timeout_s, func, *args, **kwargs)
    except BaseException as error:
        if not ignore_err or is_final(error):
            note(error, err_msg)
            raise
        _log_ignored(func, error, err_msg)
    seconds = time.perf_counter() - began_s
    return (value, seconds) if timing else value


@overload
def rcall(
    func: Callable[..., R],
    /,
    *args: Any,
    retries: int = ...,
    delay: float = ...,
    backoff_factor: float = ...,
    default: UnsetType = ...,
    timeout: float | None = ...,
    **kwargs: Any,
) -> R: ...
@overload
def rcall(
    func: Callable[..., R],
    /,
    *args: Any,
    retries: int = ...,
    delay: float = ...,
    backoff_factor: float = ...,
    default: D,
    timeout: float | None = ...,
    **kwargs: Any,
) -> R | D: ...
def rcall(
    func: Callable[..., R],
    /,
    *args: Any,
    retries: int = 0,
    delay: float = 1.0,
    backoff_factor: float = 2.0,
    default: D | UnsetType = UNSET,
    timeout: float | None = None,
    **kwargs: Any,
) -> R | D:
    """Call *func* until it succeeds, *retries* more times at most.

    The waits are *delay*, *delay* x *backoff_factor*, and so on, or what an
    error's `.retry_after_s` asks for if that is longer (more than 120 s is
    not waited for). No wait goes past the deadline around the call, and none
    follows the last attempt. A cancel, Ctrl-C, a ConfigError and an error with
    a true `.fatal` are not tried again.

    Args:
        func: A plain function. Parameters of its own that are called like one
            of ours are given through `functools.partial`.
        *args: For *func*.
        retries: More attempts after the first, >= 0.
        delay: Seconds before the second attempt.
        backoff_factor: By which each wait is longer than the one before, >= 0.
        default: Returned instead of raising the last error; None too. A
            cancel, Ctrl-C and fatal errors are raised all the same.
        timeout: Seconds that each attempt has, as in `tcall`; None = no bound
            of its own.
        **kwargs: For *func*.

    Returns:
        The value of the attempt that succeeded, else *default*.

    Raises:
        ConfigError: An argument is wrong; nothing was called.
        Cancelled: The scope around the call was cancelled.
        BaseException: The error of the last attempt, as it is.

    Threads: safe anywhere; waits and calls in the calling thread only.
    """
    require_plain(func, where="rcall()")
    patience = patience_from(retries, delay, backoff_factor, timeout)
    try:
        return patience.call(func, *args, **kwargs)
    except Exception as error:
        if default is UNSET or is_final(error):
            raise
        log_default(func, error)
    return default


def note(error: BaseException, text: str | None) -> None:
    """Put *text* on *error*, for whoever reads its traceback."""
    if text is not None:
        # A frozen dataclass takes no note; its error counts more than our word.
        with suppress(Exception):
            error.add_note(text)


def log_default(func: object, error: BaseException) -> None:
    """Log, at level debug, that a default stands in for *error*."""
    _log.debug("%s failed, its default is used: %s", name_of(func), describe(error))


def _log_ignored(func: object, error: BaseException, err_msg: str | None) -> None:
    if err_msg is None:
        _log.debug("%s failed, ignored: %s", name_of(func), describe(error))
    else:
        _log.warning("%s: %s failed, ignored: %s", err_msg, name_of(func), describe(error))
