"""The parts of a URL.

Holds: `split_url`. Does not hold: what is allowed in a URL of ours
(address.py). Pure, safe anywhere.
"""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import attrs

_DEFAULT_PORTS = {"http": 80, "https": 443}


@attrs.frozen
class UrlParts:
    """A URL, taken apart.

    Attributes:
        scheme: Lower case.
        host: Name (IDNA) or address, without brackets.
        port: Given, or the scheme's own; 0 if there is neither.
        host_header: Host and, where it is not the scheme's own, port.
        path: Percent-encoded, without query.
        has_extras: Whether there is a user, a query or a fragment.
    """

    scheme: str
    host: str
    port: int
    host_header: str
    path: str
    has_extras: bool


def split_url(url: str) -> UrlParts | None:
    """Return the parts of *url*, or None if it is none."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode("ascii")
        own_port = _DEFAULT_PORTS.get(parts.scheme, 0)
        port = own_port if parts.port is None else parts.port
    except ValueError:
        # A port that is no number, a bracket too many, a label too long.
        return None
    shown = f"[{host}]" if ":" in host else host
    return UrlParts(
        scheme=parts.scheme,
        host=host,
        port=port,
        host_header=shown if port == own_port else f"{shown}:{port}",
        path=quote(parts.path, safe="/%:@!$&'()*+,;=~"),
        has_extras=bool(parts.username or parts.password or parts.query or parts.fragment),
    )
