"""Every error that lionlite raises.

    LionError
    ├── ConfigError (ValueError)         found before any request
    ├── BudgetError                      our own limiter
    │   ├── BudgetTimeout (TimeoutError)     would not be free before the deadline
    │   ├── RequestTooLarge                  can never fit: .dimension .needed .limit
    │   └── BudgetClosed                     the service was closed
    ├── DeadlineExceeded (TimeoutError)  .phase: turn | connect | send | read | backoff
    ├── ServiceError                     the provider, or the way to it
    │   ├── ConnectionFailed                 never reached, or cut
    │   ├── StatusError                      the provider said no
    │   │   ├── BadRequestError              400, 409, 413, 422 and other 4xx
    │   │   ├── AuthenticationError          401 (fatal)
    │   │   ├── PermissionDeniedError        403 (fatal)
    │   │   ├── NotFoundError                404 (fatal: no such model or address)
    │   │   ├── RateLimitError               429 (retryable)
    │   │   ├── QuotaExhausted               402, or 429 that means "no credit" (fatal)
    │   │   └── ServerError                  5xx and 408 (retryable)
    │   └── ResponseError                    2xx that is not what the protocol promises
    │       ├── ResponseTooLarge                 past a cap on head, line or body
    │       └── StreamTruncated                  a stream that stopped before its end
    ├── OutputError                      refusal, nothing said: .reason .text .reply
    ├── CallError                        lcall and its family: .results .failed .run
    ├── CheckpointError                  a checkpoint file that fails: .results .failed .run
    └── Cancelled                        the scope around the call was cancelled
    Interrupted (KeyboardInterrupt)      Ctrl-C, with .results .failed .run

Holds: the tree and the facts that each error carries. Does not hold: the
decision whether to retry (service/retry.py), nor any reading of replies.
No error ever holds an API key. All of them pickle: the message is positional
and everything else is keyword-only with a default. Values, so thread-safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, Unpack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Facts(TypedDict, total=False):
    """The keyword arguments that every `LionError` takes."""

    retryable: bool
    fatal: bool
    attempts: int
    waited_s: float
    retry_after_s: float | None
    request_id: str | None
    status: int | None
    partial: str


class LionError(Exception):
    """Anything that lionlite reports as gone wrong.

    Attributes:
        retryable: Whether the same call may succeed later, unchanged.
        fatal: Whether every other call of the service would fail the same
            way, so that a run over many items stops.
        attempts: Requests sent for this call, 0 if none.
        waited_s: Seconds that the call spent waiting for its own budget.
        retry_after_s: Seconds after which a retry makes sense, None if unknown.
        request_id: The provider's name for the request, None if it gave none.
        status: The HTTP status of the reply, None if there was no reply.
        partial: What a stream had said before it failed, "" otherwise.
    """

    retryable: bool = False
    fatal: bool = False

    def __init__(self, message: str = "", **facts: Unpack[Facts]) -> None:
        super().__init__(message)
        cls = type(self)
        self.retryable = facts.pop("retryable", cls.retryable)
        self.fatal = facts.pop("fatal", cls.fatal)
        self.attempts = facts.pop("attempts", 0)
        self.waited_s = facts.pop("waited_s", 0.0)
        self.retry_after_s = facts.pop("retry_after_s", None)
        self.request_id = facts.pop("request_id", None)
        self.status = facts.pop("status", None)
        self.partial = facts.pop("partial", "")
        if facts:
            msg = f"{cls.__name__} takes no {', '.join(sorted(facts))}"
            raise TypeError(msg)


class ConfigError(LionError, ValueError):
    """An argument or a setting is wrong; found before any request."""


class BudgetError(LionError):
    """Our own budget refused the call; no request was sent."""


class BudgetTimeout(BudgetError, TimeoutError):  # noqa: N818 - the design's name
    """The budget would not be free before the deadline."""

    retryable = True


class RequestTooLarge(BudgetError):  # noqa: N818 - the design's name
    """The request can never fit into the budget, however long it waits.

    Attributes:
        dimension: "requests" or "tokens".
        needed: What the request needs, in units of the dimension.
        limit: What the budget allows per interval.
    """

    def __init__(
        self,
        message: str = "",
        *,
        dimension: str = "",
        needed: int = 0,
        limit: int = 0,
        **facts: Unpack[Facts],
    ) -> None:
        super().__init__(message, **facts)
        self.dimension = dimension
        self.needed = needed
        self.limit = limit


class BudgetClosed(BudgetError):  # noqa: N818 - the design's name
    """The service was closed before the budget granted the call."""


class DeadlineExceeded(LionError, TimeoutError):  # noqa: N818 - the design's name
    """The deadline passed; the call may have been charged by the provider.

    Attributes:
        phase: What the call was doing: "turn", "connect", "send", "read" or
            "backoff"; in `cd` and its like also "call", "delay", "throttle",
            "max_concurrency" or "cache".
    """

    def __init__(self, message: str = "", *, phase: str = "", **facts: Unpack[Facts]) -> None:
        super().__init__(message, **facts)
        self.phase = phase


class ServiceError(LionError):
    """The provider, or the way to it, failed."""


class ConnectionFailed(ServiceError):  # noqa: N818 - the design's name
    """The provider was never reached, or cut the connection."""

    retryable = True


class StatusError(ServiceError):
    """The provider answered with an error.

    Attributes:
        code: The provider's own code, such as "context_length_exceeded".
        body: An excerpt of the reply, without anything that looks like a key.
    """

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        body: str = "",
        **facts: Unpack[Facts],
    ) -> None:
        super().__init__(message, **facts)
        self.code = code
        self.body = body


class BadRequestError(StatusError):
    """The provider refused the request as it is (400, 409, 413, 422, ...)."""


class AuthenticationError(StatusError):
    """The provider does not accept the key (401)."""

    fatal = True


class PermissionDeniedError(StatusError):
    """The key may not do this (403)."""

    fatal = True


class NotFoundError(StatusError):
    """The provider has no such model or address (404)."""

    fatal = True


class RateLimitError(StatusError):
    """The provider's own rate limit was hit (429)."""

    retryable = True


