"""Faults in the grammar of a reply: what is no HTTP, too much of it, or ambiguous.

Holds: the group "http". Does not hold: what the provider means (status.py,
body.py). Pure.
Source: RFC 9112, sections 2 to 7 and 11 (smuggling).
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

from lionlite.testing.faults.wirefault import BLANKS, Asked, WireFault, head_of
from lionlite.testing.message import Step, chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_fault = partial(WireFault, group="http")
_INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
_ROOMY = 26 * 1024 * 1024  # a header of this length costs llhttp seconds


def _first_line(line: bytes) -> Callable[[Asked], Iterable[Step]]:
    """Play the healthy reply under another first line."""

    def plays(asked: Asked) -> Iterable[Step]:
        head, body = asked.parts()
        yield line + b"\r\n" + head.partition(b"\r\n")[2] + body

    return plays


def _more_head(lines: bytes) -> Callable[[Asked], Iterable[Step]]:
    """Play the healthy reply with *lines* at the end of its head."""

    def plays(asked: Asked) -> Iterable[Step]:
        head, body = asked.parts()
        yield head[:-2] + lines + b"\r\n" + body

    return plays


def _length(text: str) -> Callable[[Asked], Iterable[Step]]:
    """Play the healthy body under another Content-Length."""

    def plays(asked: Asked) -> Iterable[Step]:
        yield asked.head(text) + asked.parts()[1]

    return plays


def _just(data: bytes) -> Callable[[Asked], Iterable[Step]]:
    def plays(_: Asked) -> Iterable[Step]:
        yield data

    return plays


def _before(data: bytes) -> Callable[[Asked], Iterable[Step]]:
    def plays(asked: Asked) -> Iterable[Step]:
        yield data + b"".join(asked.parts())

    return plays


def _after(data: bytes | None) -> Callable[[Asked], Iterable[Step]]:
    """Play the healthy reply and *data* behind it; None = the reply once more."""

    def plays(asked: Asked) -> Iterable[Step]:
        reply = b"".join(asked.parts())
        yield reply + (reply if data is None else data)

    return plays


def _huge_header(_: Asked) -> Iterable[Step]:
    yield b"HTTP/1.1 200 OK\r\nx-huge: "
    for _sent in range(0, _ROOMY, len(BLANKS)):
        yield b"x" * len(BLANKS)
    yield b"\r\ncontent-length: 2\r\n\r\n{}"


def _many_headers(asked: Asked) -> Iterable[Step]:
    lines = b"".join(b"x-%d: y\r\n" % number for number in range(20_000))
    yield from _more_head(lines)(asked)


def _chunked(body: Callable[[bytes], bytes]) -> Callable[[Asked], Iterable[Step]]:
    """Play the healthy body in a chunked coding that *body* makes of it."""

    def plays(asked: Asked) -> Iterable[Step]:
        yield asked.head(None, transfer_encoding="chunked") + body(asked.parts()[1])

    return plays


def _te_and_length(asked: Asked) -> Iterable[Step]:
    body = asked.parts()[1]
    head = asked.head(3, transfer_encoding="chunked")
    yield head + chunk(body) + chunk(b"")


def _echo_in_status_line(asked: Asked) -> Iterable[Step]:
    yield b"HTTP/1.1 4xx key " + asked.key.encode("latin-1", "replace") + b" refused\r\n\r\n"


def _echo_in_header_name(asked: Asked) -> Iterable[Step]:
    key = asked.key.encode("latin-1", "replace")
    yield b"HTTP/1.1 200 OK\r\n" + key + b" " + key + b": x\r\ncontent-length: 2\r\n\r\n{}"


def _huge_body(_: Asked) -> Iterable[Step]:
    yield head_of(None, transfer_encoding="chunked")
    for _sent in itertools.count():
        yield chunk(BLANKS)


def catalogue() -> list[WireFault]:
    """Return the faults of the reply's grammar."""
    return [*_no_http(), *_too_much(), *_ambiguous(), *_odd_but_sound()]


