"""Faults of a stream: cut, stalled, garbled, in error, or only oddly written.

Holds: the group "stream". Does not hold: what happens to any reply
(network.py, http.py). Each plays a stream, whether one was asked for or not.
Pure.
Source: the WHATWG's grammar of server-sent events; recorded streams.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lionlite.testing.faults.wirefault import BLANKS, Asked, WireFault, head_of
from lionlite.testing.message import Step, chunk
from lionlite.testing.streaming import sse

if TYPE_CHECKING:
    from lionlite.testing.message import After

_fault = partial(WireFault, group="stream")
_Plays = Callable[[Asked], Iterable[Step]]
_Events = Callable[[Asked], Sequence[bytes]]

_END = 3  # finish, usage and [DONE]: the last events of a healthy stream
_BEGUN = 4  # the role and three pieces: a stream under way
_LONG_LINE = 50 * 1024 * 1024
_OVERLOADED = {"error": {"message": "The model is overloaded.", "code": 503}}


def _head(**fields: str) -> bytes:
    return head_of(None, content_type="text/event-stream", **fields)


def _chunks(events: Iterable[bytes], *, is_ended: bool = True) -> Iterable[Step]:
    yield _head(transfer_encoding="chunked")
    for event in events:
        yield chunk(event)
    if is_ended:
        yield chunk(b"")


def _events(make: _Events, *, is_ended: bool = True) -> _Plays:
    """Play what *make* makes, an HTTP chunk for each."""
    return lambda asked: _chunks(make(asked), is_ended=is_ended)


def _begun(*more: bytes) -> _Events:
    """Make a stream under way, and then *more*."""
    return lambda asked: [*asked.events()[:_BEGUN], *more]


def _written(rewrite: Callable[[bytes], bytes]) -> _Plays:
    """Play the healthy stream as *rewrite* writes it, byte by byte in chunks of their own."""

    def make(asked: Asked) -> list[bytes]:
        data = rewrite(b"".join(asked.events()))
        return [data[place : place + 1] for place in range(len(data))]

    return _events(make)


def _mixed_ends(data: bytes) -> bytes:
    ends = itertools.cycle((b"\r\n", b"\n", b"\r"))
    # A CR before a LF would be one end of a line, not two.
    lines = data.split(b"\n")
    return b"".join(line + next(ends) + (b": x\r\n" if line else b"") for line in lines)


def _multiline(data: bytes) -> bytes:
    """Write each event's JSON on many data: lines."""

    def one(event: bytes) -> bytes:
        text = event.removeprefix(b"data: ")
        if not text.startswith(b"{"):
            return event
        lines = json.dumps(json.loads(text), indent=1).encode().split(b"\n")
        return b"\n".join(b"data: " + line for line in lines)

    return b"\n\n".join(one(event) for event in data.split(b"\n\n"))


def _with_fields(data: bytes) -> bytes:
    return data.replace(b"data: ", b": note\nid: 7\nevent: message\nretry: 10\nodd\ndata: ")


