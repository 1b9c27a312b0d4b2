"""What this piece of work may still do, and who wants to know of it.

Holds: the scope of the running code, in a context variable: one absolute
instant on `time.monotonic` (the soonest of all around it), the tokens by which
it can be cancelled, and the `Work` that it is part of; `sleep` and `check`,
which obey the first two. Does not hold: what is waited for (limits/, service/,
conversation/, calls/ do), what a run makes of its work (calls/), nor threads.
Safe to share between threads; carried into a thread by copying its context.
"""

# ruff: noqa: SLF001 - a token, its parents and who waits for it are one thing
from __future__ import annotations

import math
import os
import threading
import time
import weakref
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, Protocol

from lionlite.display import shown
from lionlite.exceptions import Cancelled, ConfigError, DeadlineExceeded
from lionlite.value import Value, changed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

    from lionlite.records import CallRecord

FOREVER_S = math.inf

Waiting = Literal["budget", "reply"]
"""What a chat can wait for: its share of the budget, or the provider."""


class RememberedChat(Protocol):
    """One chat of an item, as its run remembers it."""

    @property
    def reply(self) -> bytes | None:
        """What an earlier run kept for it, None if it must be sent."""

    @property
    def name(self) -> str:
        """The same for the same chat in every run: letters, digits, "-", "_", at most 200."""

    def keep(self, reply: bytes) -> None:
        """Keep *reply*; when this returns, no kill can lose it. Never raises."""


class Work(Protocol):
    """The item of a run that the running code is part of.

    A run (calls/) puts it into the scope of each item; whoever does the work
    (service/) tells it. An item may use threads: every method may be called in
    any of them, must not block on anything but a disk, and must not raise.
    """

    @property
    def remembers(self) -> bool:
        """Whether finished chats are kept, so that `chat` is of use."""

    def chat(self, request: bytes) -> RememberedChat:
        """Return what is remembered of this chat, and count it.

        Args:
            request: What tells it from other chats: a hash of where it goes
                and of all that is asked. The n-th chat of an item with the
                same request is the n-th one kept for it.
        """

    def waits(self, what: Waiting) -> None:
        """Note that a chat begins to wait; `goes_on` will follow."""

    def goes_on(self, what: Waiting) -> None:
        """Note that a wait is over, however it ended."""

    def ended(self, record: CallRecord) -> None:
        """Note that a chat ended, well or not."""


class CancelToken:
    """A way to stop all work that was started under it.

    Args:
        *parents: Tokens whose cancelling cancels this one too.

    Threads: any thread may cancel, any thread may wait.
    """

    __slots__ = (
        "__weakref__",
        "_above",
        "_have_all_woken",
        "_is_cancelled",
        "_lock",
        "_wakers",
    )

    def __init__(self, *parents: CancelToken) -> None:
        # All above it, each once; not itself, which would be a cycle.
        above: list[CancelToken] = []
        for parent in parents:
            line = (parent, *parent._above)
            above += [token for token in line if token not in above]
        self._above: tuple[CancelToken, ...] = tuple(above)
        self._is_cancelled = False
        self._have_all_woken = False
        # Held while a cancel runs the wakers, which must not block. Adding and
        # dropping one, at every wait of every thread, does without: each is one
        # step of the interpreter, and only then looks whether a cancel came.
        self._lock = threading.Lock()
        self._wakers: dict[int, Callable[[], None]] = {}
        _tokens.add(self)

    @property
    def is_cancelled(self) -> bool:
        """Whether this token or one above it was cancelled."""
        if self._is_cancelled:
            return True
        for token in self._above:  # noqa: SIM110 - any() of a generator costs three times as much
            if token._is_cancelled:
                return True
        return False

    def cancel(self) -> None:
        """Cancel all work under this token and wake everything that waits.

        Threads: safe anywhere; a second call does nothing, unless Ctrl-C cut
        the first one short.
        """
        with self._lock:
            if self._have_all_woken:
                return
            self._is_cancelled = True
            for waker in self._wakers.copy().values():
                waker()
            self._have_all_woken = True

    def woken_by(self, waker: Callable[[], None]) -> AbstractContextManager[None]:
        """Have *waker* called, inside the `with`, when the token or one above is cancelled.

        If it is cancelled already, *waker* is called at once. *waker* runs in
        the cancelling thread, must not block and must not raise; it may be
        called twice, but never once the `with` has been left.
        """
        return _Woken((self, *self._above), waker)

    def _renew_after_fork(self) -> None:  # pragma: no cover - only in forked children
        # The threads that held the lock or waited do not exist in the child.
        self._lock = threading.Lock()
        self._wakers = {}


class _Woken:
    """A waker, known to some tokens inside the `with`."""

    # A class: a generator would cost each exchange several times as much. It
    # reaches into the tokens, being part of them.
    __slots__ = ("_tokens", "_waker")

    def __init__(self, tokens: tuple[CancelToken, ...], waker: Callable[[], None]) -> None:
        self._tokens = tokens
        self._waker = waker

    def __enter__(self) -> None:
        try:
            for token in self._tokens:
                token._wakers[id(self)] = self._waker
                if token._is_cancelled:
                    self._waker()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for token in self._tokens:
            token._wakers.pop(id(self), None)
            if token._is_cancelled:
                # A cancel under way may have seen the waker: let it finish.
                with token._lock:
                    continue


