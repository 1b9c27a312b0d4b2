"""What a value looks like in a message, whatever its class makes of `repr`.

Holds: `shown`. Does not hold: the messages. Pure, safe anywhere.
"""

from __future__ import annotations


def shown(value: object, width: int = 60) -> str:
    """Return the beginning of the repr of *value*, or its class if it has none.

    A value from outside may have a repr that raises, or that never ends; the
    error that is about the value must not give way to that one.
    """
    try:
        return repr(value)[:width]
    except Exception:  # noqa: BLE001 - whatever it raises
        return f"<{type(value).__name__}>"
