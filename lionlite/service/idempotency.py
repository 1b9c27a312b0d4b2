"""The name that all attempts of one logical call go out under.

Holds: the names, and the line of a request's head that says one. Does not
hold: which calls have one (call.py). Safe to share between threads; a forked
child makes other names than its parent and its parent's other children.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER: Final = "Idempotency-Key"


class _Names:
    """Names that no other process makes; two machines make one in 2**64."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.begin_anew()

    def begin_anew(self) -> None:
        """Make other names from now on: this is a forked child."""
        self._prefix = os.urandom(8).hex()

    def next(self) -> str:
        # The process's number too, for forks that Python does not see (uWSGI).
        return f"{self._prefix}-{os.getpid():x}-{next(self._numbers):x}"


_names = _Names()

new_name = _names.next
"""Returns what no other call is named."""

if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    # A process's number comes again, in a day where servers fork for each request.
    os.register_at_fork(after_in_child=_names.begin_anew)


def line_of(name: str) -> bytes:
    """Return the line of the head that says *name*."""
    return f"{HEADER}: {name}\r\n".encode()


def is_in(headers: Mapping[str, str]) -> bool:
    """Whether *headers* name the call themselves."""
    return any(name.lower() == HEADER.lower() for name in headers)
