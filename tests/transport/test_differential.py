"""Our path beside httpx's, which reads with h11: the same bytes, cut the same way.

Where both accept a reply, they agree on it. We may refuse more, for reasons that are named here.
We never accept what httpx refuses, with two exceptions: one is named too; the other is the body
of a refusal in a coding that cannot be undone, which must not hide the status.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import re
import socket
import ssl

import httpcore
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire_tools import Milestones

from lionlite.exceptions import LionError
from lionlite.service.transport.connections import Rest
from lionlite.service.transport.exchange import Connection
from lionlite.service.transport.parse import RawReply, is_good
from lionlite.service.transport.streamed import OpenReply

HTTPX = httpx.HTTPTransport(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
REQUEST = memoryview(b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")

MORE_THAN_HTTPX = {
    "lines end with CRLF": r"Missing expected (CR|LF) after|Expected LF after|Expected CRLF",
    "no folded headers": "Unexpected whitespace after header value",
    "no control characters": (
        "Invalid header value char|Invalid header field char|first line holds a control character"
    ),
    "one framing": "Content-Length can't be present with|can't be present with Content-Length",
    "one length": "Duplicate Content-Length|Invalid character in Content-Length",
    "no framing in trailers": "trailers say how long it is",
    "no framing of interim replies, no 101": "wants to change the protocol",
    "nothing after a closing interim reply": "Data after `Connection: close`",
    "chunks by the letter": (
        "Invalid character in chunk (size|extensions)|Invalid character in chunk extensions"
    ),
    "HTTP/1.0 and HTTP/1.1": r"status \d+ of HTTP/|Invalid HTTP version|Invalid response status",
    "whole gzip": "gzip ends too early",
    "identity and gzip": "which was not asked for",
}

LESS_THAN_HTTPX = {
    # RFC 9112, section 7.1: chunk-size = 1*HEXDIG. h11 stops at 20 digits, leading zeros or not;
    # llhttp reads the number, and refuses one that overflows.
    "long chunk sizes": rb"\r\n0{5}[0-9A-Fa-f]{16,}[\r; \t]",
}

HEADERS = [
    b"X-A: 1", b"X-A:2", b"x-b: \t c \t", b"X-E:", b"Set-Cookie: a=1", b"X-O: \xe9\xff",
    b"X-T: a\tb", b"Connection: close", b"Connection: keep-alive", b"Content-Encoding: identity",
]  # fmt: skip
ODD_HEADERS = [
    b"Upgrade: h2c", b"Connection: upgrade", b"X-N: \x01", b"X-D: \x7f", b"X: a\r\n b", b"X : a",
    b" X: a", b":a", b"NoColon", b"X\xe9: a", b"X: \x0b a\x0c", b"X: \xa0a\x85",
    b"Content-Length: 3", b"Content-Length: +3", b"Content-Length: 3, 3", b"Content-Length:",
    b"Content-Length:03", b"Transfer-Encoding: chunked", b"Transfer-Encoding: CHUNKED ",
    b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: ",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: x-chunked",
    b"Content-Encoding: deflate", b"Content-Encoding: gzip, gzip", b"Content-Encoding: x-gzip",
]  # fmt: skip
ODD_LINES = [
    b"HTTP/1.0 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.1 204 No", b"HTTP/1.1 304 NM",
    b"HTTP/1.1 404 Not Found", b"HTTP/1.1 099 x", b"HTTP/1.1 600 x", b"HTTP/1.1 999 x",
    b"HTTP/1.1  200 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 20 OK", b"HTTP/2.0 200 OK", b"ICY 200 OK",
    b"HTTP/1.2 200 OK", b"HTTP/0.9 200 OK", b"http/1.1 200 OK", b"HTTP/1.1 200 O\xe9K",
    b"HTTP/1.1 200 O\x01K", b"HTTP/1.1 200\tOK", b"HTTP/1.1 205 R", b"HTTP/11.1 200 OK",
    b" HTTP/1.1 200 OK", b"HTTP/1.1 200 \x0b", b"HTTP/1.1 200 a\x00", b"HTTP/1.1 101 S",
]  # fmt: skip
SIZES = [b"%x"] * 12 + [
    b"%X", b"0%x", b"%x;a=b", b"%x ;a", b"%x ", b'%x;a="x;y"', b" %x", b"%x;", b"0x%x", b"+%x",
    b"%x;a=\x01", b"%025x",
]  # fmt: skip
ENDS = [b"0\r\n\r\n"] * 8 + [
    b"0\r\nX-T: 1\r\n\r\n", b"00\r\n\r\n", b"0;a=b\r\n\r\n", b"0\r\nX-T : 1\r\n\r\n", b"0\r\n",
    b"0\r\nContent-Length: 4\r\n\r\n", b"0\r\nTransfer-Encoding: ch\tunked\r\n\r\n",
    b"0\r\n folded\r\n\r\n", b"0\r\nnocolon\r\n\r\n", b"0 \r\n\r\n",
]  # fmt: skip
AFTER = [b""] * 12 + [b"\r\n", b"x", b"HTTP/1.1 200 OK\r\n\r\n", b"\x00"]
BEFORE = [b""] * 16 + [
    b"HTTP/1.1 103 E\r\nLink: a\r\n\r\n", b"HTTP/1.1 100 C\r\n\r\n" * 2, b"\r\n", b"\n", b" ",
    b"HTTP/1.1 103 E\r\nContent-Length: 1\r\n\r\n", b"HTTP/1.1 103 E\r\nConnection: close\r\n\r\n",
]  # fmt: skip
BODIES = st.lists(st.sampled_from(b"ab\r\n0 {}:\x00\xff"), max_size=30).map(bytes)
BYTES = st.sampled_from([bytes([byte]) for byte in b"\r\n :\t0123abf;,=HTP/.\x00\x01\x7f\x80\xff"])


@st.composite
def chunked(draw, body):
    """Return *body* in chunks."""
    wire = b""
    while body:
        count = draw(st.integers(1, len(body)))
        wire += draw(st.sampled_from(SIZES)) % count + b"\r\n" + body[:count] + b"\r\n"
        body = body[count:]
    return wire + draw(st.sampled_from(ENDS))


@st.composite
def replies(draw):
    """Return a reply that is valid, or odd in one place or two."""
    is_odd = st.sampled_from([False] * 5 + [True])
    first = draw(st.sampled_from(ODD_LINES)) if draw(is_odd) else b"HTTP/1.1 200 OK"
    headers = draw(st.lists(st.sampled_from(HEADERS), max_size=3))
    if draw(is_odd):
        headers.append(draw(st.sampled_from(ODD_HEADERS)))
    body = draw(BODIES)
    framing = draw(st.sampled_from(["length", "chunked", "end"]))
    if draw(st.booleans()):
        body = gzip.compress(body, mtime=0)[: draw(st.sampled_from([None, None, None, -9]))]
        headers.append(
            draw(st.sampled_from([b"Content-Encoding: gzip", b"content-encoding: GZIP"]))
        )
    if framing == "length":
        count = len(body) + draw(st.sampled_from([0] * 10 + [1, -1]))
        headers.append(b"Content-Length: %d" % count)
    elif framing == "chunked":
        headers.append(b"Transfer-Encoding: chunked")
        body = draw(chunked(body))
    headers = draw(st.permutations(headers))
    head = b"\r\n".join([first, *headers, b"", b""])
    return draw(st.sampled_from(BEFORE)) + head + body + draw(st.sampled_from(AFTER))


@st.composite
def mutated(draw, wire):
    """Return *wire*, changed in at most two places."""
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        at, byte = draw(st.integers(0, max(len(wire) - 1, 0))), draw(BYTES)
        end = draw(st.integers(at, len(wire)))
        wire = draw(
            st.sampled_from(
                [
                    wire[:at] + byte + wire[at:],
                    wire[:at] + byte + wire[at + 1 :],
                    wire[:at] + wire[at + 1 :],
                    wire[:at],
                    wire[:end] + wire[at:],
                    wire[:at] + wire[at:].replace(b"\r\n", b"\n", 1),
                    wire[:at] + wire[at:].replace(b"\r\n", b"\r", 1),
                ]
            )
        )
    return wire


@st.composite
def pieces_of(draw, wire):
    """Return *wire*, cut anywhere; in single bytes too."""
    if draw(st.integers(0, 3)) == 0:
        # No more than the pair of sockets holds at once.
        cuts = list(range(1, min(len(wire), 150)))
    else:
        cuts = sorted(draw(st.sets(st.integers(1, max(len(wire) - 1, 1)), max_size=6)))
    edges = [0, *cuts, len(wire)]
    return [wire[start:end] for start, end in itertools.pairwise(edges) if start < end]


class Keeper:
    """Keeps no connection."""

    def give_back(self, connection): ...


def with_us(pieces, *, is_streamed):
    """Read *pieces* from a real socket that keeps their borders; return the reply or our error."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection = Connection(ours)
    with theirs, contextlib.closing(connection):
        for piece in pieces:
            theirs.send(piece)
        theirs.shutdown(socket.SHUT_WR)
        try:
            if not is_streamed:
                return connection.exchange(REQUEST, Milestones())
            connection.begin(REQUEST, Milestones(), idle_s=None)
            parser = connection.parser
            return OpenReply(parser.status, parser.headers, Rest(Keeper(), connection)).read()
        except LionError as exc:
            return exc


