"""A provider, a clock and faults for testing programs that use lionlite.

Holds: the public names. Does not hold: anything that the library itself needs.
The provider is a real HTTP server on 127.0.0.1 and judges its clients by its
own count: it shares no code with the library's limiter and tokenizer.
"""

from __future__ import annotations

from lionlite.testing.calculator import calculator_reply
from lionlite.testing.clock import ManualClock
from lionlite.testing.fault import FakeReply, Fault
from lionlite.testing.log import ReceivedRequest
from lionlite.testing.provider import FakeProvider
from lionlite.testing.report import Report

__all__ = [
    "FakeProvider",
    "FakeReply",
    "Fault",
    "ManualClock",
    "ReceivedRequest",
    "Report",
    "calculator_reply",
]
