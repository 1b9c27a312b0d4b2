"""Requests for http:// providers, handed to an HTTP proxy that forwards them.

Holds: what such a request looks like. Does not hold: tunnels (tunnel.py),
which is how https:// goes through a proxy. Safe to share between threads.

Source: RFC 9112, section 3.2.2 (absolute-form).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lionlite.service.transport.connections import Connections
from lionlite.service.transport.tunnel import PROXY_AUTHENTICATION_REQUIRED, reach, refused

if TYPE_CHECKING:
    from lionlite.service.transport.connect import Origin
    from lionlite.service.transport.exchange import Milestones
    from lionlite.service.transport.parse import RawReply
    from lionlite.service.transport.proxy import Proxy
    from lionlite.service.transport.streamed import OpenReply


class Forwarded:
    """Keep-alive connections to a proxy that forwards what is meant for *origin*.

    Args:
        origin: Whom the requests are for; http:// only.
        proxy: Who forwards them; speaks HTTP.

    Threads: safe to share.
    """

    def __init__(self, origin: Origin, proxy: Proxy) -> None:
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        self._prefix = f"http://{host}:{origin.port}".encode()
        self._proxy = proxy
        self._connections = Connections(proxy.origin, dial=lambda: reach(proxy))

    @property
    def idle_count(self) -> int:
        """Connections that wait to be used."""
        return self._connections.idle_count

    def exchange(self, request: memoryview, milestones: Milestones) -> RawReply:
        """Have the proxy send *request* and return the reply.

        Raises:
            ConnectionFailed: The proxy is not reached or refuses us, or the
                connection broke.
            LionError: As `Connections.exchange`.
        """
        reply = self._connections.exchange(self._for_proxy(request), milestones)
        self._check(reply.status)
        return reply

    def open(
        self, request: memoryview, milestones: Milestones, *, idle_s: float | None = None
    ) -> OpenReply:
        """Have the proxy send *request* and return the reply once its head is complete.

        Raises:
            LionError: As `exchange`.
        """
        reply = self._connections.open(self._for_proxy(request), milestones, idle_s=idle_s)
        try:
            self._check(reply.status)
        except BaseException:
            reply.close()
            raise
        return reply

    def close(self) -> None:
        """Close what is idle, and what is in use once it is given back."""
        self._connections.close()

    def _check(self, status: int) -> None:
        if status == PROXY_AUTHENTICATION_REQUIRED:
            raise refused(self._proxy)

    def _for_proxy(self, request: memoryview) -> memoryview:
        # No local may hold the bytes of the head: the key is in them.
        end = bytes(request).index(b"\r\n") + 2
        method, _, target = bytes(request[:end]).partition(b" ")
        line = (method, b" ", self._prefix, target, self._proxy.authorization)
        return memoryview(b"".join((*line, request[end:])))
