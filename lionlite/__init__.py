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
    from lionlite.calls.batches import bcall
    from lionlite.calls.decorators.cd import cd
    from lionlite.calls.family import alcall, icall, lcall
    from lionlite.calls.matrix import mcall
    from lionlite.calls.runs.run import last_run, run
    from lionlite.calls.single import rcall, tcall
    from lionlite.conversation.branch import Branch
    from lionlite.conversation.prompt import Prompt
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
    "OutputError",
    "Prompt",
    "RateLimitError",
    "Reply",
    "Service",
    "Services",
    "Session",
    "alcall",
    "bcall",
    "cd",
    "deadline",
    "default_service",
    "exceptions",
    "icall",
    "last_run",
    "lcall",
    "mcall",
    "rcall",
    "run",
    "set_default_service",
    "tcall",
    "testing",
]

_ROOMS = {
    "Branch": "lionlite.conversation.branch",
    "Prompt": "lionlite.conversation.prompt",
    "Reply": "lionlite.service.reply",
    "Service": "lionlite.service.service",
    "Services": "lionlite.service.services",
    "Session": "lionlite.conversation.session",
    "alcall": "lionlite.calls.family",
    "bcall": "lionlite.calls.batches",
    "cd": "lionlite.calls.decorators.cd",
    "deadline": "lionlite.scope",
    "default_service": "lionlite.service.services",
    "icall": "lionlite.calls.family",
    "last_run": "lionlite.calls.runs.run",
    "lcall": "lionlite.calls.family",
    "mcall": "lionlite.calls.matrix",
    "rcall": "lionlite.calls.single",
    "run": "lionlite.calls.runs.run",
    "set_default_service": "lionlite.service.services",
    "tcall": "lionlite.calls.single",
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
