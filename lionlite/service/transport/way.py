"""The way to a provider: our own connections, a proxy, or a client of the user's.

Holds: the protocol that all ways keep, and the choice. Does not hold: any of
them. Pure, safe anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lionlite.exceptions import ConfigError
from lionlite.service.transport.borrowed import Borrowed
from lionlite.service.transport.connections import Connections
from lionlite.service.transport.forward import Forwarded
from lionlite.service.transport.proxy import proxy_from, proxy_in
from lionlite.service.transport.tunnel import tunnel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lionlite.service.secret import Secret
    from lionlite.service.transport.connect import Origin
    from lionlite.service.transport.exchange import Milestones
    from lionlite.service.transport.parse import RawReply
    from lionlite.service.transport.streamed import OpenReply


class Way(Protocol):
    """How requests reach a provider; safe to share between threads."""

    @property
    def idle_count(self) -> int:
        """Connections that wait to be used."""

    def exchange(self, request: memoryview, milestones: Milestones) -> RawReply:
        """Send *request* and return the reply; see `Connections.exchange`."""

    def open(
        self, request: memoryview, milestones: Milestones, *, idle_s: float | None = None
    ) -> OpenReply:
        """Send *request* and return the reply once its head is complete."""

    def close(self) -> None:
        """Close what is idle, and what is in use once it is given back."""


def way_to(
    origin: Origin, *, proxy: Secret | None, http_client: object | None, env: Mapping[str, str]
) -> Way:
    """Return the way to *origin*.

    Args:
        origin: Where the provider is.
        proxy: The URL of a proxy (http://, https:// or socks5://), which may
            hold a password; None = for https, what HTTPS_PROXY, ALL_PROXY and
            NO_PROXY in *env* say.
        http_client: An `httpx.Client`, or one of its successor httpx2, to
            send with instead; see `Borrowed` for what it cannot promise.
        env: The environment.

    Raises:
        ConfigError: Both are given, or one is not what it must be.
    """
    if http_client is not None:
        if proxy is not None:
            msg = "proxy= and http_client= exclude each other: give the proxy to the client."
            raise ConfigError(msg)
        return Borrowed(http_client, origin)
    chosen = proxy_in(env, origin) if proxy is None else proxy_from(proxy.reveal(), name="proxy=")
    if chosen is None:
        return Connections(origin)
    if chosen.is_socks or origin.is_tls:
        return Connections(origin, dial=lambda: tunnel(chosen, origin))
    return Forwarded(origin, chosen)
