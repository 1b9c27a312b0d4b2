"""A link over a plain TCP socket, with the fewest switches between threads.

Holds: `PlainLink`. Does not hold: TLS, or systems without TCP_INFO, for which
`Link` is right. A link belongs to one thread at a time; any thread may cut it.

Each system call that lets go of the interpreter's lock may have to queue for
it again behind every other thread: at 2,000 threads that is what a chat costs.
So the kernel bounds the waits (SO_RCVTIMEO, SO_SNDTIMEO), which makes one call
of waiting and reading, and `getsockopt`, which keeps the lock, tells whether an
idle connection is still good.
"""

from __future__ import annotations

import socket
import struct
import sys
from time import monotonic
from typing import TYPE_CHECKING, Final

from lionlite.service.transport.link import MAX_STEP_S, RECEIVE_BYTES, Link

if TYPE_CHECKING:
    from lionlite.service.transport.link import Carrier

_SHARE: Final = 0.9
"""A timer for less than all of the time left may stay for the next calls too."""

_SHORTEST_S: Final = 0.001

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

    __slots__ = ("_expected", "_plain", "_timers")

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.setblocking(True)  # noqa: FBT003 - the socket's own signature
        self._plain = sock
        self._timers: dict[int, float] = {}
        # What the kernel has received for it, when all that came was read.
        self._expected = _received(sock)

    def has_news(self) -> bool:
        """Whether something arrived, or the other side closed."""
        return _received(self._plain) != self._expected

    def send(self, data: memoryview, ends_at_s: float) -> None:
        """Send all of *data*; raises as `Link.send`."""
        share = _SHARE
        while data:
            self._bound(socket.SO_SNDTIMEO, ends_at_s, share)
            try:
                data = data[self._plain.send(data) :]
            except BlockingIOError:
                # The timer ran out, before the time did.
                share = 1.0

    def receive(self, ends_at_s: float) -> bytes:
        """Return what arrived, b"" when the other side closed; raises as `Link.receive`."""
        share = _SHARE
        while True:
            self._bound(socket.SO_RCVTIMEO, ends_at_s, share)
            try:
                data = self._plain.recv(RECEIVE_BYTES)
            except BlockingIOError:
                share = 1.0
            else:
                self._expected += len(data)
                return data

    def _bound(self, option: int, ends_at_s: float, share: float) -> None:
        """Let the kernel end the next wait by *ends_at_s*, or by that *share* of it."""
        left_s = ends_at_s - monotonic()
        if left_s <= 0:
            raise TimeoutError
        left_s = min(left_s, MAX_STEP_S)
        if not left_s * share / 2 <= self._timers.get(option, 0.0) <= left_s:
            seconds = max(left_s * share, _SHORTEST_S)
            whole = int(seconds)
            timer = struct.pack("ll", whole, int((seconds - whole) * 1e6))
            self._plain.setsockopt(socket.SOL_SOCKET, option, timer)
            self._timers[option] = seconds


def _received(sock: socket.socket) -> int:
    """Return the bytes that *sock* has received, -1 if it is closed or cannot be known."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except OSError:
        return -1
    if len(info) < _INFO_BYTES or info[0] != _ESTABLISHED:
        return -1
    return int.from_bytes(info[_RECEIVED_AT:_INFO_BYTES], sys.byteorder)


def link_over(sock: Carrier) -> Link:
    """Return the link for *sock*."""
    if type(sock) is socket.socket and hasattr(socket, "TCP_INFO") and _received(sock) >= 0:
        return PlainLink(sock)
    return Link(sock)