_tokens: weakref.WeakSet[CancelToken] = weakref.WeakSet()


def _after_fork_in_child() -> None:  # pragma: no cover - only in forked children
    for token in list(_tokens):
        token._renew_after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Scope(Value, frozen=True):
    """What the running code may do.

    Attributes:
        ends_at_s: The instant on `time.monotonic` at which it must have
            ended, in seconds; infinite when nothing bounds it.
        token: By which it can be cancelled, None when nothing can.
        work: The item of a run that it is part of, None outside of runs.
    """

    ends_at_s: float = FOREVER_S
    token: CancelToken | None = None
    work: Work | None = None

    @property
    def tokens(self) -> tuple[CancelToken, ...]:
        """The token as a tuple, empty when there is none."""
        return () if self.token is None else (self.token,)

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, negative after it, infinite without one."""
        return self.ends_at_s - time.monotonic()

    def check(self, phase: str) -> None:
        """Raise if the work must stop now.

        Args:
            phase: What the work is doing, for the error.

        Raises:
            Cancelled: The scope was cancelled.
            DeadlineExceeded: The deadline has passed.
        """
        if self.token is not None and self.token.is_cancelled:
            msg = "The call was cancelled."
            raise Cancelled(msg)
        if self.ends_at_s != FOREVER_S and time.monotonic() >= self.ends_at_s:
            raise too_late(phase)

    def woken_by(self, waker: Callable[[], None]) -> AbstractContextManager[None]:
        """Have *waker* called when the scope is cancelled (see `CancelToken`)."""
        return _NEVER if self.token is None else self.token.woken_by(waker)


_NEVER: AbstractContextManager[None] = nullcontext()
_UNBOUNDED = Scope()
_current: ContextVar[Scope] = ContextVar("lionlite_scope", default=_UNBOUNDED)


def current() -> Scope:
    """Return the scope of the running code."""
    return _current.get()


def too_late(phase: str) -> DeadlineExceeded:
    """Return the error for a deadline that passed during *phase*."""
    msg = f"The deadline passed during: {phase}. Give more time with timeout= or deadline()."
    return DeadlineExceeded(msg, phase=phase)


def enter(scope: Scope) -> None:
    """Make *scope* that of all that follows in this context.

    Only for code that has a context of its own (`copy_context().run`), which
    ends with it; elsewhere use `entered`.
    """
    _current.set(scope)


class entered:  # noqa: N801 - reads as a statement: with entered(scope):
    """Make *scope* the scope of the code inside the `with`.

    Threads: one instance may be entered once at a time.
    """

    __slots__ = ("_before", "_scope")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._before: Scope | None = None

    def __enter__(self) -> Scope:
        self._before = before = _current.get()
        try:
            _current.set(self._scope)
        except BaseException:
            # Ctrl-C: there will be no __exit__.
            _current.set(before)
            raise
        return self._scope

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Not where it is not ours: a generator may be closed in another context.
        if self._before is not None and _current.get() is self._scope:
            _current.set(self._before)


@contextmanager
def cancellable() -> Iterator[CancelToken]:
    """Run the code inside the `with` under a new token, and yield the token."""
    outer = current()
    token = CancelToken(*outer.tokens)
    with entered(changed(outer, token=token)):
        yield token


class deadline:  # noqa: N801 - reads as a statement: with deadline(8):
    """Bound everything inside the `with` to *seconds*, all waiting included.

    Nested deadlines: the soonest counts. Carried into the workers of `lcall`
    and `alcall`. Entering yields the `Scope`, whose `left_s` tells the time left.

    Args:
        seconds: Total time, in seconds, >= 0, counted from entering.

    Raises:
        ConfigError: *seconds* is not a number >= 0.

    Threads: one instance may be entered once at a time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds_from(seconds, name="deadline()")
        self._entered: list[AbstractContextManager[Scope]] = []

    def __enter__(self) -> Scope:
        outer = current()
        ends_at_s = min(outer.ends_at_s, time.monotonic() + self._seconds)
        inner = entered(changed(outer, ends_at_s=ends_at_s))
        self._entered.append(inner)
        return inner.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._entered.pop().__exit__(kind, error, trace)


def seconds_from(value: float, *, name: str) -> float:
    """Return *value* as seconds, >= 0; what no lock can wait (292 years) is for ever.

    Raises:
        ConfigError: *value* is not a number, is NaN, or is negative.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return float(value) if value <= threading.TIMEOUT_MAX else FOREVER_S
    msg = f"{name} takes seconds, a number >= 0; got {shown(value)}."
    raise ConfigError(msg)


def sleep(seconds: float, *, phase: str) -> None:
    """Wait *seconds*, but not past the deadline and not after a cancel.

    Raises:
        Cancelled: The scope was or is cancelled.
        DeadlineExceeded: The wait would end at or after the deadline; raised
            at once, since the work after the wait could not be done either.

    Threads: blocks the calling thread only.
    """
    scope = current()
    scope.check(phase)
    if seconds >= scope.left_s:
        raise too_late(phase)
    woken = threading.Event()
    with scope.woken_by(woken.set):
        woken.wait(seconds)
    scope.check(phase)
