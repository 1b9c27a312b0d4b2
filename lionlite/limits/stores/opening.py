"""From store= to a store.

Holds: `open_store`, which reads the address. Does not hold: the stores. Opens
nothing: that is for the first call. Pure; safe anywhere. No message shows a
password.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from lionlite.exceptions import ConfigError
from lionlite.limits.stores.redis import RedisStore
from lionlite.limits.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from lionlite.limits.stores.protocol import Store

_CURE: Final = "write 'sqlite:///budget.db', 'sqlite:////var/lib/budget.db' or 'redis://host:6379/0'"

_REDIS_PORT: Final = 6379


def open_store(url: str) -> Store:
    """Return the store at *url*; nothing is opened before the first call.

    Args:
        url: "sqlite:///relative.db", "sqlite:////absolute.db" or
            "redis://[user:password@]host[:port][/db]"; rediss:// for TLS.

    Raises:
        ConfigError: *url* is no such address, or a package is missing.
    """
    try:
        return _opened(url)
    except ConfigError as error:
        # The frames below hold the address, and with it a password.
        raise error.with_traceback(None) from None
    finally:
        del url


def _opened(url: str) -> Store:
    if not isinstance(url, str):
        msg = f"store= takes an address; got a {type(url).__name__}: {_CURE}."
        raise ConfigError(msg)
    scheme = url.partition("://")[0]
    if scheme == "sqlite":
        return SqliteStore(_path_of(url))
    if scheme in {"redis", "rediss"}:
        return _redis(url)
    msg = f"store= knows sqlite:/// and redis://, not {_without_password(url)!r}: {_CURE}."
    raise ConfigError(msg)


def _path_of(url: str) -> str:
    path = url.removeprefix("sqlite:///")
    if path == url:
        msg = f"store={url!r} needs three slashes before the file's path: {_CURE}."
        raise ConfigError(msg)
    if not path or path == ":memory:" or path.endswith("/"):
        msg = f"store={url!r} names no file, which processes could share: {_CURE}."
        raise ConfigError(msg)
    if "\0" in path or "?" in path:
        msg = f"store={url!r} takes a path without '?' and options: {_CURE}."
        raise ConfigError(msg)
    # Now: a later chdir must not lead to another file.
    return os.path.abspath(path)  # noqa: PTH100 - Path has no such method that leaves links


def _redis(url: str) -> RedisStore:
    parts = _parts_of(url)
    if importlib.util.find_spec("redis") is None:
        msg = "store='redis://...' needs the package redis: pip install 'lionlite[redis]'."
        raise ConfigError(msg)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    database = int(parts.path.strip("/") or 0)
    where = f"{parts.scheme}://{shown}:{parts.port or _REDIS_PORT}/{database}"
    return RedisStore(url, where=where)


def _parts_of(url: str) -> SplitResult:
    """Return the parts of *url*.

    Raises:
        ConfigError: It has no host, or a port or database that is no number.
    """
    try:
        parts = urlsplit(url)
        is_right = bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, is_right = None, False
    if parts and is_right and not parts.query and not parts.fragment:
        database = parts.path.removeprefix("/")
        if not database or (database.isascii() and database.isdigit()):
            return parts
    msg = (
        f"store={_without_password(url)!r} is no address of a Redis server: "
        "write 'redis://host:6379/0', and special characters of a password as %XX."
    )
    raise ConfigError(msg)


def _without_password(url: str) -> str:
    """Return *url* up to what may be a password, for messages."""
    scheme, mark, rest = url.rpartition("://")
    if "@" in rest:
        return f"{scheme}{mark}...@{rest.rpartition('@')[2]}"
    return url[:80]
