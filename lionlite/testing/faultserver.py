"""A provider that fails at the socket, in every way of the catalogue.

Holds: `FaultServer`, the public face, and its script. Does not hold: the
faults (faults/) or the sockets (server.py). Safe to share between threads.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

import attrs

from lionlite.display import once_made
from lionlite.exceptions import ConfigError
from lionlite.testing.faults.catalogue import FAULTS
from lionlite.testing.faults.wirefault import Asked, WireFault, healthy
from lionlite.testing.log import ReceivedRequest, RequestLog, masked
from lionlite.testing.message import Head, HttpRequest, Step, SteppedReply
from lionlite.testing.provider import service_at
from lionlite.testing.server import HttpServer
from lionlite.testing.settings import check_seconds

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator, Iterable, Sequence
    from types import TracebackType

    from lionlite.service.service import Service

TEXT = "The quick brown fox jumps over the lazy dog."
MAX_CONNECTIONS = 512

HEALTHY = WireFault(
    name="healthy",
    group="network",
    does="Answers as a provider in good health does.",
    plays=healthy,
    after="keep",
    is_harmless=True,
)
"""What is played when no fault is left."""


class FaultServer:
    """A chat completions provider on 127.0.0.1 that fails when it is told to.

    It plays real bytes on real sockets: resets, lies about lengths, drips,
    broken HTTP, JSON and streams. `FAULTS` names them all, and says of each
    whether a client should answer all the same.

    ```python
    with FaultServer(["rst_mid_body", "status_503"]) as server, server.service() as service:
        reply = service.send(messages)  # both are tried again; the third answers
    assert len(server.requests) == 3
    ```

    Args:
        faults: One name, played on every request; or a sequence of names, each
            played once, after which every request is answered; a `WireFault`
            may stand for a name. None answers everything.
        text: What the answers say; a stream sends it in pieces of a word.
        pause_s: Seconds between two bytes of the faults that drip.
        tls: Speak TLS with this context, at https://127.0.0.1.
        model: The model of `service()`.

    Raises:
        ConfigError: There is no such fault, or *pause_s* is no length of time.

    Threads: all methods may be called from any thread. Each open connection
    has a thread of its own, at most 512; more wait in the system's queue.

    .. versionadded:: 0.1.0
    """

    def __init__(
        self,
        faults: str | WireFault | Sequence[str | WireFault] | None = None,
        *,
        text: str = TEXT,
        pause_s: float = 0.3,
        tls: ssl.SSLContext | None = None,
        model: str = "fake-model",
    ) -> None:
        self.text = text
        self.model = model
        self._pause_s = check_seconds("pause_s", pause_s)
        self._tls = tls
        self._log = RequestLog()
        self._lock = threading.Lock()  # guards all below
        self._always = HEALTHY
        self._next: deque[WireFault] = deque()
        self._marked: dict[int, WireFault] = {}  # by client port: what its next request meets
        self._server: HttpServer | None = None
        self._is_closed = False
        if isinstance(faults, str | WireFault):
            self._always = _known(faults)
        elif faults is not None:
            self.play(*faults)

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
        return f"FaultServer({where}, requests={len(self.requests)})"

    @property
    def base_url(self) -> str:
        """Where it listens, such as "http://127.0.0.1:49152/v1".

        Raises:
            ConfigError: It was not started.
        """
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._running().port}/v1"

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """Every request whose head arrived, with the fault it met; a snapshot."""
        return self._log.snapshot()

    @property
    def connections(self) -> int:
        """How many connections are open now, at the server's end.

        Raises:
            ConfigError: It was not started.
        """
        return self._running().connections

    def start(self) -> Self:
        """Listen. A second call does nothing.

        Raises:
            ConfigError: The server was closed.
        """
        with self._lock:
            if self._is_closed:
                msg = "This FaultServer was closed: make a new one."
                raise ConfigError(msg)
            if self._server is None:
                self._server = HttpServer(
                    self._respond,
                    port=0,
                    closing=threading.Event(),
                    interrupt=self._interrupt,
                    tls=self._tls,
                    max_connections=MAX_CONNECTIONS,
                )
        return self

    def close(self) -> None:
        """Cut every connection and stop, within a second; the log stays readable."""
        with self._lock:
            self._is_closed = True
            server = self._server
        self._log.close()
        if server is not None:
            server.close()

    def play(self, *faults: str | WireFault) -> None:
        """Play each of *faults* once, after those that still wait.

        Raises:
            ConfigError: There is no such fault; then none is played.
        """
        known = [_known(fault) for fault in faults]
        with self._lock:
            self._next.extend(known)

    def heal(self) -> None:
        """Answer every request from now on; faults that still wait are forgotten."""
        with self._lock:
            self._always = HEALTHY
            self._next.clear()
            self._marked.clear()

    def wait_for(self, count: int, timeout_s: float = 5.0) -> bool:
        """Return whether *count* requests arrived in all, within *timeout_s* seconds.

        Raises:
            ConfigError: *timeout_s* is negative or not finite.
        """
        return self._log.wait_for(count, check_seconds("timeout_s", timeout_s))

    def wait_for_ended(self, count: int, timeout_s: float = 5.0) -> bool:
        """Return whether *count* replies ended, within *timeout_s* seconds.

        One that falls silent for good has ended when all of it was sent.

        Raises:
            ConfigError: *timeout_s* is negative or not finite.
        """
        return self._log.wait_for_ended(count, check_seconds("timeout_s", timeout_s))

    def service(self, **overrides: Any) -> Service:
        """Return a `Service` for this server.

        Args:
            overrides: Keyword arguments of `Services.Compatible`.

        Raises:
            ConfigError: It was not started, or an override makes no sense.
        """
        return service_at(self.base_url, overrides, api_key="fake-key", model=self.model)

    def _running(self) -> HttpServer:
        if self._server is None:
            msg = "This FaultServer has no address yet: use it with 'with', or call start()."
            raise ConfigError(msg)
        return self._server

    def _interrupt(self, head: Head, arrival_s: float, client_port: int) -> SteppedReply | None:
        """Play the next fault if it wants no body."""
        with self._lock:
            marked = self._marked.get(client_port)
            coming = marked or (self._next[0] if self._next else self._always)
            if not coming.before_body:
                return None
            self._take(client_port)
        return self._played(coming, HttpRequest(head, b"", arrival_s, client_port))

    def _respond(self, request: HttpRequest) -> SteppedReply:
        with self._lock:
            fault = self._take(request.client_port)
        return self._played(fault, request)

    def _take(self, client_port: int) -> WireFault:
        """Return the fault that is due; the caller holds the lock."""
        fault = self._marked.pop(client_port, None)
        if fault is None:
            fault = self._next.popleft() if self._next else self._always
        if fault.then is not None:
            self._marked[client_port] = FAULTS[fault.then]
        return fault

    def _played(self, fault: WireFault, request: HttpRequest) -> SteppedReply:
        body = _decoded(request.body)
        asked = Asked(
            headers=request.head.headers,
            body=body if isinstance(body, dict) else {},
            base_url=self.base_url,
            text=self.text,
            pause_s=self._pause_s,
        )
        record = ReceivedRequest(
            arrival_s=request.arrival_s,
            method=request.head.method,
            path=request.head.path,
            headers=masked(request.head.headers),
            body=body,
            client_port=request.client_port,
            outcome="answered" if fault is HEALTHY else "fault",
            is_admitted=True,
            is_stream=asked.is_stream,
            fault=None if fault is HEALTHY else fault.name,
        )
        steps = self._logged(self._log.add(record), record, fault.plays(asked))
        return SteppedReply(steps, fault.after)

    def _logged(
        self, place: int, record: ReceivedRequest, steps: Iterable[Step]
    ) -> Generator[Step, None, None]:
        """Yield *steps*, and log how they ended."""
        is_aborted = True
        try:
            yield from steps
            is_aborted = False
        finally:
            ended = attrs.evolve(record, finished_s=time.monotonic(), is_aborted=is_aborted)
            self._log.update(place, ended)


def _known(fault: str | WireFault) -> WireFault:
    if isinstance(fault, WireFault):
        return fault
    if fault == HEALTHY.name:
        return HEALTHY
    if isinstance(fault, str) and fault in FAULTS:
        return FAULTS[fault]
    msg = (
        f"There is no fault {fault!r:.60}: give a name of lionlite.testing.FAULTS, or a WireFault."
    )
    raise ConfigError(msg)


def _decoded(body: bytes) -> Any:
    """Return the body's JSON, None if it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