def _delta(**delta: Any) -> bytes:
    return sse({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


def _pings(asked: Asked) -> Iterable[Step]:
    yield _head(transfer_encoding="chunked")
    for _ in itertools.count():
        yield chunk(b": PROCESSING\n\n")
        yield asked.pause_s


def _drip(asked: Asked) -> Iterable[Step]:
    yield _head(transfer_encoding="chunked")
    for byte in b"".join(asked.events()):
        yield chunk(bytes([byte]))
        yield asked.pause_s


def _long_line(_: Asked) -> Iterable[Step]:
    yield _head(transfer_encoding="chunked")
    yield chunk(b"data: ")
    for _sent in range(0, _LONG_LINE, len(BLANKS)):
        yield chunk(BLANKS)
    yield chunk(b"{}\n\n") + chunk(b"")


def _to_the_close(make: _Events) -> _Plays:
    """Play a stream that only the end of the connection ends."""
    return lambda asked: [_head(connection="close"), b"".join(make(asked))]


def _echo(asked: Asked) -> Sequence[bytes]:
    error = {"error": {"message": f"Bad key {asked.key}", "code": asked.key}}
    return [*asked.events()[:_BEGUN], sse(error)]


def _echo_garbage(asked: Asked) -> Sequence[bytes]:
    return [*asked.events()[:_BEGUN], b"data: {" + asked.key.encode() + b"\n\n"]


def catalogue() -> list[WireFault]:
    """Return the faults of a stream."""
    return [*_cuts(), *_errors(), *_garbled(), *_slow(), *_odd_but_sound()]


def _cuts() -> list[WireFault]:
    def cut_event(asked: Asked) -> list[bytes]:
        events = asked.events()
        return [*events[:_BEGUN], events[_BEGUN][:20]]

    plays: dict[str, tuple[str, _Plays, After]] = {
        "sse_no_finish": (
            "Ends properly, but without finish_reason and [DONE].",
            _events(lambda asked: asked.events()[:-_END]),
            "keep",
        ),
        "sse_empty": ("Ends before its first event.", _events(lambda _: []), "keep"),
        "sse_cut": (
            "Closes the connection between two events.",
            _events(_begun(), is_ended=False),
            "close",
        ),
        "sse_cut_event": (
            "Closes the connection in the middle of an event.",
            _events(cut_event, is_ended=False),
            "close",
        ),
        "sse_cut_unframed": (
            "Closes a connection without framing in the middle of an event.",
            _to_the_close(cut_event),
            "close",
        ),
        "sse_rst": (
            "Resets the connection between two events.",
            _events(_begun(), is_ended=False),
            "reset",
        ),
        "sse_rst_first": (
            "Resets the connection after the head.",
            _events(lambda _: [], is_ended=False),
            "reset",
        ),
    }
    return [
        _fault(name=name, does=does, plays=play, after=after)
        for name, (does, play, after) in plays.items()
    ]


def _errors() -> list[WireFault]:
    done = b"data: [DONE]\n\n"
    quota = {"error": {"message": "No credit.", "code": "insufficient_quota"}}
    named = b"event: error\n" + sse(_OVERLOADED)
    choice = {"index": 0, "delta": {}, "finish_reason": "error"}
    both = sse({**_OVERLOADED, "choices": [choice], "usage": {"total_tokens": 3}})
    plays: dict[str, tuple[str, _Events]] = {
        "sse_error": ("Sends an error and [DONE] in mid-stream.", _begun(sse(_OVERLOADED), done)),
        "sse_error_event": ("Sends an event named error, and no [DONE].", _begun(named)),
        "sse_error_chunk": ("Sends an error beside choices and usage.", _begun(both, done)),
        "sse_error_first": (
            "Sends an error as its first event.",
            lambda _: [sse(_OVERLOADED), done],
        ),
        "sse_error_quota": (
            "Sends, in mid-stream, that there is no credit.",
            _begun(sse(quota), done),
        ),
        "sse_echo": ("Sends an error that repeats the key.", _echo),
        "sse_echo_garbage": ("Sends broken JSON that repeats the key.", _echo_garbage),
    }
    return [
        _fault(name=name, does=does, plays=_events(make), after="keep")
        for name, (does, make) in plays.items()
    ]


def _garbled() -> list[WireFault]:
    deep = b"data: " + b"[" * 200_000 + b"\n\n"
    plays: dict[str, tuple[str, _Events]] = {
        "sse_garbage": ("Sends an event that is no JSON.", _begun(b"data: {not json\n\n")),
        "sse_garbage_first": ("Sends no JSON as its first event.", lambda _: [b"data: oops\n\n"]),
        "sse_html": ("Sends a web page as a stream.", lambda _: [b"<html>\n<body>\n\n</html>\n"]),
        "sse_list": ("Sends an event that is a list.", _begun(b"data: [1]\n\n")),
        "sse_bad_utf8": ("Sends bytes that are no UTF-8.", _begun(b'data: {"a": "\xff"}\n\n')),
        "sse_deep": ("Sends an event nested 200,000 deep.", _begun(deep)),
        "sse_content_number": ("Sends a number as a piece.", _begun(_delta(content=5))),
    }
    return [
        _fault(name=name, does=does, plays=_events(make), after="keep")
        for name, (does, make) in plays.items()
    ] + [
        _fault(
            name="sse_long_line", does="Sends a line of 50 MB that does not end.", plays=_long_line
        )
    ]


def _slow() -> list[WireFault]:
    return [
        _fault(name="sse_pings", does="Sends comments, for ever.", plays=_pings),
        _fault(name="sse_drip", does="Sends its events byte by byte.", plays=_drip),
        _fault(
            name="sse_stall",
            does="Falls silent in mid-stream.",
            plays=_events(_begun(), is_ended=False),
            after="hold",
        ),
        _fault(
            name="sse_stall_first",
            does="Falls silent after the head.",
            plays=_events(lambda _: [], is_ended=False),
            after="hold",
        ),
        _fault(
            name="sse_stall_finished",
            does="Sends everything but the end mark, and falls silent.",
            plays=_events(lambda asked: asked.events()[:-1], is_ended=False),
            after="hold",
            is_harmless=True,
        ),
        _fault(
            name="sse_stall_done",
            does="Sends everything, and falls silent without ending its body.",
            plays=_events(lambda asked: asked.events(), is_ended=False),
            after="hold",
            is_harmless=True,
        ),
    ]


def _odd_but_sound() -> list[WireFault]:
    def usage_everywhere(asked: Asked) -> list[bytes]:
        usage = b'"usage": {"prompt_tokens": 8, "completion_tokens": 11}'
        return [event.replace(b'"usage": null', usage) for event in asked.events()]

    plays: dict[str, tuple[str, _Plays]] = {
        "sse_bytes": ("Sends its stream byte by byte, at once.", _written(bytes)),
        "sse_crlf": ("Ends its lines with CR LF.", _written(lambda d: d.replace(b"\n", b"\r\n"))),
        "sse_cr": ("Ends its lines with CR.", _written(lambda d: d.replace(b"\n", b"\r"))),
        "sse_mixed": ("Ends its lines in all three ways.", _written(_mixed_ends)),
        "sse_multiline": ("Writes an event's JSON on many lines.", _written(_multiline)),
        "sse_no_blank": (
            "Leaves out the blank after data:.",
            _written(lambda d: d.replace(b"data: ", b"data:")),
        ),
        "sse_fields": ("Sends comments and other fields too.", _written(_with_fields)),
        "sse_bom": ("Begins with a byte order mark.", _written(lambda d: b"\xef\xbb\xbf" + d)),
        "sse_no_done": ("Leaves out [DONE].", _events(lambda asked: asked.events()[:-1])),
        "sse_no_reason": (
            "Sends [DONE], but never a finish_reason, as Snowflake does.",
            _events(lambda asked: [*asked.events()[:-_END], asked.events()[-1]]),
        ),
        "sse_usage_always": ("Tells its usage in every chunk.", _events(usage_everywhere)),
        "sse_no_choices": (
            "Sends chunks without choices among the others.",
            _events(lambda a: [sse({"choices": []}), sse({"choices": None}), sse({}), *a.events()]),
        ),
        "sse_after_done": (
            "Sends more after [DONE].",
            _events(lambda asked: [*asked.events(), _delta(content="never read")]),
        ),
        "sse_unframed": (
            "Ends its stream by closing the connection.",
            _to_the_close(lambda asked: asked.events()),
        ),
        "sse_done_uncut": (
            "Closes the connection after [DONE], without ending its chunks.",
            _events(lambda asked: asked.events(), is_ended=False),
        ),
    }
    ends_by_closing = {"sse_unframed", "sse_done_uncut"}
    return [
        _fault(
            name=name,
            does=does,
            plays=play,
            after="close" if name in ends_by_closing else "keep",
            is_harmless=True,
        )
        for name, (does, play) in plays.items()
    ]
