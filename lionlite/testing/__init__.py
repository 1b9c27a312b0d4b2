"""A provider, faults and a clock for testing programs that use lionlite.

Holds: the public names. Does not hold: anything that the library itself needs.
The provider is a real HTTP server on 127.0.0.1 and judges its clients by its
own count: it shares no code with the library's limiter and tokenizer. The
fault server and its catalogue are loaded at first use, since pytest loads this
in every run of everyone who has lionlite installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lionlite.testing.calculator import calculator_reply
from lionlite.testing.clock import ManualClock
from lionlite.testing.fault import FakeReply, Fault
from lionlite.testing.log import ReceivedRequest
from lionlite.testing.provider import FakeProvider
from lionlite.testing.report import Report
from lionlite.testing.streaming import FakeStream

if TYPE_CHECKING:
    from lionlite.testing.faults.catalogue import FAULTS
    from lionlite.testing.faults.wirefault import Asked, WireFault
    from lionlite.testing.faultserver import FaultServer

__all__ = [
    "FAULTS",
    "Asked",
    "FakeProvider",
    "FakeReply",
    "FakeStream",
    "Fault",
    "FaultServer",
    "ManualClock",
    "ReceivedRequest",
    "Report",
    "WireFault",
    "calculator_reply",
]

_LATER = {
    "FAULTS": "lionlite.testing.faults.catalogue",
    "Asked": "lionlite.testing.faults.wirefault",
    "FaultServer": "lionlite.testing.faultserver",
    "WireFault": "lionlite.testing.faults.wirefault",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        msg = f"module 'lionlite.testing' has no attribute {name!r}"
        raise AttributeError(msg)
    value: object = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = value
    return value
