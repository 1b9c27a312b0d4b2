"""A stream as it goes out: event by event, until its end or until nobody listens.

Holds: `Stream` and the steps in which it is sent. Does not hold: the events
(streaming.py), the sockets (server.py), or the charge (endpoint.py). Values;
the steps belong to one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from lionlite.testing.message import After, HttpReply, Step, SteppedReply, chunk, render_head

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from lionlite.testing.streaming import StreamEvent


@attrs.frozen
class Progress:
    """How far a stream came.

    Attributes:
        said: The content that was sent.
        pieces: How many pieces of content, reasoning and tool calls were.
        is_aborted: Whether the client left before the end.
    """

    said: str
    pieces: int
    is_aborted: bool


@attrs.frozen
class Stream:
    """Events to be sent, and how.

    Attributes:
        events: At least one.
        delay_s: Seconds between two pieces.
        sent_bytes: How many bytes of the events go out; None is all of them.
            At least one is missing.
        after: What becomes of the connection when it is cut.
    """

    events: Sequence[StreamEvent]
    delay_s: float = 0.0
    sent_bytes: int | None = None
    after: After = "keep"

    def reply(
        self, http: HttpReply, *, is_chunked: bool, ended: Callable[[Progress], None]
    ) -> SteppedReply:
        """Return the reply that sends it.

        Args:
            http: Its status and headers; the body does not count.
            is_chunked: Whether the client reads chunks (HTTP/1.1); if not, the
                end of the connection is the end of the stream.
            ended: Told once how far it came, before the last event goes out.
        """
        after: After = self.after if self.sent_bytes is not None or is_chunked else "close"
        framing = {"transfer-encoding": "chunked"} if is_chunked else {"connection": "close"}
        head = render_head(http, {"content-type": http.content_type, **framing})
        return SteppedReply(self._steps(head, is_chunked=is_chunked, ended=ended), after)

    def _steps(
        self, head: bytes, *, is_chunked: bool, ended: Callable[[Progress], None]
    ) -> Generator[Step, None, None]:
        frames = self._frames()
        framed = chunk if is_chunked else bytes
        said: list[str] = []
        is_aborted = True
        try:
            yield head
            for data, piece in frames[:-1]:
                yield self.delay_s if said and piece is not None else 0.0
                yield framed(data)
                if piece is not None:
                    said.append(piece)
            yield 0.0
            is_aborted = False
        finally:
            ended(Progress("".join(said), len(said), is_aborted))
        for data, _ in frames[-1:]:
            yield framed(data)
        if is_chunked and self.sent_bytes is None:
            yield chunk(b"")

    def _frames(self) -> list[tuple[bytes, str | None]]:
        """Return the events' bytes and pieces, as far as they go out."""
        whole = [(event.data, event.piece) for event in self.events]
        if self.sent_bytes is None:
            return whole
        room = min(self.sent_bytes, sum(len(data) for data, _ in whole) - 1)
        cut = []
        for data, piece in whole:
            if room <= 0:
                break
            cut.append((data[:room], piece))
            room -= len(data)
        return cut
