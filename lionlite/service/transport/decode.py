"""The content coding of a body, undone piece by piece within a cap.

Holds: identity and gzip; we ask for identity, but a proxy may not care. Does
not hold: HTTP's framing (parse.py). One decoder belongs to one body.

Source: RFC 9110, section 8.4.1.
"""

from __future__ import annotations

import zlib

from lionlite.exceptions import ResponseError, ResponseTooLarge

SLICE_BYTES = 64 * 1024
"""A small piece of gzip may hold megabytes: they come out in slices of this size."""

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_CODINGS = frozenset(
    {"br", "compress", "dcb", "dcz", "deflate", "gzip", "x-compress", "x-gzip", "zstd"}
)


def decoder_for(coding: str, *, max_bytes: int) -> Decoder | None:
    """Return what undoes *coding*, None if there is nothing to undo.

    Args:
        coding: Of the content-encoding header, "" if there is none.
        max_bytes: Cap on the decoded body.

    Raises:
        ResponseError: A coding that we did not ask for and do not read.
    """
    names = [name.strip() for name in coding.lower().split(",")]
    # What is no coding ("none", "utf-8") is passed over, as every client does.
    codings = [name for name in names if name in _CODINGS]
    if not codings:
        return None
    if codings == ["gzip"]:
        return Decoder(max_bytes)
    # Only names that we know are shown: a header may echo the key.
    msg = f"The reply is encoded as {', '.join(codings)!r:.40}, which was not asked for."
    raise ResponseError(msg)


def decoded(body: bytes, coding: str, *, max_bytes: int) -> bytes:
    """Return a whole body, decoded.

    Raises:
        ResponseError: The coding is broken or one we did not ask for.
        ResponseTooLarge: The body decodes past *max_bytes*.
    """
    if not body:
        return body
    decoder = decoder_for(coding, max_bytes=max_bytes)
    if decoder is None:
        return body
    decoder.put(body)
    pieces = list(iter(decoder.take, b""))
    decoder.finish()
    return b"".join(pieces)


def decoded_refusal(body: bytes, coding: str, *, max_bytes: int) -> bytes:
    """Return the body of a reply whose status says no, as far as it can be read.

    A body that cannot be decoded must not hide the status.
    """
    try:
        return decoded(body, coding, max_bytes=max_bytes)
    except ResponseError:
        # The header may be wrong, and the body plain.
        return body if _is_text(body) else b""


def too_large(max_bytes: int) -> ResponseTooLarge:
    """Return the error for a body past its cap."""
    msg = f"The reply's body is longer than {max_bytes:,} bytes."
    return ResponseTooLarge(msg)


class Decoder:
    """Unpacks the first member of a gzip; what follows it is not looked at.

    Args:
        max_bytes: Cap on what comes out in all; may be changed on the way.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._inflater = zlib.decompressobj(_GZIP_WINDOW)
        self._packed = memoryview(b"")
        # Of the slice that zlib has: it hands back, as a copy, what it did not get to.
        self._left = b""
        self._count = 0
        self._has_begun = False

    def put(self, piece: bytes) -> None:
        """Take the next piece of the body, once `take` has returned b""."""
        self._packed = memoryview(piece)
        self._has_begun = self._has_begun or bool(piece)

    def take(self) -> bytes:
        """Return what is unpacked and not taken yet; b"" when more must be put.

        Raises:
            ResponseError: It is no gzip.
            ResponseTooLarge: It unpacks past the cap.
        """
        room = min(SLICE_BYTES, self.max_bytes - self._count + 1)
        if room <= 0:
            raise too_large(self.max_bytes)
        plain = b""
        while not plain and not self._inflater.eof:
            is_fed = bool(self._left or self._packed)
            plain = self._unpacked(room)
            if not is_fed:
                # Asked once more: zlib may hold back what did not fit a slice.
                break
        self._count += len(plain)
        if self._count > self.max_bytes:
            raise too_large(self.max_bytes)
        return plain

    def _unpacked(self, room: int) -> bytes:
        if not self._left:
            self._left = bytes(self._packed[:SLICE_BYTES])
            self._packed = self._packed[SLICE_BYTES:]
        try:
            plain = self._inflater.decompress(self._left, room)
        except zlib.error as exc:
            msg = f"The reply's gzip is broken: {exc}."
            raise ResponseError(msg) from exc
        self._left = self._inflater.unconsumed_tail
        return plain

    def finish(self) -> None:
        """Take note that the body ended here.

        Raises:
            ResponseError: Inside of the gzip.
        """
        # A body of no bytes at all was never packed.
        if self._has_begun and not self._inflater.eof:
            msg = "The reply's gzip ends too early."
            raise ResponseError(msg)


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
