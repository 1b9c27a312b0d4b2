"""Which proxy a provider is reached through.

Holds: reading a proxy's URL, and what the environment says. Does not hold:
talking to it (tunnel.py, forward.py). Pure, safe anywhere.

Source: the variables as curl reads them, without HTTP_PROXY: a plain-text
request with a key in it must not go where some variable points.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import attrs

from lionlite.exceptions import ConfigError
from lionlite.service.transport.connect import Origin

if TYPE_CHECKING:
    from collections.abc import Mapping

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}

_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_EXCEPTIONS = ("no_proxy", "NO_PROXY")


@attrs.frozen
class Proxy:
    """A proxy.

    Attributes:
        origin: Where it is.
        is_socks: Whether it speaks SOCKS5, else HTTP.
        user: Who we are there, "" if nobody.
        password: What we prove it with.
    """

    origin: Origin
    is_socks: bool = False
    user: str = attrs.field(default="", repr=False)
    password: str = attrs.field(default="", repr=False)

    @property
    def authorization(self) -> memoryview:
        """The header line that says who we are; a view, since its repr shows nothing."""
        if not self.user:
            return memoryview(b"")
        pair = base64.b64encode(f"{self.user}:{self.password}".encode())
        return memoryview(b"Proxy-Authorization: Basic " + pair + b"\r\n")

    @property
    def socks_login(self) -> memoryview:
        """What says the same to a SOCKS proxy (RFC 1929)."""
        pair = [part.encode()[:255] for part in (self.user, self.password)]
        return memoryview(b"\x01" + b"".join(bytes((len(part),)) + part for part in pair))


def proxy_from(url: str, *, name: str) -> Proxy:
    """Return the proxy that *url* means.

    Args:
        url: http://, https:// or socks5://, perhaps with user and password. A
            SOCKS proxy looks the provider's name up itself.
        name: The argument or variable it comes from, for errors.

    Raises:
        ConfigError: It is no such URL. The message does not show it: there
            may be a password in it.
    """
    proxy = _read(url)
    # No frame of a traceback may show the password.
    del url
    if proxy is None:
        msg = (
            f"{name} takes a proxy such as 'http://proxy.example:3128', 'https://...' or "
            f"'socks5://...', perhaps with user:password@ before the host."
        )
        raise ConfigError(msg)
    return proxy


def _read(url: str) -> Proxy | None:
    if not isinstance(url, str) or not re.fullmatch(r"[\x21-\x7e]+", url.strip()):
        return None
    # curl and requests read "proxy:3128" as http://.
    text = url.strip() if "://" in url else f"http://{url.strip()}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    own_port = _PORTS.get(parts.scheme)
    has_more = parts.path not in {"", "/"} or parts.query or parts.fragment
    if own_port is None or port == 0 or has_more or not re.fullmatch(r"[a-z0-9._:-]+", host):
        return None
    return Proxy(
        origin=Origin(host, port or own_port, parts.scheme == "https"),
        is_socks=parts.scheme.startswith("socks"),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


def proxy_in(env: Mapping[str, str], origin: Origin) -> Proxy | None:
    """Return the proxy that the environment names for *origin*, None if there is none.

    For https only: HTTPS_PROXY and ALL_PROXY, but for what NO_PROXY names;
    lower case wins. This machine itself is never reached through a proxy.

    Raises:
        ConfigError: The variable holds no proxy's URL.
    """
    if not origin.is_tls or _is_this_machine(origin.host):
        return None
    name = next((name for name in _VARIABLES if env.get(name, "").strip()), None)
    if name is None:
        return None
    excepted = next((env[name] for name in _EXCEPTIONS if name in env), "")
    if any(_matches(entry, origin) for entry in re.split(r"[,\s]+", excepted.lower())):
        return None
    return proxy_from(env[name], name=name)


def _is_this_machine(host: str) -> bool:
    name = host.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _matches(entry: str, origin: Origin) -> bool:
    """Whether an *entry* of NO_PROXY, in lower case, names *origin*."""
    if not entry:
        return False
    if entry == "*":
        return True
    host = origin.host.rstrip(".")
    name, port = _name_and_port(entry)
    if port is not None and port != str(origin.port):
        return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        # One of the two is a name: it means itself and all below it.
        name = name.removeprefix("*").strip(".")
        return name != "" and (host == name or host.endswith(f".{name}"))


def _name_and_port(entry: str) -> tuple[str, str | None]:
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(\d+))?", entry)
    if bracketed is not None:
        return bracketed[1], bracketed[2]
    name, colon, port = entry.partition(":")
    if colon and port.isdigit():
        return name, port
    return entry, None
