"""A chat completions provider on this machine, for tests and demonstrations.

Holds: `FakeProvider`, the public face. Does not hold: what happens to a
request (endpoint.py) or the sockets (server.py). Light to import: the standard
library and attrs, as pytest loads it in every run. Safe to share between threads.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

import lionlite
from lionlite.display import once_made
from lionlite.exceptions import ConfigError
from lionlite.testing.endpoint import Endpoint
from lionlite.testing.log import ReceivedRequest, RequestLog
from lionlite.testing.report import Report, report_on
from lionlite.testing.script import Script
from lionlite.testing.server import HttpServer
from lionlite.testing.settings import Charge, Settings, check_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from lionlite.service.service import Service
    from lionlite.testing.fault import FakeReply


class FakeProvider:
    """A real HTTP server on 127.0.0.1 that speaks OpenAI chat completions.

    It keeps a strict rate limit, fails when it is told to, and logs every
    request with the instant of its arrival. POST /v1/chat/completions and GET
    /v1/models are the provider's; GET /report is the `report()` as JSON. A
    request with "stream" gets its reply in pieces; it stops making them when
    the client closes its end of the connection.

    ```python
    with FakeProvider("hello", max_requests=10, interval_s=1.0) as provider:
        service = provider.service()
    ```

    Args:
        reply: What to answer: a text; a mapping (the assistant message, or a
            whole body if it has `choices`); a `FakeStream`; a `Fault`; a
            function of the decoded request that returns one of these; or a
            sequence of them, each used once, and error 500 "script exhausted"
            after the last.
        model: The name in GET /v1/models and in `service()`. Requests for
            other models are answered all the same.
        latency_s: Seconds from arrival to reply, or a function that returns
            them for each request. Refusals are sent at once.
        max_requests: Requests in any window, >= 1; None is no limit.
        max_tokens: Tokens in any window, >= 1; None is no limit.
        interval_s: Length of a window in seconds. Each request is judged by
            every window that would hold it; refused ones use up nothing.
        charge: What a request costs of *max_tokens*. "estimate": its input
            tokens and its max_completion_tokens or max_tokens (16 if it has
            neither), at arrival, never corrected. "adjust": the same,
            corrected to the real usage when the reply is made. "usage": the
            real usage, at that instant; an arrival is let in while a token is
            left.
        rate_limit_headers: Whether replies tell limit, rest and reset in
            x-ratelimit-* headers.
        api_key: The only key that is let in; None lets everyone in.
        port: Where to listen; 0 is any free port.
        bytes_per_token: UTF-8 bytes that count as one token. A message costs
            its content, rounded up, + 4; a request 3 more; a reply its
            content, at least 1.
        keep_bodies: Whether the log keeps headers and bodies. False saves
            memory over millions of requests.
        stream_delay_s: Seconds between two pieces of a streamed reply.

    Raises:
        ConfigError: An argument makes no sense; the message names it.

    Threads: all methods may be called from any thread.

    .. versionadded:: 0.1.0
    """

    def __init__(
        self,
        reply: FakeReply | Sequence[FakeReply] = "ok",
        *,
        model: str = "fake-model",
        latency_s: float | Callable[[], float] = 0.0,
        max_requests: int | None = None,
        max_tokens: int | None = None,
        interval_s: float = 60.0,
        charge: Charge = "estimate",
        rate_limit_headers: bool = True,
        api_key: str | None = None,
        port: int = 0,
        bytes_per_token: float = 4.0,
        keep_bodies: bool = True,
        stream_delay_s: float = 0.0,
    ) -> None:
        self._settings = Settings(
            model=model,
            latency_s=latency_s,
            max_requests=max_requests,
            max_tokens=max_tokens,
            interval_s=interval_s,
            charge=charge,
            rate_limit_headers=rate_limit_headers,
            api_key=api_key,
            port=port,
            bytes_per_token=bytes_per_token,
            keep_bodies=keep_bodies,
            stream_delay_s=stream_delay_s,
        )
        self._script = Script(reply)
        self._log = RequestLog()
        self._lock = threading.Lock()  # guards _server and _is_closed
        self._server: HttpServer | None = None
        self._is_closed = False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @once_made
    def __repr__(self) -> str:
        where = f"port={self._server.port}" if self._server else "not started"
        return f"FakeProvider({where}, model={self.model!r}, requests={len(self.requests)})"

    @property
    def model(self) -> str:
        """The name of its model."""
        return self._settings.model

    @property
    def base_url(self) -> str:
        """Where it listens, such as "http://127.0.0.1:49152/v1".

        Raises:
            ConfigError: It was not started.
        """
        if self._server is None:
            msg = "This FakeProvider has no address yet: use it with 'with', or call start()."
            raise ConfigError(msg)
        return f"http://127.0.0.1:{self._server.port}/v1"

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """Every request that arrived in full, but those to /report; a snapshot."""
        return self._log.snapshot()

    def start(self) -> Self:
        """Listen. A second call does nothing.

        Raises:
            ConfigError: The port is taken, or the provider was closed.
        """
        with self._lock:
            if self._is_closed:
                msg = "This FakeProvider was closed: make a new one."
                raise ConfigError(msg)
            if self._server is None:
                closing = threading.Event()
                endpoint = Endpoint(
                    self._settings, script=self._script, log=self._log, closing=closing
                )
                self._server = HttpServer(
                    endpoint.respond, port=self._settings.port, closing=closing
                )
        return self

    def close(self) -> None:
        """Cut every connection and stop, within a second.

        Requests that wait or hang are dropped without a reply. The log stays
        readable. A second call does nothing.
        """
        with self._lock:
            self._is_closed = True
            server = self._server
        self._log.close()
        if server is not None:
            server.close()

    def script(self, *replies: FakeReply) -> None:
        """Answer the next requests with *replies*, before anything else.

        Args:
            replies: Whatever the constructor takes as *reply*.

        Raises:
            ConfigError: One of them is nothing that can be replied.
        """
        self._script.put_in_front(replies)

    def wait_for(self, count: int, timeout_s: float = 5.0) -> bool:
        """Wait until *count* requests have arrived in all.

        Args:
            count: Of the whole log, as in `len(requests)`.
            timeout_s: The longest wait in seconds.

        Returns:
            Whether they arrived; False at once when the provider is closed.

        Raises:
            ConfigError: *timeout_s* is negative or not finite.
        """
        return self._log.wait_for(count, check_seconds("timeout_s", timeout_s))

    def wait_for_ended(self, count: int, timeout_s: float = 5.0) -> bool:
        """Wait until *count* requests have ended: answered, failed, or left.

        Args:
            count: Of the whole log. A request that hangs never ends.
            timeout_s: The longest wait in seconds.

        Returns:
            Whether they ended; False at once when the provider is closed.

        Raises:
            ConfigError: *timeout_s* is negative or not finite.
        """
        return self._log.wait_for_ended(count, check_seconds("timeout_s", timeout_s))

    def report(self) -> Report:
        """Return counts over the whole log, and its fullest windows."""
        return report_on(self._log.snapshot(), self._settings)

    def service(self, **overrides: Any) -> Service:
        """Return a `Service` for this provider, with a key that it takes.

        Args:
            overrides: Keyword arguments of `Services.Compatible`, such as
                *max_requests*; they win over the provider's own.

        Raises:
            ConfigError: It was not started, or an override makes no sense.
        """
        key = self._settings.api_key or "fake-key"
        return service_at(self.base_url, overrides, api_key=key, model=self.model)


def service_at(base_url: str, overrides: Mapping[str, Any], *, api_key: str, model: str) -> Service:
    """Return a `Service` for a server of ours; *overrides* win.

    Raises:
        ConfigError: An override makes no sense.
    """
    own = {"base_url": base_url, "api_key": api_key, "model": model}
    return lionlite.Services.Compatible(**{**own, **overrides})
