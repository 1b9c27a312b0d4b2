"""SIGTERM heard as Ctrl-C is, for as long as a run wants it.

Holds: `terminable`. Does not hold: what an interruption means (engine.py).
Threads: for the main thread only, where Python runs signal handlers.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def terminable(is_wanted: bool) -> Iterator[None]:  # noqa: FBT001
    """Have SIGTERM raise KeyboardInterrupt inside the `with`, if *is_wanted*.

    The handler of before is put back at the end.
    """
    if not is_wanted:
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        # None: it was set by code that is not Python's, and cannot be had back.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
