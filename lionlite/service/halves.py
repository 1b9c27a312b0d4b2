"""Characters that a server cut between two events of a stream.

Holds: `Halves`. Servers in JavaScript cut a text between the two halves of a
character beyond U+FFFF, and send each as an escape. Does not hold: halves
whose other half never comes (jsontext.py). One belongs to one stream.
"""

from __future__ import annotations

import re

# At the end of a text, and at its beginning; an even number of backslashes before is text.
_FIRST = re.compile(rb'(?<!\\)((?:\\\\)*)(\\u[dD][89abAB][0-9a-fA-F]{2})"')
_SECOND = re.compile(rb'(?<!\\)"(\\u[dD][c-fC-F][0-9a-fA-F]{2})')


class Halves:
    """Joins the halves."""

    def __init__(self) -> None:
        self._first = b""

    def joined(self, event: bytes) -> bytes:
        """Return *event* with the first half that an event before it ended with.

        A first half at the end of its own text is left out, for the next one.
        """
        if b"\\ud" not in event and b"\\uD" not in event:
            return event
        if self._first:
            event = _SECOND.sub(rb'"' + self._first.replace(b"\\", b"\\\\") + rb"\1", event, 1)
            self._first = b""
        found = _FIRST.search(event)
        if found:
            self._first = found[2]
            event = event[: found.start(2)] + event[found.end(2) :]
        return event
