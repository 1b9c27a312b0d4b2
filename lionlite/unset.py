"""The value of an argument that was not given, where None means something.

Holds: `UNSET` and its type. Does not hold: anything else.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal


class Unset(Enum):
    """The type of `UNSET`."""

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
"""Not given: the default applies. None, where allowed, is an answer of its own."""

UnsetType = Literal[Unset.UNSET]