class QuotaExhausted(StatusError):  # noqa: N818 - the design's name
    """The account has no credit left (402, or 429 insufficient_quota)."""

    fatal = True


class ServerError(StatusError):
    """The provider failed (5xx, 408)."""

    retryable = True


class ResponseError(ServiceError):
    """A reply with status 2xx is not what the protocol promises.

    Attributes:
        body: An excerpt of the reply, without anything that looks like a key.
    """

    retryable = True

    def __init__(self, message: str = "", *, body: str = "", **facts: Unpack[Facts]) -> None:
        super().__init__(message, **facts)
        self.body = body


class ResponseTooLarge(ResponseError):  # noqa: N818 - the design's name
    """The reply passed the cap on its head, a line or its body."""

    retryable = False


class StreamTruncated(ResponseError):  # noqa: N818 - the design's name
    """A stream stopped before the model's answer was complete; see `.partial`."""


class OutputError(LionError):
    """The model answered, but there is no answer to give back.

    Attributes:
        reason: "refusal", "length", "content_filter", "tool_calls" or "empty".
        text: What the model said, which may be nothing.
        reply: The whole `Reply`, None if there is none.
    """

    def __init__(
        self,
        message: str = "",
        *,
        reason: str = "",
        text: str = "",
        reply: Any = None,
        **facts: Unpack[Facts],
    ) -> None:
        super().__init__(message, **facts)
        self.reason = reason
        self.text = text
        self.reply = reply


class CallError(LionError):
    """Some items of a mapping call failed; everything finished is here.

    Attributes:
        results: One place per item pulled, in input order: its value, or None
            where the item failed or never ran.
        failed: The index of each failed item and its error.
        run: The `Run` so far, None where there is none.
    """

    def __init__(
        self,
        message: str = "",
        *,
        results: Sequence[Any] = (),
        failed: Mapping[int, BaseException] | None = None,
        run: Any = None,
        **facts: Unpack[Facts],
    ) -> None:
        super().__init__(message, **facts)
        self.results = list(results)
        self.failed = dict(failed or {})
        self.run = run


class CheckpointError(LionError):
    """A checkpoint cannot be opened, read or written; everything finished is here.

    Attributes:
        results: One place per item pulled, in input order: its value, or None
            where the item failed or never ran; empty if none was started.
        failed: The index of each failed item and its error.
        run: The `Run` so far, None where there is none.
    """

    fatal = True

    def __init__(
        self,
        message: str = "",
        *,
        results: Sequence[Any] = (),
        failed: Mapping[int, BaseException] | None = None,
        run: Any = None,
        **facts: Unpack[Facts],
    ) -> None:
        super().__init__(message, **facts)
        self.results = list(results)
        self.failed = dict(failed or {})
        self.run = run


class Cancelled(LionError):  # noqa: N818 - the design's name
    """The scope around the call was cancelled."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a mapping call; everything finished is here.

    Attributes:
        results: One place per item pulled, in input order: its value, or None
            where the item failed or did not finish.
        failed: The index of each failed item and its error.
        run: The `Run` so far, None where there is none.
    """

    def __init__(
        self,
        message: str = "",
        *,
        results: Sequence[Any] = (),
        failed: Mapping[int, BaseException] | None = None,
        run: Any = None,
    ) -> None:
        super().__init__(message)
        self.results = list(results)
        self.failed = dict(failed or {})
        self.run = run
