"""Faults of the connection: cut, silent, slow, or closed while it was idle.

Holds: the group "network". Does not hold: what no server can play (names that
are not found, ports that nobody listens on). Pure.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

from lionlite.testing.faults.wirefault import (
    Asked,
    WireFault,
    head_of,
    healthy,
    nothing,
)
from lionlite.testing.message import Step, chunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_fault = partial(WireFault, group="network")


def _mid_head(asked: Asked) -> Iterable[Step]:
    yield asked.parts()[0][:30]


def _mid_body(asked: Asked) -> Iterable[Step]:
    head, body = asked.parts()
    yield head + body[: len(body) // 2]


def _drip(data: bytes, pause_s: float) -> Iterator[Step]:
    for place in range(len(data)):
        yield data[place : place + 1]
        yield pause_s


def _head_drip(asked: Asked) -> Iterable[Step]:
    head, body = asked.parts()
    yield from _drip(head, asked.pause_s)
    yield body


def _body_drip(asked: Asked) -> Iterable[Step]:
    head, body = asked.parts()
    yield head
    yield from _drip(body, asked.pause_s)


def _blanks_drip(asked: Asked) -> Iterable[Step]:
    yield head_of(None, transfer_encoding="chunked")
    for _ in itertools.count():
        yield chunk(b" ")
        yield asked.pause_s


def _interim_drip(asked: Asked) -> Iterable[Step]:
    for _ in itertools.count():
        yield b"HTTP/1.1 102 Processing\r\n\r\n"
        yield asked.pause_s


def _too_long(asked: Asked) -> Iterable[Step]:
    body = asked.parts()[1]
    yield asked.head(len(body) + 50) + body


def _too_short(asked: Asked) -> Iterable[Step]:
    body = asked.parts()[1]
    yield asked.head(len(body) // 2) + body


def _late_word(asked: Asked) -> Iterable[Step]:
    yield from healthy(asked)
    yield 0.01
    yield b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def catalogue() -> list[WireFault]:
    """Return the faults of the connection."""
    return [*_cuts(), *_silences(), *_drips(), *_lies()]


def _cuts() -> list[WireFault]:
    return [
        _fault(
            name="rst_before_head",
            does="Resets the connection instead of a reply.",
            plays=nothing,
            after="reset",
        ),
        _fault(
            name="fin_before_head",
            does="Closes the connection instead of a reply.",
            plays=nothing,
        ),
        _fault(
            name="rst_in_request",
            does="Resets the connection before it has read the request's body.",
            plays=nothing,
            after="reset",
            before_body=True,
        ),
        _fault(
            name="rst_mid_head",
            does="Resets the connection in the reply's head.",
            plays=_mid_head,
            after="reset",
        ),
        _fault(
            name="fin_mid_head", does="Closes the connection in the reply's head.", plays=_mid_head
        ),
        _fault(
            name="rst_mid_body",
            does="Resets the connection after half of the body.",
            plays=_mid_body,
            after="reset",
        ),
        _fault(
            name="fin_mid_body",
            does="Closes the connection after half of the body.",
            plays=_mid_body,
        ),
    ]


def _silences() -> list[WireFault]:
    return [
        _fault(name="hang", does="Says nothing, for ever.", plays=nothing, after="hold"),
        _fault(
            name="hang_mid_head",
            does="Falls silent in the reply's head.",
            plays=_mid_head,
            after="hold",
        ),
        _fault(
            name="hang_mid_body",
            does="Falls silent after half of the body.",
            plays=_mid_body,
            after="hold",
        ),
        _fault(
            name="deaf",
            does="Reads the head of the request and nothing more, and says nothing.",
            plays=nothing,
            after="deaf",
            before_body=True,
        ),
        _fault(
            name="stale_idle",
            does="Answers, promises to keep the connection, and closes it.",
            plays=healthy,
            is_harmless=True,
        ),
        _fault(
            name="stale_idle_408",
            does="Answers, and says 408 to nobody before it closes the idle connection.",
            plays=_late_word,
            is_harmless=True,
        ),
        _fault(
            name="stale_at_request",
            does="Answers, and closes the connection when the next request comes.",
            plays=healthy,
            after="keep",
            is_harmless=True,
            then="fin_before_head",
        ),
        _fault(
            name="stale_at_request_rst",
            does="Answers, and resets the connection when the next request comes.",
            plays=healthy,
            after="keep",
            is_harmless=True,
            then="rst_before_head",
        ),
    ]


def _drips() -> list[WireFault]:
    return [
        _fault(name="head_drip", does="Sends the head byte by byte.", plays=_head_drip),
        _fault(name="body_drip", does="Sends the body byte by byte.", plays=_body_drip),
        _fault(
            name="blanks_drip", does="Sends a chunk of one blank, for ever.", plays=_blanks_drip
        ),
        _fault(name="interim_drip", does="Sends 102 Processing, for ever.", plays=_interim_drip),
    ]


def _lies() -> list[WireFault]:
    return [
        _fault(
            name="length_too_long",
            does="Announces 50 bytes more than it sends, and closes.",
            plays=_too_long,
        ),
        _fault(
            name="length_too_long_hang",
            does="Announces 50 bytes more than it sends, and falls silent.",
            plays=_too_long,
            after="hold",
        ),
        _fault(
            name="length_too_short",
            does="Announces half of the bytes it sends.",
            plays=_too_short,
        ),
    ]
