"""Server-sent events: cut anywhere, in any line ends, within caps."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lionlite.exceptions import ResponseTooLarge
from lionlite.service import sse
from lionlite.service.sse import EventReader

pytestmark = pytest.mark.quick


def events_of(*pieces):
    """Return the events in *pieces*, the one that they end within included."""
    reader = EventReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    last = reader.feed_end()
    return events if last is None else [*events, last]


STREAMS = {
    "usual": (b'data: {"a":1}\n\ndata: [DONE]\n\n', [(b'{"a":1}', ""), (b"[DONE]", "")]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [(b"a", ""), (b"b", "")]),
    "CR": (b"data: a\r\rdata: b\r\r", [(b"a", ""), (b"b", "")]),
    "mixed ends": (b"data: a\r\n\ndata: b\n\rdata: c\r\r\n", [(b"a", ""), (b"b", ""), (b"c", "")]),
    "mark of byte order": (b"\xef\xbb\xbfdata: a\n\n", [(b"a", "")]),
    "mark alone": (b"\xef\xbb\xbf", []),
    "mark only at the start": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [(b"a", "")]),
    "several lines": (b"data: a\ndata:\ndata: b\n\n", [(b"a\n\nb", "")]),
    "no blank after the colon": (b"data:a\n\n", [(b"a", "")]),
    "one blank is taken": (b"data:  a \n\n", [(b" a ", "")]),
    "no colon": (b"data\n\n", [(b"", "")]),
    "named": (b"event: error\ndata: a\n\ndata: b\n\n", [(b"a", "error"), (b"b", "")]),
    "named afterwards": (b"data: a\nevent: error\n\n", [(b"a", "error")]),
    "name alone": (b"event: ping\n\ndata: a\n\n", [(b"a", "")]),
    "comments": (b": OPENROUTER PROCESSING\n\n:\n\n: x\ndata: a\n: y\n\n", [(b"a", "")]),
    "other fields": (b"id: 7\nretry: 10\nfoo: bar\ndata: a\n\n", [(b"a", "")]),
    "a field that only begins so": (b"database: a\n\ndata : b\n\n", []),
    "blank lines": (b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", [(b"a", ""), (b"b", "")]),
    "no end": (b"data: a\n\ndata: b", [(b"a", ""), (b"b", "")]),
    "no blank line": (b"data: a\n\ndata: b\n", [(b"a", ""), (b"b", "")]),
    "letters of several bytes": ("data: é😀\n\n".encode(), [("é😀".encode(), "")]),
    "no letters": (
        b"data: \xff\xfe\nevent: \xff\n\n",
        [(b"\xff\xfe", "\N{REPLACEMENT CHARACTER}")],
    ),
    "nothing": (b"", []),
}


@pytest.mark.parametrize(("stream", "events"), STREAMS.values(), ids=STREAMS)
def test_a_stream_is_cut_into_its_events(stream, events):
    assert events_of(stream) == events


@pytest.mark.parametrize(("stream", "events"), STREAMS.values(), ids=STREAMS)
def test_events_are_the_same_wherever_the_bytes_are_cut(stream, events):
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            pieces = (stream[:first], stream[first:second], stream[second:])
            assert events_of(*pieces) == events, pieces


@pytest.mark.parametrize(("stream", "events"), STREAMS.values(), ids=STREAMS)
def test_a_stream_may_drip_byte_by_byte(stream, events):
    assert events_of(*(bytes([byte]) for byte in stream)) == events


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_an_event_is_out_as_soon_as_its_blank_line_is(end):
    reader = EventReader()

    assert reader.feed(b"data: a" + end) == []
    assert reader.feed(end) == [(b"a", "")]
    assert reader.feed(b"data: b" + end + end) == [(b"b", "")]


def by_the_book(stream):
    """Read *stream* as the standard words it, line by line."""
    events, data, name = [], [], ""
    for line in [*re.split(b"\r\n|\r|\n", stream.removeprefix(b"\xef\xbb\xbf")), b""]:
        if not line:
            events += [(b"\n".join(data), name)] if data else []
            data, name = [], ""
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            data.append(value)
        if field == b"event":
            name = value.decode("utf-8", "replace")
    return events


PARTS = st.sampled_from(
    [
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"data: ",
        b"data:",
        b"data",
        b"event: ",
        b": ",
        b":",
        b" ",
        b"x",
        b"\xef\xbb\xbf",
    ]
)


@settings(deadline=None)  # other work on the machine is not a failure
@given(st.lists(PARTS | st.binary(max_size=3), max_size=30).map(b"".join), st.data())
def test_any_bytes_read_as_the_standard_says_wherever_they_are_cut(stream, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    edges = [0, *cuts, len(stream)]

    pieces = [stream[start:end] for start, end in pairwise(edges)]

    assert events_of(*pieces) == by_the_book(stream)


def in_pieces(stream, size):
    return [stream[start : start + size] for start in range(0, len(stream), size)]


LINE = b"data: " + b"x" * sse.MAX_LINE_BYTES


@pytest.mark.parametrize("size", [len(LINE) + 2, 65_536, 61], ids=["at once", "pieces", "drip"])
@pytest.mark.parametrize("end", [b"", b"\n\n", b"\n"], ids=["no end", "end", "half an end"])
def test_a_line_has_a_cap(size, end):
    with pytest.raises(ResponseTooLarge, match=r"A line of the stream is longer than 1,048,576"):
        events_of(*in_pieces(LINE + end, size))


def test_a_line_at_its_cap_is_read():
    line = LINE[: sse.MAX_LINE_BYTES]

    assert events_of(*in_pieces(line + b"\n\n", 1_000)) == [(line[6:], "")]


@pytest.mark.parametrize("size", [1 << 30, 100_000], ids=["at once", "pieces"])
def test_an_event_has_a_cap(size):
    line = b"data: " + b"x" * 500_000 + b"\n"

    with pytest.raises(ResponseTooLarge, match=r"An event of the stream is longer than 4,194,304"):
        events_of(*in_pieces(line * 9, size))


def test_a_stream_has_a_cap(monkeypatch):
    monkeypatch.setattr(sse, "MAX_STREAM_BYTES", 100)

    with pytest.raises(ResponseTooLarge, match="The stream is longer than 100 bytes"):
        events_of(*[b": ping\n\n"] * 20)


def test_comments_without_end_are_not_kept():
    reader = EventReader()

    for _ in range(1_000):
        reader.feed(b": OPENROUTER PROCESSING\n\nid: 1\n: y\n")

    assert not reader._lines
    assert not reader._rest
