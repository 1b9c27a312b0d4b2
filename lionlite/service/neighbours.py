"""Noticing two services that share one account but not one budget.

Holds: `warn_of_second`. Does not hold: what a service is. Safe to share
between threads, without a lock: a race costs a warning, nothing else.
"""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lionlite.service.secret import Secret

_log = logging.getLogger("lionlite")

# A Secret compares by its text and shows none of it.
_services: weakref.WeakValueDictionary[tuple[str, Secret], object] = weakref.WeakValueDictionary()
_warned: set[tuple[str, Secret]] = set()


def warn_of_second(service: object, *, host: str, key: Secret) -> None:
    """Warn, once a host and key, if another living service uses both.

    Args:
        service: Who asks; a service that is gone is forgotten.
        host: Where the provider is.
        key: The account.
    """
    account = host, key
    first = _services.setdefault(account, service)
    if first is service or account in _warned:
        return
    _warned.add(account)
    _log.warning(
        "Two services for %s have the same API key and a budget each: together they may exceed "
        "what the provider allows. Make one service and share it between the sessions.",
        host,
    )


def forget(service: object) -> None:
    """Count *service* no longer: it was closed."""
    for account, known in list(_services.items()):
        if known is service:
            _services.pop(account, None)
