"""Blocking LLM chat sessions behind one shared, exact rate limiter.

The face: names only, each loaded at its first use, so that importing opens no
file and no socket, starts no thread, and costs little. What they are stands in
the rooms below; start with `Session`, `Services` and `alcall`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lionlite import exceptions, testing
    from lionlite.calls.family import alcall, icall, lcall
    from lionlite.conversation.branch import Branch
    from lionlite.conversation.messages import Message
    from lionlite.conversation.session import Session
    from lionlite.exceptions import (
        BudgetTimeout,
        CallError,
        Cancelled,
        ConfigError,
        DeadlineExceeded,
        Interrupted,
        LionError,
        OutputError,
        RateLimitError,
    )
    from lionlite.records import Usage
    from lionlite.scope import deadline
    from lionlite.service.reply import Reply
    from lionlite.service.service import Service
    from lionlite.service.services import Services, default_service, set_default_service

__version__ = "0.1.0"

__all__ = [
    "Branch",
    "BudgetTimeout",
    "CallError",
    "Cancelled",
    "ConfigError",
    "DeadlineExceeded",
    "Interrupted",
    "LionError",
    "Message",
    "OutputError",
    "RateLimitError",
    "Reply",
    "Service",
    "Services",
    "Session",
    "Usage",
    "alcall",
    "deadline",
    "default_service",
    "exceptions",
    "icall",
    "lcall",
    "set_default_service",
    "testing",
]

_ROOMS = {
    "Branch": "lionlite.conversation.branch",
    "Message": "lionlite.conversation.messages",
    "Reply": "lionlite.service.reply",
    "Service": "lionlite.service.service",
    "Services": "lionlite.service.services",
    "Session": "lionlite.conversation.session",
    "Usage": "lionlite.records",
    "alcall": "lionlite.calls.family",
    "deadline": "lionlite.scope",
    "default_service": "lionlite.service.services",
    "icall": "lionlite.calls.family",
    "lcall": "lionlite.calls.family",
    "set_default_service": "lionlite.service.services",
}
_MODULES = frozenset({"exceptions", "testing"})


def __getattr__(name: str) -> object:
    if name not in __all__:
        msg = f"module 'lionlite' has no attribute {name!r}"
        raise AttributeError(msg)
    if name in _MODULES:
        value: object = importlib.import_module(f"lionlite.{name}")
    else:
        room = importlib.import_module(_ROOMS.get(name, "lionlite.exceptions"))
        value = getattr(room, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