def _no_http() -> list[WireFault]:
    lines = {
        "not_http": (b"Hello, I am a mail server", "Greets as a mail server does."),
        "bad_status_line": (b"HTTP/1.1 abc OK", "Sends letters as the status."),
        "status_099": (b"HTTP/1.1 099 Low", "Sends a status below 100."),
        "status_600": (b"HTTP/1.1 600 High", "Sends a status above 599."),
        "status_9999": (b"HTTP/1.1 9999 Long", "Sends a status of four digits."),
        "http_2_line": (b"HTTP/2.0 200 OK", "Claims to speak HTTP/2."),
        "switching_101": (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade",
            "Changes to another protocol.",
        ),
    }
    return [
        *(
            _fault(name=name, does=does, plays=_first_line(line))
            for name, (line, does) in lines.items()
        ),
        _fault(
            name="http_0_9",
            does="Sends the body without a head.",
            plays=lambda asked: [asked.parts()[1]],
        ),
        _fault(
            name="binary_garbage",
            does="Sends bytes that are no text at all.",
            plays=_just(bytes(range(256)) * 4),
        ),
        _fault(
            name="tls_alert",
            does="Answers in TLS, as a wrong port does.",
            plays=_just(b"\x15\x03\x01\x00\x02\x02\x28"),
        ),
        _fault(
            name="echo_in_status_line",
            does="Repeats the key in a status line that is none.",
            plays=_echo_in_status_line,
        ),
        _fault(
            name="echo_in_header_name",
            does="Repeats the key in a header line that is none.",
            plays=_echo_in_header_name,
        ),
    ]


def _too_much() -> list[WireFault]:
    return [
        _fault(
            name="interim_many",
            does="Sends 103 Early Hints 10,000 times before its reply.",
            plays=_before(_INTERIM * 10_000),
        ),
        _fault(
            name="headers_20000", does="Sends a head of 20,000 header fields.", plays=_many_headers
        ),
        _fault(
            name="header_giant",
            does="Sends one header field of 100 kB.",
            plays=_more_head(b"x-giant: " + b"x" * 100_000 + b"\r\n"),
        ),
        _fault(name="header_26mb", does="Sends one header field of 26 MB.", plays=_huge_header),
        _fault(name="body_endless", does="Sends a body that never ends.", plays=_huge_body),
    ]


def _ambiguous() -> list[WireFault]:
    return [
        _fault(
            name="length_twice",
            does="Announces two different lengths.",
            plays=_more_head(b"Content-Length: 3\r\n"),
        ),
        _fault(name="length_negative", does="Announces a length below zero.", plays=_length("-5")),
        _fault(name="length_no_number", does="Announces a length in words.", plays=_length("many")),
        _fault(
            name="length_absurd",
            does="Announces a length of 30 digits, and closes.",
            plays=_length("9" * 30),
        ),
        _fault(
            name="chunked_and_length",
            does="Announces a length, and sends chunks.",
            plays=_te_and_length,
        ),
        _fault(
            name="chunk_size_no_number",
            does="Sends a chunk whose size is no number.",
            plays=_chunked(lambda body: b"zz\r\n" + body + b"\r\n0\r\n\r\n"),
        ),
        _fault(
            name="chunk_size_absurd",
            does="Sends a chunk whose size has 30 digits.",
            plays=_chunked(lambda body: b"f" * 30 + b"\r\n" + body),
        ),
        _fault(
            name="chunks_without_end",
            does="Sends all chunks but the last, empty one, and closes.",
            plays=_chunked(chunk),
        ),
        _fault(
            name="nul_in_header",
            does="Sends a header field with a NUL in it.",
            plays=_more_head(b"x-nul: a\x00b\r\n"),
        ),
        _fault(
            name="blank_before_colon",
            does="Sends a blank between a field's name and its colon.",
            plays=_more_head(b"x-blank : a\r\n"),
        ),
        _fault(
            name="folded_header",
            does="Sends a header field on two lines, as mail may.",
            plays=_more_head(b"x-fold: a\r\n b\r\n"),
        ),
    ]


def _odd_but_sound() -> list[WireFault]:
    return [
        _fault(
            name="interim_100",
            does="Sends 100 Continue before its reply.",
            plays=_before(b"HTTP/1.1 100 Continue\r\n\r\n"),
            after="keep",
            is_harmless=True,
        ),
        _fault(
            name="chunked",
            does="Sends its reply in chunks, with an extension and a trailer.",
            plays=_chunked(
                lambda body: b"%x;a=b\r\n%b\r\n0\r\nx-trailer: 1\r\n\r\n" % (len(body), body)
            ),
            after="keep",
            is_harmless=True,
        ),
        _fault(
            name="close_delimited",
            does="Ends its body by closing the connection.",
            plays=lambda asked: [asked.head(None, connection="close") + asked.parts()[1]],
            is_harmless=True,
        ),
        _fault(
            name="junk_after_reply",
            does="Sends bytes that nobody asked for behind its reply.",
            plays=_after(b"more"),
            is_harmless=True,
        ),
        _fault(
            name="second_reply",
            does="Sends its reply twice.",
            plays=_after(None),
            is_harmless=True,
        ),
    ]