def with_httpx(pieces):
    """Read *pieces* with httpx's own transport; return the reply or its error."""
    backend = httpcore.MockBackend(list(pieces))
    HTTPX._pool = httpcore.ConnectionPool(network_backend=backend)
    try:
        response = HTTPX.handle_request(httpx.Request("POST", "http://h/v1/x"))
        response.read()
    except (httpx.TransportError, httpx.DecodingError) as exc:
        return exc
    headers = {}
    for name, value in response.headers.raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return RawReply(response.status_code, headers, response.content)


def agreed(reply):
    """Return *reply* with what h11 writes in its own way."""
    headers = dict(reply.headers)
    if "transfer-encoding" in headers:
        headers["transfer-encoding"] = headers["transfer-encoding"].lower()
    return reply.status, headers, reply.body


def is_refusal_in_a_coding(reply):
    return not is_good(reply.status) and "content-encoding" in reply.headers


def check(pieces, *, is_streamed):
    ours, theirs = with_us(pieces, is_streamed=is_streamed), with_httpx(pieces)
    if isinstance(ours, LionError):
        if not isinstance(theirs, Exception):
            assert any(re.search(reason, str(ours)) for reason in MORE_THAN_HTTPX.values()), ours
    elif isinstance(theirs, httpx.DecodingError):
        assert is_refusal_in_a_coding(ours), theirs
    elif isinstance(theirs, Exception):
        wire = b"".join(pieces)
        assert any(re.search(reason, wire) for reason in LESS_THAN_HTTPX.values()), theirs
    elif is_refusal_in_a_coding(ours):
        assert agreed(ours)[:2] == agreed(theirs)[:2]
        assert ours.body in {theirs.body, b""}
    else:
        assert agreed(ours) == agreed(theirs)


WIRES = replies().flatmap(mutated).flatmap(pieces_of)
FAST = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
needs_packets = pytest.mark.skipif(
    not hasattr(socket, "SOCK_SEQPACKET"), reason="this system has no such sockets"
)


@needs_packets
@FAST
@given(WIRES, st.booleans())
def test_replies_read_as_with_httpx_or_are_refused_for_a_named_reason(pieces, is_streamed):
    check(pieces, is_streamed=is_streamed)


@needs_packets
@pytest.mark.proof
@pytest.mark.timeout(3600)
@settings(FAST, max_examples=20_000)
@given(WIRES, st.booleans())
def test_many_replies_read_as_with_httpx(pieces, is_streamed):
    check(pieces, is_streamed=is_streamed)
