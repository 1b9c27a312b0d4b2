"""Exchanges through an HTTP client that the user made: httpx, or its successor httpx2.

Holds: the translation between such a client and our contract. Does not hold:
connections; they are the client's. Safe to share between threads as far as the
client is. Neither package is imported here: a client is known by what it does.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from lionlite import scope
from lionlite.exceptions import ConfigError, ConnectionFailed, LionError
from lionlite.service.transport.decode import too_large
from lionlite.service.transport.streamed import MAX_STREAM_BYTES, OpenReply, too_quiet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lionlite.service.transport.connect import Origin
    from lionlite.service.transport.exchange import Milestones
    from lionlite.service.transport.parse import RawReply

_MADE_BY_CLIENT = frozenset({"host", "content-length"})

_PHASES = {"ConnectTimeout": "connect", "PoolTimeout": "connect", "WriteTimeout": "send"}


class _Response(Protocol):
    status_code: int
    headers: Mapping[str, str]

    def iter_raw(self) -> Iterator[bytes]: ...
    def close(self) -> None: ...


class Borrowed:
    """Take a client of the user's as a way to *origin*, as well as it can be done.

    The client keeps no deadline, so each of its steps (connecting, a read, a
    write) gets the time that is left, and the deadline is looked at between
    pieces: a server that drips can overrun it by one step. A cancel is noticed
    between pieces, not inside a wait. The rate budget takes a request for sent
    when its reply begins. A stream dropped unread is closed by the next call.
    The client's own headers, cookies, hooks, proxies and limits apply; its
    `auth`, `timeout` and `follow_redirects` do not, and ours win over its headers.

    Args:
        client: An `httpx.Client`, or one of httpx2; stays the user's to close.
        origin: Where the provider is.

    Raises:
        ConfigError: *client* is none that we know.

    Threads: safe to share; one `httpx.Client` gets slow above some 30 threads.
    """

    def __init__(self, client: Any, origin: Origin) -> None:
        is_known = all(callable(getattr(client, name, None)) for name in ("send", "build_request"))
        if not is_known or hasattr(client, "aclose") or isinstance(client, type):
            msg = f"http_client= takes an httpx.Client or httpx2.Client; got {_name_of(client)}."
            raise ConfigError(msg)
        self._client = client
        scheme = "https" if origin.is_tls else "http"
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        self._base = f"{scheme}://{host}:{origin.port}"
        # Dropped streams: closing takes the client's locks, which garbage collection must not.
        self._dropped: deque[_Response] = deque()

    @property
    def idle_count(self) -> int:
        """Connections that wait to be used: none that we know of."""
        return 0

    def exchange(self, request: memoryview, milestones: Milestones) -> RawReply:
        """Send *request* with the client and return the reply.

        Raises:
            ConnectionFailed: Whatever of the client's failed.
            ResponseError: The reply has a coding we do not read, or passes a cap.
            DeadlineExceeded: The scope's deadline passed.
            Cancelled: The scope was cancelled.
        """
        reply = self.open(request, milestones)
        try:
            return reply.read()
        finally:
            reply.close()

    def open(
        self, request: memoryview, milestones: Milestones, *, idle_s: float | None = None
    ) -> OpenReply:
        """Send *request* with the client and return the reply once its head is complete.

        Raises:
            LionError: As `exchange`.
        """
        self._close_dropped()
        opened = scope.current()
        opened.check("send")
        response = self._sent(request, milestones, opened, idle_s)
        try:
            headers = {name.lower(): value for name, value in response.headers.items()}
            body = _Body(response, opened, idle_s, self._dropped)
            return OpenReply(response.status_code, headers, body)
        except BaseException:
            response.close()
            raise

    def close(self) -> None:
        """Close what was dropped; the client stays the user's."""
        self._close_dropped()

    def _close_dropped(self) -> None:
        while True:
            try:
                self._dropped.pop().close()
            except IndexError:
                return

    def _sent(
        self,
        request: memoryview,
        milestones: Milestones,
        opened: scope.Scope,
        idle_s: float | None,
    ) -> _Response:
        try:
            message = self._client.build_request(**self._message(request, opened, idle_s))
            response: _Response = self._client.send(
                message, stream=True, auth=None, follow_redirects=False
            )
        except Exception as exc:  # noqa: BLE001 - the client's, its transport's and its hooks'
            failure = _failure(exc, idle_s, opened)
        else:
            milestones.sent()
            milestones.replied()
            return response
        milestones.sent()
        # Outside of the except block: frames of the client hold the key.
        raise failure

    def _message(
        self, request: memoryview, opened: scope.Scope, idle_s: float | None
    ) -> dict[str, Any]:
        """Return the arguments that make the client build *request*."""
        head, _, body = bytes(request).partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        named = [tuple(field.split(": ", 1)) for field in fields]
        left_s = None if opened.ends_at_s == math.inf else max(opened.left_s, 0.001)
        times_s = [seconds for seconds in (left_s, idle_s) if seconds is not None]
        timeout = dict.fromkeys(("connect", "write", "pool"), left_s)
        return {
            "method": method,
            "url": self._base + target,
            "headers": [pair for pair in named if pair[0].lower() not in _MADE_BY_CLIENT],
            "content": body,
            "extensions": {"timeout": {**timeout, "read": min(times_s, default=None)}},
        }


class _Body:
    """The rest of a reply that the client reads."""

    def __init__(
        self,
        response: _Response,
        opened: scope.Scope,
        idle_s: float | None,
        dropped: deque[_Response],
    ) -> None:
        self._response = response
        self._pieces = response.iter_raw()
        self._opened = opened
        self._idle_s = idle_s
        self._dropped = dropped
        self._count = 0

    def more(self) -> bytes | None:
        self._check()
        try:
            piece = next(self._pieces, None)
        except Exception as exc:  # noqa: BLE001 - the client's, and its transport's
            failure = _failure(exc, self._idle_s, self._opened, scope.current())
        else:
            self._check()
            self._count += len(piece or b"")
            if self._count > MAX_STREAM_BYTES:
                raise too_large(MAX_STREAM_BYTES)
            return piece
        raise failure

    def release(self) -> None:
        self._response.close()

    def abandon(self) -> None:
        self._dropped.append(self._response)

    def _check(self) -> None:
        self._opened.check("read")
        scope.current().check("read")


def _failure(exc: Exception, idle_s: float | None, *scopes: scope.Scope) -> LionError:
    """Return what the client's error means to us, without anything it holds."""
    names = {cls.__name__ for cls in type(exc).__mro__}
    phase = next((phase for name, phase in _PHASES.items() if name in names), "read")
    for one in scopes:
        try:
            one.check(phase)
        except LionError as ours:
            return ours
    if "TimeoutException" in names:
        return too_quiet(idle_s) if phase == "read" and idle_s else scope.too_late(phase)
    system = _system_error(exc)
    detail = f"{_name_of(exc)}{f' ({system})' if system else ''}"
    return ConnectionFailed(f"The http_client failed: {detail}.", retryable=_may_pass(names))


def _may_pass(names: set[str]) -> bool:
    return "TransportError" in names and not names & {"UnsupportedProtocol", "LocalProtocolError"}


def _system_error(exc: BaseException | None) -> str | None:
    """Return what the system said, if an error of it is the reason for *exc*."""
    for _ in range(10):
        if exc is None or isinstance(exc, OSError):
            break
        exc = exc.__cause__ or exc.__context__
    return exc.strerror if isinstance(exc, OSError) else None


def _name_of(value: object) -> str:
    return (value if isinstance(value, type) else type(value)).__name__
