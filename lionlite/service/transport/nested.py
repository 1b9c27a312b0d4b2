"""TLS inside of TLS: the way to an https:// provider through an https:// proxy.

Holds: a stand-in for `ssl.SSLSocket`, which cannot wrap another one. Does not
hold: the tunnel's beginning (tunnel.py). One thread at a time.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

_RECORD_BYTES = 16 * 1024
"""The most that one TLS record holds."""


class NestedTls:
    """A TLS connection carried by another one; used like a non-blocking `SSLSocket`.

    Args:
        carrier: The connection to the proxy, non-blocking; owned from now on.
        context: How to speak TLS.
        host: Whose certificate it must be.

    Attributes:
        carrier: As given; cutting it cuts both.
    """

    def __init__(self, carrier: socket.socket, context: ssl.SSLContext, *, host: str) -> None:
        self.carrier = carrier
        self._received = ssl.MemoryBIO()
        self._sealed = ssl.MemoryBIO()
        self._unsent = b""
        self._taken = 0
        self._tls = context.wrap_bio(self._received, self._sealed, server_hostname=host)

    def fileno(self) -> int:
        """Return what to poll."""
        return self.carrier.fileno()

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 - a socket's signature
        """Pass it on; only False works."""
        self.carrier.setblocking(flag)

    def pending(self) -> int:
        """Return how much was received and may be had without waiting."""
        outer = self.carrier.pending() if isinstance(self.carrier, ssl.SSLSocket) else 0
        return self._tls.pending() + self._received.pending + outer

    def do_handshake(self) -> None:
        """Take the next steps of the handshake, as far as they go without waiting.

        Raises:
            OSError: SSLWantReadError or SSLWantWriteError: call again once the
                carrier is ready; any other: it failed.
        """
        while True:
            self._flush()
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._fetch()
            else:
                self._flush()
                return

    def send(self, data: memoryview, /) -> int:
        """Send some of *data* and return how much; after a "want", the same again.

        Raises:
            OSError: As `do_handshake`.
        """
        if not self._taken:
            self._flush()
            self._taken = self._tls.write(data[:_RECORD_BYTES])
        self._flush()
        taken, self._taken = self._taken, 0
        return taken

    def recv(self, count: int, /) -> bytes:
        """Return at most *count* bytes, b"" at the end.

        Raises:
            OSError: As `do_handshake`.
        """
        while True:
            try:
                return self._tls.read(count)
            except ssl.SSLWantReadError:
                self._flush()
                self._fetch()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                # With or without a goodbye: HTTP's framing tells a cut from an end.
                return b""

    def close(self) -> None:
        """Close the carrier; nothing is sent."""
        self.carrier.close()

    def _flush(self) -> None:
        """Send what is sealed; what does not leave now does so at the next step."""
        self._unsent += self._sealed.read()
        while self._unsent:
            self._unsent = self._unsent[self.carrier.send(self._unsent) :]

    def _fetch(self) -> None:
        data = self.carrier.recv(4 * _RECORD_BYTES)
        if data:
            self._received.write(data)
        else:
            self._received.write_eof()
