"""The budgets. Knows threads, processes and hosts, but no provider.

The one door to pyrate_limiter. `SharedLimiter` is loaded at its first use: a
program without a store need not pay for the stores.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lionlite.limits.shared import SharedLimiter

__all__ = ["SharedLimiter"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        msg = f"module 'lionlite.limits' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module("lionlite.limits.shared"), name)
