"""A reply whose body is still on its way.

Holds: `OpenReply`, which decodes, caps and releases. Does not hold: where the
body comes from (exchange.py for our own connections, proxy.py, borrowed.py).
An open reply belongs to one thread at a time.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Protocol

from lionlite import scope
from lionlite.exceptions import ConnectionFailed, DeadlineExceeded, ResponseError
from lionlite.service.transport.decode import decoded_refusal, decoder_for, too_large
from lionlite.service.transport.parse import MAX_BODY_BYTES, RawReply, is_good

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lionlite.service.transport.decode import Decoder

MAX_STREAM_BYTES = 512 * 1024 * 1024
"""128,000 tokens with 20 log probabilities each, at some 3 kB a token."""


class Source(Protocol):
    """Where the body of an open reply comes from; must not hold the reply."""

    def more(self) -> bytes | None:
        """Return the next piece as it arrived, None at the end of a whole body.

        Raises:
            ConnectionFailed: The body was cut.
            ResponseError: It is not HTTP, or past a cap.
            DeadlineExceeded: A deadline passed, or nothing came for too long.
            Cancelled: A scope was cancelled.
        """

    def release(self) -> None:
        """Give everything back; called by the reader, who calls nothing else after it."""

    def abandon(self) -> None:
        """Do the same for a reply that was dropped.

        Garbage collection calls it, inside of any code, so that it must not
        take a lock. Either this or `release` is called, once.
        """


class OpenReply:
    """A reply whose head is complete.

    Dropped unread, it closes its connection, so that the provider stops.

    Args:
        status: The HTTP status.
        headers: Lower-case names; values of equal names joined with ", ".
        source: The rest of it.
        is_decoded: Whether to undo the content coding; where the status is not
            good, only `read` does, and as far as it can.

    Attributes:
        status: The HTTP status.
        headers: As given.

    Raises:
        ResponseError: The status is good, but the body has a coding that we
            did not ask for.

    Threads: one at a time.
    """

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        source: Source,
        *,
        is_decoded: bool = True,
    ) -> None:
        self.status = status
        self.headers = headers
        self._source = source
        self._scope = scope.current()
        self._coding = headers.get("content-encoding", "") if is_decoded else ""
        self._decoder = (
            decoder_for(self._coding, max_bytes=MAX_STREAM_BYTES) if is_good(status) else None
        )
        # Of a body without coding; a decoder counts for itself.
        self._max_bytes, self._count = MAX_STREAM_BYTES, 0
        self._has_ended = False
        self._finalizer = weakref.finalize(self, source.abandon)
        self._finalizer.atexit = False

    def chunks(self) -> Iterator[bytes]:
        """Yield the rest of the body, decoded, in pieces, as soon as they arrive.

        Raises:
            ConnectionFailed: The body was cut, or the reply was closed.
            ResponseError: It is not HTTP, its coding is broken, or it passes a cap.
            DeadlineExceeded: The deadline of the scope in which the reply was
                opened passed, or that of the current one, or nothing came for
                too long.
            Cancelled: One of the two scopes was cancelled.

        Threads: blocks the calling thread only.
        """
        while (piece := self._next()) is not None:
            yield piece

    def read(self) -> RawReply:
        """Return the reply with the whole rest of its body.

        Raises:
            LionError: As `chunks`; ResponseTooLarge already past the cap of
                replies that are not streamed.
        """
        self._max_bytes = MAX_BODY_BYTES
        if self._decoder is not None:
            self._decoder.max_bytes = MAX_BODY_BYTES
        body = b"".join(self.chunks())
        if self._coding and not is_good(self.status):
            body = decoded_refusal(body, self._coding, max_bytes=MAX_BODY_BYTES)
        return RawReply(self.status, self.headers, body)

    def close(self) -> None:
        """Give the connection back if the reply was read to its end, else close it.

        A second call does nothing.

        Threads: from the thread that reads.
        """
        if self._finalizer.detach() is not None:
            self._source.release()

    def _next(self) -> bytes | None:
        if self._has_ended:
            return None
        if not self._finalizer.alive:
            msg = "The reply was closed before its end."
            raise ConnectionFailed(msg, retryable=False)
        try:
            piece = self._plain() if self._decoder is None else self._decoded(self._decoder)
        except BaseException as error:
            self.close()
            if isinstance(error, ResponseError):
                # The frames below hold what was received, which may echo the key.
                error.__traceback__ = None
            raise
        if piece is None:
            self._has_ended = True
            self.close()
        return piece

    def _plain(self) -> bytes | None:
        piece = self._source.more()
        if piece is not None:
            self._count += len(piece)
            if self._count > self._max_bytes:
                raise too_large(self._max_bytes)
        return piece

    def _decoded(self, decoder: Decoder) -> bytes | None:
        # A small piece may hold much: while it comes out, nobody waits and looks.
        self._scope.check("read")
        scope.current().check("read")
        while not (piece := decoder.take()):
            raw = self._source.more()
            if raw is None:
                decoder.finish()
                return None
            decoder.put(raw)
        return piece


def too_quiet(idle_s: float) -> DeadlineExceeded:
    """Return the error for a provider that sent nothing for *idle_s* seconds."""
    msg = (
        f"The provider sent nothing for {idle_s:g} s, though the call had more time. "
        f"Give it more with idle_timeout=."
    )
    return DeadlineExceeded(msg, phase="read")
