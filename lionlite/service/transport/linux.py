"""Links over TCP on Linux, with the fewest switches between threads.

Holds: `PlainLink`, `TlsLink`, and which link a socket gets. Does not hold: what
works everywhere (link.py). A link belongs to one thread at a time; any thread
may cut it.

Each system call that lets go of the interpreter's lock may have to queue for
it again behind every other thread: under many threads that is what a chat
costs. `getsockopt` keeps the lock, so it tells whether an idle connection is
still good and whether bytes are there; and without TLS the kernel bounds the
waits (SO_RCVTIMEO, SO_SNDTIMEO), which makes one call of waiting and reading.
With TLS it cannot: one record may take many reads, each with a whole timer; nor
in the main thread, where a signal's handler begins the timer anew.
"""

from __future__ import annotations

import socket
import ssl
import struct
from threading import get_ident, main_thread
from time import monotonic
from typing import TYPE_CHECKING, Final

from lionlite.service.transport.link import MAX_STEP_S, RECEIVE_BYTES, Link

if TYPE_CHECKING:
    from lionlite.service.transport.link import Carrier

_SHARE: Final = 0.9
"""A timer for less than all of the time left may stay for the next calls too."""

_LONGEST: Final = 2.2
"""How many times its own length a timer may serve: then it ends a wait too soon, which goes on."""

_UNSET_S: Final = -1.0
"""Of a timer: serves for no time left at all."""

_SHORTEST_S: Final = 0.001

_SNDTIMEO: Final = socket.SO_SNDTIMEO
_RCVTIMEO: Final = socket.SO_RCVTIMEO
_TCP: Final = socket.IPPROTO_TCP
# Not on every system; `link_over` looks.
_TCP_INFO: Final = getattr(socket, "TCP_INFO", 0)

_SO_MEMINFO: Final = 55
"""From Linux's asm/socket.h (4.12 and later); its first number: bytes that wait to be read."""

_NOTHING: Final = bytes(4)

_RECEIVED: Final = struct.Struct("=Q")
_INFO_BYTES: Final = 136
_RECEIVED_AT: Final = 128
_ESTABLISHED: Final = 1
"""Of Linux's tcp_info: its length up to tcpi_bytes_received (4.1 and later), and one state."""


class PlainLink(Link):
    """One connected TCP socket without TLS, on Linux.

    Args:
        sock: Connected; owned from now on.

    Threads: one at a time; `cut` from any.
    """

    __slots__ = ("_expected", "_plain", "_receive_timer_s", "_send_timer_s")

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.setblocking(True)  # noqa: FBT003 - the socket's own signature
        self._plain = sock
        # What the kernel bounds a wait by.
        self._send_timer_s = self._receive_timer_s = _UNSET_S
        # What the kernel has received for it, when all that came was read.
        self._expected = _received(sock)

    def has_news(self) -> bool:
        """Whether something arrived, or the other side closed."""
        return _received(self._plain) != self._expected

    def send(self, data: memoryview, ends_at_s: float) -> None:
        """Send all of *data*; raises as `Link.send`."""
        share = _SHARE
        # In the main thread poll waits, as in `receive`.
        flags = socket.MSG_DONTWAIT if _is_main() else 0
        while data:
            left_s = min(ends_at_s - monotonic(), MAX_STEP_S)
            if not self._send_timer_s <= left_s <= _LONGEST * self._send_timer_s:
                self._send_timer_s = self._bound(_SNDTIMEO, left_s, share)
            try:
                sent = self._plain.send(data, flags)
            except BlockingIOError:
                if flags:
                    self._wait(ends_at_s, for_reading=False)
                # Else the timer ran out, before the time did.
                share = 1.0
                self._send_timer_s = _UNSET_S
            else:
                data = data[sent:]

    def receive(self, ends_at_s: float) -> bytes:
        """Return what arrived, b"" when the other side closed; raises as `Link.receive`."""
        share = _SHARE
        if _is_main():
            # After a signal's handler, which only this thread runs, Python would wait for
            # another whole timer: with one signal every so often, for ever.
            self._wait(ends_at_s, for_reading=True)
        while True:
            left_s = min(ends_at_s - monotonic(), MAX_STEP_S)
            if not self._receive_timer_s <= left_s <= _LONGEST * self._receive_timer_s:
                self._receive_timer_s = self._bound(_RCVTIMEO, left_s, share)
            try:
                data = self._plain.recv(RECEIVE_BYTES)
            except BlockingIOError:
                share = 1.0
                self._receive_timer_s = _UNSET_S
            else:
                self._expected += len(data)
                return data

    def _bound(self, option: int, left_s: float, share: float) -> float:
        """Let the kernel end the next wait after that *share* of *left_s*; return its seconds."""
        if left_s <= 0:
            raise TimeoutError
        seconds = max(left_s * share, _SHORTEST_S)
        whole = int(seconds)
        timer = struct.pack("ll", whole, int((seconds - whole) * 1e6))
        self._plain.setsockopt(socket.SOL_SOCKET, option, timer)
        return seconds


class TlsLink(Link):
    """One connected socket with TLS, on Linux.

    Args:
        sock: Connected, after the handshake; owned from now on.

    Threads: one at a time; `cut` from any.
    """

    __slots__ = ("_tls",)

    def __init__(self, sock: ssl.SSLSocket) -> None:
        super().__init__(sock)
        self._tls = sock

    def has_news(self) -> bool:
        """Whether something arrived, or the other side closed."""
        # By its state too: a reset may leave nothing to read.
        return self._tls.getsockopt(_TCP, _TCP_INFO, 1)[0] != _ESTABLISHED or self._is_ready()

    def _is_ready(self) -> bool:
        return self._tls.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4) != _NOTHING


def _received(sock: socket.socket) -> int:
    """Return the bytes that *sock* has received, -1 if it is closed or cannot be known."""
    try:
        info = sock.getsockopt(_TCP, _TCP_INFO, _INFO_BYTES)
    except OSError:
        return -1
    if len(info) < _INFO_BYTES or info[0] != _ESTABLISHED:
        return -1
    received: int = _RECEIVED.unpack_from(info, _RECEIVED_AT)[0]
    return received


def _is_main() -> bool:
    return get_ident() == main_thread().ident


def link_over(sock: Carrier) -> Link:
    """Return the link for *sock*."""
    if type(sock) is socket.socket and _TCP_INFO and _received(sock) >= 0:
        return PlainLink(sock)
    if isinstance(sock, ssl.SSLSocket) and _TCP_INFO and _tells_what_waits(sock):
        return TlsLink(sock)
    return Link(sock)


def _tells_what_waits(sock: socket.socket) -> bool:
    try:
        return len(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4)) == len(_NOTHING)
    except OSError:
        return False
