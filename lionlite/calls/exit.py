"""The end of Python while items still run: they are told, and who stays is named.

Holds: the list of runs that live, and what happens to them when the
interpreter exits. Does not hold: Ctrl-C (engine.py). Safe to share between
threads.

Python joins the threads of every executor before it calls what `atexit` holds,
so a run that another thread drives would do all its items first, minutes of
replies. `threading._register_atexit` comes before that (CPython 3.9 and later;
without it, exit waits as it always did). What no one can end is a function
stuck in I/O of its own: its threads are Python's to wait for, so it is named.
"""

from __future__ import annotations

# Registers its own hook when it is imported. The last one registered is called
# first, and ours must be, so this import comes before ours is registered.
import concurrent.futures.thread  # noqa: F401
import os
import sys
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lionlite.calls.pool import Pool
    from lionlite.scope import CancelToken

# What items get to come back when Python exits; a chat that is told needs about 1 ms.
GRACE_S = 0.5
LOOK_S = 0.005

# By the id of the pool. Adding, dropping and listing are atomic.
_live: dict[int, tuple[weakref.ref[Pool[Any, Any]], CancelToken, str]] = {}


def watch(pool: Pool[Any, Any], token: CancelToken, *, name: str) -> None:
    """Have the run of *pool* ended if Python exits before it is over.

    Args:
        pool: Its threads; watched for as long as any of them lives.
        token: Cancels the run.
        name: Of the function, for those who wonder why Python does not end.
    """
    key = id(pool)
    _live[key] = weakref.ref(pool, lambda _: _forget(key)), token, name


def unwatch(pool: Pool[Any, Any]) -> None:
    """Forget a run that is over."""
    _forget(id(pool))


def _forget(key: int) -> None:
    _live.pop(key, None)


def _end_all() -> None:
    runs = [(pool, token, name) for ref, token, name in list(_live.values()) if (pool := ref())]
    for pool, token, _ in runs:
        token.cancel()
        pool.shut()
    try:
        _wait([pool for pool, _, _ in runs])
    finally:  # after Ctrl-C too, which goes on to end Python
        for pool, _, name in runs:
            _name_stuck(pool, name)


def _name_stuck(pool: Pool[Any, Any], name: str) -> None:
    count, seconds = pool.stuck()
    if count:
        _say(
            f"lionlite: Python waits for {count} running items of {name}(), which does not "
            f"end when told (the oldest since {seconds:.0f} s). Ctrl-C ends without them."
        )


def _wait(pools: list[Pool[Any, Any]]) -> None:
    ends_at_s = time.monotonic() + GRACE_S
    while any(pool.stuck()[0] for pool in pools) and time.monotonic() < ends_at_s:
        time.sleep(LOOK_S)


def _say(line: str) -> None:
    # There may be no stderr, or one that nobody reads any more.
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


_register = getattr(threading, "_register_atexit", None)
if _register is not None:  # pragma: no branch - every CPython that we run on has it
    with suppress(RuntimeError):  # Python is exiting already
        _register(_end_all)

if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    # The threads of its parent's runs do not live in a child.
    os.register_at_fork(after_in_child=_live.clear)
