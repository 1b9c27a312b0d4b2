"""A connected socket on which every wait has an end and can be cut.

Holds: sending and receiving up to an instant, the waker that cuts both, and
what a broken socket is called. Does not hold: connecting (connect.py), HTTP.
A link belongs to one thread at a time; any thread may cut it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from lionlite import scope
from lionlite.exceptions import ConnectionFailed
from lionlite.service.transport.nested import NestedTls

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

RECEIVE_BYTES = 64 * 1024
"""More than a TLS record (16 KiB), so that nothing received waits inside OpenSSL unseen."""

MAX_STEP_S = 1_000_000.0
"""Longest single wait; poll refuses 2^31 ms (25 days) and more, so a longer one is several."""

Carrier = socket.socket | NestedTls
"""What bytes travel on: a socket, with TLS or without, or TLS inside of TLS."""

NOTHING: AbstractContextManager[None] = contextlib.nullcontext()


class Cut:
    """Wakes whatever waits on a socket, from any thread.

    The raw shutdown leaves the TLS state alone: `SSLSocket.shutdown` would drop
    it first, and a send in that moment would leave in clear text.
    """

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __call__(self) -> None:
        """Shut the connection; the socket stays its owner's to close."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def on_cancel(self, token: scope.CancelToken | None) -> AbstractContextManager[None]:
        """Return the `with` in which a cancel of *token* cuts the socket.

        Outside of it the waker is gone, so that the owner may close the socket:
        no descriptor that was used again is ever hit.
        """
        return NOTHING if token is None else token.woken_by(self)


class Link:
    """One connected socket.

    Args:
        sock: Connected, after the TLS handshake if any; owned from now on.

    Threads: one at a time; `cut` from any.
    """

    __slots__ = ("_pending", "_reading", "_sock", "cut")

    def __init__(self, sock: Carrier) -> None:
        # A timeout of the socket's own would cost a poll before every send.
        sock.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._sock = sock
        self._pending = sock.pending if isinstance(sock, (ssl.SSLSocket, NestedTls)) else None
        self._reading = poller_for(sock, for_reading=True)
        self.cut = Cut(sock.carrier if isinstance(sock, NestedTls) else sock)

    def has_news(self) -> bool:
        """Whether something arrived, or the other side closed."""
        return bool(self._reading.poll(0))

    def _is_ready(self) -> bool:
        """Whether reading is worth a try before waiting; False where that is not known."""
        return False

    def send(self, data: memoryview, ends_at_s: float) -> None:
        """Send all of *data*.

        Raises:
            TimeoutError: It did not leave before *ends_at_s*.
            OSError: The connection broke.
        """
        # A loop over send: SSLSocket.sendall takes its timeout once a record.
        while data:
            try:
                data = data[self._sock.send(data) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                is_readable = False
            except ssl.SSLWantReadError:
                is_readable = True
            else:
                continue
            self._wait(ends_at_s, for_reading=is_readable)

    def receive(self, ends_at_s: float) -> bytes:
        """Return what arrived, b"" when the other side closed.

        Raises:
            TimeoutError: Nothing arrived before *ends_at_s*.
            OSError: The connection broke.
        """
        if monotonic() >= ends_at_s:
            # Also of one who never stops sending.
            raise TimeoutError
        is_readable = True
        # Inside OpenSSL there may be more, though RECEIVE_BYTES leaves nothing there.
        must_wait = not (self._is_ready() or (self._pending is not None and self._pending()))
        while True:
            if must_wait:
                self._wait(ends_at_s, for_reading=is_readable)
            try:
                return self._sock.recv(RECEIVE_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                # Part of a record, or a record without data.
                must_wait = is_readable = True
            except ssl.SSLWantWriteError:
                must_wait, is_readable = True, False

    def shake_hands(self, tls: NestedTls, ends_at_s: float) -> None:
        """Do the handshake of *tls*, the link's own connection.

        Raises:
            TimeoutError: It was not done before *ends_at_s*.
            OSError: It failed, or the connection broke.
        """
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                is_readable = True
            except (BlockingIOError, ssl.SSLWantWriteError):
                is_readable = False
            else:
                return
            self._wait(ends_at_s, for_reading=is_readable)

    def close(self) -> None:
        """Give the socket back to the system; nothing is sent."""
        self._sock.close()

    def _wait(self, ends_at_s: float, *, for_reading: bool) -> None:
        poller = self._reading if for_reading else poller_for(self._sock, for_reading=False)
        while True:
            left_s = ends_at_s - monotonic()
            if left_s <= 0:
                raise TimeoutError
            if poller.poll((left_s if left_s < MAX_STEP_S else MAX_STEP_S) * 1_000):  # noqa: FURB136
                return


class Poller(Protocol):
    """Waits for one socket and one event."""

    def poll(self, timeout_ms: float, /) -> list[tuple[int, int]]:
        """Return something once the socket is ready or broken, [] after *timeout_ms*."""


class SelectPoller:
    """A poller for systems without poll (Windows).

    Args:
        sock: What to wait for.
        for_reading: Until something arrived, not until something can be sent.
    """

    def __init__(self, sock: Carrier, *, for_reading: bool) -> None:
        self._readers = [sock] if for_reading else []
        self._writers = [] if for_reading else [sock]
        self._sock = sock

    def poll(self, timeout_ms: float, /) -> list[tuple[int, int]]:
        """Return something once the socket is ready or broken, [] after *timeout_ms*."""
        # Windows tells of a connection that failed in the third list only.
        found = select.select(self._readers, self._writers, [self._sock], timeout_ms / 1_000)
        return [(self._sock.fileno(), 0)] if any(found) else []


def poller_for(sock: Carrier, *, for_reading: bool) -> Poller:
    """Return what waits until *sock* has something to read, or can be written to."""
    if not hasattr(select, "poll"):
        return SelectPoller(sock, for_reading=for_reading)
    poller = select.poll()
    poller.register(sock, select.POLLIN if for_reading else select.POLLOUT)
    return poller


def broken(exc: OSError, phase: str, *scopes: scope.Scope) -> ConnectionFailed:
    """Return the error for a broken socket, unless one of *scopes* ended it.

    The cause loses its traceback: a frame of ssl.py holds the request's bytes,
    and with them the key.

    Raises:
        Cancelled: A scope was cancelled, which broke the socket.
        DeadlineExceeded: A scope's deadline passed, or the link's own.
    """
    exc.with_traceback(None)
    for one in scopes:
        one.check(phase)
    if is_overdue(exc):  # pragma: no cover - a clock that went back
        raise scope.too_late(phase) from None
    return ConnectionFailed(f"The connection broke during {phase}: {exc.strerror or exc}.")


def is_overdue(exc: OSError) -> bool:
    """Whether a wait of ours ended; a dead peer, found by keepalive, has an errno."""
    return isinstance(exc, TimeoutError) and exc.errno is None
