"""Everything that can go wrong between a client and its provider, by name.

Holds: `FAULTS`, the catalogue. Does not hold: the server that plays them
(faultserver.py). Values, safe to share.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from lionlite.testing.faults import body, http, network, status, stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lionlite.testing.faults.wirefault import WireFault

FAULTS: Mapping[str, WireFault] = MappingProxyType(
    {
        fault.name: fault
        for room in (network, http, status, body, stream)
        for fault in room.catalogue()
    }
)
"""Every fault that `FaultServer` knows, by its name."""
