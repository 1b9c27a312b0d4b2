"""Server-sent events: the bytes of a stream in, its events out.

Holds: line ends, comments, fields, and the caps on what one line, one event
and a whole stream may take. Does not hold: what an event means (chunks.py),
sockets, time. One reader belongs to one stream of one thread.

Source: the WHATWG HTML standard, section 9.2 (server-sent events). We differ
in one thing: an event that the stream ends within is handed out on its own,
because servers forget the last blank line.
"""

from __future__ import annotations

from typing import Final

from lionlite.exceptions import ResponseTooLarge

MAX_LINE_BYTES: Final = 1024 * 1024
"""One line without an end; the longest chunks of today's models are below 100 kB."""

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
"""All data lines of one event together."""

MAX_STREAM_BYTES: Final = 512 * 1024 * 1024
"""A whole stream, as the transport caps it: 128,000 tokens are 50 MB at 400 bytes a chunk, and
384 MB with 20 log probabilities each."""

_BOM: Final = b"\xef\xbb\xbf"


Event = tuple[bytes, str]
"""The data lines of an event, joined with line feeds, and its name, "" if it has none.

A bare tuple: a stream makes one for every word.
"""


class EventReader:
    """Cuts a stream of bytes into events, wherever the pieces are cut.

    Threads: belongs to one.
    """

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # the line that has not ended yet, in pieces
        self._rest_bytes = 0
        self._stream_bytes = 0
        self._is_after_cr = False
        self._is_at_start = True
        self._is_between_events = False
        self._lines: list[bytes] = []  # the data lines of the event that has not ended yet
        self._lines_bytes = 0
        self._name = ""

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that *data* completes, in order.

        Raises:
            ResponseTooLarge: A line, an event or the stream passes its cap;
                the reader is of no more use.
        """
        self._stream_bytes += len(data)
        if self._stream_bytes > MAX_STREAM_BYTES:
            msg = f"The stream is longer than {MAX_STREAM_BYTES:,} bytes."
            raise ResponseTooLarge(msg)
        if self._is_between_events and b"\r" not in data and data.startswith(b"data: "):
            end = len(data) - 2
            if data.find(b"\n") == end and data.endswith(b"\n\n") and end <= MAX_LINE_BYTES:
                # The usual piece: one event of one data line, in one step.
                return [(data[6:end], "")]
        if self._is_at_start:
            data = self._begun(data)
        if self._is_after_cr or b"\r" in data:
            data = self._in_line_feeds(data)
        end = data.rfind(b"\n") + 1
        if end != len(data) or self._rest:
            data = self._whole_lines(data, end)
        events = self._events_in(data) if data else []
        self._is_between_events = not (
            self._rest or self._lines or self._name or self._is_after_cr or self._is_at_start
        )
        return events

    def feed_end(self) -> Event | None:
        """Return the event that the stream ended within, None if there is none.

        It may be whole, and only lack its blank line, or be cut.
        """
        # Two line ends: one ends the last line, one ends the event.
        events = self._events_in(b"".join((*self._rest, b"\n\n")))
        self._rest.clear()
        return events[0] if events else None

    def _begun(self, data: bytes) -> bytes:
        """Return *data* without a byte order mark, b"" until that is known."""
        data = b"".join((*self._rest, data))
        self._rest.clear()
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._rest.append(data)
            return b""
        self._is_at_start = False
        return data.removeprefix(_BOM)

    def _in_line_feeds(self, data: bytes) -> bytes:
        """Return *data* with each of CRLF, CR and LF as one LF."""
        if self._is_after_cr and data:
            data = data.removeprefix(b"\n")
            self._is_after_cr = False
        if data.endswith(b"\r"):
            # A line feed that follows in the next piece belongs to it.
            self._is_after_cr = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _whole_lines(self, data: bytes, end: int) -> bytes:
        """Keep what follows *end*; return the lines before it, the kept one first."""
        rest = data[end:]
        if not end:
            # Joined only once it ends: joining at every piece would be quadratic.
            self._keep(rest)
            return b""
        if self._rest:
            data = b"".join((*self._rest, data[:end]))
            self._rest.clear()
            self._rest_bytes = 0
        else:
            data = data[:end]
        if rest:
            self._keep(rest)
        return data

    def _keep(self, rest: bytes) -> None:
        self._rest.append(rest)
        self._rest_bytes += len(rest)
        if self._rest_bytes > MAX_LINE_BYTES:
            raise _line_too_long()

    def _events_in(self, data: bytes) -> list[Event]:
        """Return the events in *data*, which is whole lines."""
        if self._lines or self._name or not data.endswith(b"\n\n"):
            return self._events_by_line(data)
        events: list[Event] = []
        for block in data[:-2].split(b"\n\n"):
            if block.startswith(b"data: ") and b"\n" not in block:
                if len(block) > MAX_LINE_BYTES:
                    raise _line_too_long()
                events.append((block[6:], ""))
            else:
                events += self._events_by_line(block + b"\n\n")
        return events

    def _events_by_line(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for line in data[:-1].split(b"\n"):
            if line:
                self._take(line)
                continue
            if self._lines:
                events.append((b"\n".join(self._lines), self._name))
            self._lines, self._lines_bytes, self._name = [], 0, ""
        return events

    def _take(self, line: bytes) -> None:
        if len(line) > MAX_LINE_BYTES:
            raise _line_too_long()
        # A comment has no name; "id", "retry" and unknown fields mean nothing here.
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._lines.append(value)
            self._lines_bytes += len(value) + 1
            if self._lines_bytes > MAX_EVENT_BYTES:
                msg = f"An event of the stream is longer than {MAX_EVENT_BYTES:,} bytes."
                raise ResponseTooLarge(msg)
        elif name == b"event":
            self._name = value.decode("utf-8", "replace")


def _line_too_long() -> ResponseTooLarge:
    msg = f"A line of the stream is longer than {MAX_LINE_BYTES:,} bytes."
    return ResponseTooLarge(msg)
