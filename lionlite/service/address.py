"""Where a provider is, and the head of every request to it.

Holds: checking base_url and headers, and the bytes of the head, with the key
in it. Does not hold: sockets, bodies. Pure, safe to share between threads.

Source: RFC 9112 and RFC 9110, section 5 (fields).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from lionlite.display import shown
from lionlite.exceptions import ConfigError
from lionlite.service import idempotency
from lionlite.service.transport.connect import Origin
from lionlite.service.transport.url import split_url

if TYPE_CHECKING:
    from lionlite.service.secret import Secret
    from lionlite.service.transport.url import UrlParts

CHAT_PATH = "/chat/completions"

_DEFAULTS = {"Accept": "application/json", "User-Agent": "lionlite"}

_OURS = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

_PRIVATE = tuple(
    ipaddress.ip_network(net)
    for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE = re.compile(r"[\x20-\x7e\t]*")


@attrs.frozen
class Address:
    """A checked base_url.

    Attributes:
        origin: Where to connect.
        host_header: What the Host header says.
        path: The path that requests go to.
        is_local: Whether it is this machine or a private network.
    """

    origin: Origin
    host_header: str
    path: str
    # Asked at every call, and some 20 us to find out.
    is_local: bool = attrs.field(init=False)

    @is_local.default
    def _(self) -> bool:
        return is_local_host(self.origin.host)


def parse_base_url(base_url: str) -> Address:
    """Return the address that *base_url* means.

    Raises:
        ConfigError: It is no http:// or https:// address, or holds a user, a
            query, a fragment, a blank or a line break.
    """
    if not isinstance(base_url, str) or not re.fullmatch(r"[^\s\x00-\x1f\x7f]+", base_url.strip()):
        # Not shown: whatever was pasted here may be a key.
        msg = "base_url= takes an address such as 'https://host/v1', without blanks or line breaks."
        raise ConfigError(msg)
    url = split_url(base_url.strip())
    if url is None or url.scheme not in {"http", "https"} or not _is_address(url):
        msg = f"base_url= takes an address such as 'https://host/v1'{_shown(base_url)}."
        raise ConfigError(msg)
    if url.has_extras:
        msg = "base_url= takes no user, password, query or fragment: pass api_key= and headers=."
        raise ConfigError(msg)
    return Address(
        origin=Origin(url.host, url.port, url.scheme == "https"),
        host_header=url.host_header,
        path=url.path.rstrip("/") + CHAT_PATH,
    )


def _is_address(url: UrlParts) -> bool:
    # A colon is only in an IPv6 address, which split_url has checked.
    return url.port > 0 and re.fullmatch(r"[a-z0-9._:-]+", url.host) is not None


def _shown(base_url: str) -> str:
    """Return what was given, without what may be a password in it.

    Nothing of a text that is no address at all: it may be a key.
    """
    if "://" not in base_url:
        return "; what was given has no http:// or https://"
    return "; got {!r}".format(re.sub(r"//[^/@]*@", "//***@", base_url.strip())[:100])


def refuse_key_in_clear(address: Address, *, allow_http: bool) -> None:
    """Raise if a key would go over the open internet unencrypted.

    Raises:
        ConfigError: http:// to a host that is neither local nor allowed.
    """
    if not address.origin.is_tls and not allow_http and not address.is_local:
        msg = (
            f"http://{address.origin.host} would get the API key unencrypted: use https://, "
            f"or pass allow_http=True if the way there is safe."
        )
        raise ConfigError(msg)


def is_local_host(host: str) -> bool:
    """Whether *host* is loopback, a private address, or a name without a dot."""
    name = host.rstrip(".")
    try:
        # inet_aton reads what connect() would: "134744072" is 8.8.8.8.
        number = name if ":" in name else socket.inet_ntoa(socket.inet_aton(name))
        address = ipaddress.ip_address(number)
    except (OSError, ValueError):
        return "." not in name or name.endswith(".localhost")
    # Not is_private: that counts Teredo and nets kept for documents, too.
    is_here = address.is_loopback or address.is_link_local or address.is_unspecified
    return is_here or any(address in net for net in _PRIVATE if net.version == address.version)


def checked_headers(headers: Mapping[str, str] | None, *, name: str) -> dict[str, str]:
    """Return *headers* if they can go on the wire.

    Args:
        headers: Names and values; None = none.
        name: The argument's name, for errors.

    Raises:
        ConfigError: One would break the request or override one of ours.
    """
    result: dict[str, str] = {}
    if headers is not None and not isinstance(headers, Mapping):
        msg = f"{name}= takes a dict of names and values; got {type(headers).__name__}."
        raise ConfigError(msg)
    for key, value in (headers or {}).items():
        if not isinstance(key, str) or not _TOKEN.fullmatch(key):
            msg = f"{name}= has a header name that is no token: {shown(key)}."
            raise ConfigError(msg)
        if key.lower() in _OURS:
            msg = f"{name}= may not set {key!r}: lionlite sets it. For the key use api_key=."
            raise ConfigError(msg)
        if name == "headers" and key.lower() == idempotency.HEADER.lower():
            msg = f"headers= would give all calls one {key}: give each its own in extra_headers=."
            raise ConfigError(msg)
        if not isinstance(value, str) or not _FIELD_VALUE.fullmatch(value):
            # The value is not shown: it may be a key.
            msg = f"{name}={{{key!r}: ...}} needs a text of printable ASCII, without line breaks."
            raise ConfigError(msg)
        result[key] = value.strip()
    return result


def merged(*groups: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of all *groups*; of names that differ in case only, the last."""
    found = {name.lower(): (name, value) for group in groups for name, value in group.items()}
    return dict(found.values())


class Heads:
    """The heads of a service's requests, up to what differs at each: a name and a length.

    Args:
        address: Where they go.
        headers: Sent with every request, checked.

    Threads: safe to share; the last head is kept as one tuple, replaced whole.
    """

    def __init__(self, address: Address, headers: Mapping[str, str]) -> None:
        self._address = address
        self._headers = merged(_DEFAULTS, headers)
        self._last: tuple[Secret, memoryview] | None = None

    def head_for(self, key: Secret, extra: Mapping[str, str]) -> memoryview:
        """Return the head with *key*; a view, since its repr does not show the bytes."""
        if extra:
            return self._build(key, merged(self._headers, extra))
        last = self._last
        if last is None or (last[0] is not key and last[0] != key):
            last = self._last = key, self._build(key, self._headers)
        return last[1]

    def _build(self, key: Secret, headers: Mapping[str, str]) -> memoryview:
        lines = [
            f"POST {self._address.path} HTTP/1.1",
            f"Host: {self._address.host_header}",
            "Content-Type: application/json",
            "Accept-Encoding: identity",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        if not key.is_empty:
            return memoryview("\r\n".join([*lines, _authorization(key), ""]).encode())
        return memoryview("\r\n".join([*lines, ""]).encode())


def _authorization(key: Secret) -> str:
    return "Authorization: Bearer " + key.reveal()
