"""Faults of a 200: bodies that are cut, empty, no JSON, or no chat completion.

Holds: the group "body". Does not hold: streams (stream.py). Pure; the gzip
bomb is made at its first use and kept.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from lionlite.testing.faults.wirefault import Asked, WireFault, whole

if TYPE_CHECKING:
    from lionlite.testing.message import Step

_fault = partial(WireFault, group="body", after="keep")
_Plays = Callable[[Asked], "Iterable[Step]"]

_BOMB_BLOCK = 16 * 1024 * 1024
_BOMB_BLOCKS = 16  # 256 MB from 256 kB
_PAGE = b"<html><body>Welcome, please log in</body></html>"
_MARK = "\ue000"  # stands in a completion for JSON that json.dumps would not write


def _body(make: Callable[[Asked], bytes], coding: str | None = None) -> _Plays:
    headers = {} if coding is None else {"content-encoding": coding}
    return lambda asked: [whole(make(asked), headers=headers)]


def _just(body: bytes) -> _Plays:
    return _body(lambda _: body)


def _json(asked: Asked, **changes: Any) -> bytes:
    return json.dumps(asked.completion(**changes)).encode()


def _changed(**changes: Any) -> _Plays:
    """Play the healthy completion with other values under some keys."""
    return _body(lambda asked: _json(asked, **changes))


def _message(finish_reason: str | None = "stop", **message: Any) -> _Plays:
    """Play a completion with a message that says exactly *message*."""
    choice = {"index": 0, "message": {"role": "assistant", **message}}
    return _changed(choices=[{**choice, "finish_reason": finish_reason}])


def _literal(text: bytes) -> _Plays:
    """Play a completion in which a number of its usage is written as *text*."""

    def make(asked: Asked) -> bytes:
        usage = {"prompt_tokens": _MARK, "completion_tokens": 1, "total_tokens": 9}
        mark = json.dumps(_MARK).encode()
        return _json(asked, usage=usage).replace(mark, text)

    return _body(make)


def _said(text: bytes) -> _Plays:
    """Play a completion whose content is *text*, byte for byte."""

    def make(asked: Asked) -> bytes:
        choice = {"index": 0, "message": {"content": _MARK}, "finish_reason": "stop"}
        mark = json.dumps(_MARK).encode().strip(b'"')
        return _json(asked, choices=[choice]).replace(mark, text)

    return _body(make)


@cache
def gzip_bomb() -> bytes:
    """Return 256 kB of gzip that unpack to 256 MB of zeros, checksum and all.

    Source: RFC 1952.
    """
    block = bytes(_BOMB_BLOCK)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    # A full flush makes the block's bytes depend on nothing before them.
    packed = deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH)
    crc = 0
    for _ in range(_BOMB_BLOCKS):
        crc = zlib.crc32(block, crc)
    end = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS).flush()
    head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    size = _BOMB_BLOCK * _BOMB_BLOCKS
    return head + packed * _BOMB_BLOCKS + end + struct.pack("<II", crc, size % 2**32)


def catalogue() -> list[WireFault]:
    """Return the faults of a body."""
    return [
        *_no_json(),
        *_no_text(),
        *_no_completion(),
        *_no_answer(),
        *_odd_values(),
        *_encodings(),
    ]


def _no_json() -> list[WireFault]:
    def twice(asked: Asked) -> bytes:
        return _json(asked).replace(b'"message": {', b'"message": {"content": "no"}, "message": {')

    return [
        _fault(
            name="json_cut",
            does="Sends half of its JSON, announced as whole.",
            plays=_body(lambda asked: _json(asked)[: len(_json(asked)) // 2]),
        ),
        _fault(name="empty_200", does="Sends an empty body.", plays=_just(b"")),
        _fault(
            name="page_200",
            does="Sends a web page, as the login of a hotel does.",
            plays=lambda _: [whole(_PAGE, content_type="text/html")],
        ),
        _fault(name="json_nan", does="Writes NaN in its JSON.", plays=_literal(b"NaN")),
        _fault(name="json_inf", does="Writes Infinity in its JSON.", plays=_literal(b"Infinity")),
        _fault(
            name="json_long_int",
            does="Writes a whole number of 100,000 digits.",
            plays=_literal(b"9" * 100_000),
        ),
        _fault(
            name="json_deep",
            does="Nests its JSON 200,000 deep.",
            plays=_literal(b"[" * 200_000 + b"]" * 200_000),
        ),
        _fault(
            name="json_deep_only",
            does="Sends 200,000 brackets and nothing else.",
            plays=_just(b"[" * 200_000 + b"]" * 200_000),
        ),
        _fault(
            name="json_two_choices",
            does="Names its choices twice, the first time without any.",
            plays=_body(lambda asked: b'{"choices": [], ' + _json(asked).lstrip(b"{")),
            is_harmless=True,
        ),
        _fault(
            name="json_two_messages",
            does="Names the message twice, so that it is two answers.",
            plays=_body(twice),
        ),
        _fault(
            name="json_twice",
            does="Sends its JSON twice in one body.",
            plays=_body(lambda asked: _json(asked) * 2),
        ),
    ]


def _no_text() -> list[WireFault]:
    return [
        _fault(
            name="utf8_bad",
            does="Sends bytes in a text that are no UTF-8.",
            plays=_said(b"caf\xe9 \xff"),
        ),
        _fault(
            name="utf8_surrogate",
            does="Sends half a character as bytes.",
            plays=_said(b"\xed\xa0\x80"),
        ),
        _fault(
            name="utf8_bom",
            does="Sends a byte order mark before its JSON.",
            plays=_body(lambda asked: b"\xef\xbb\xbf" + _json(asked)),
            is_harmless=True,
        ),
        _fault(
            name="utf16",
            does="Sends its JSON in UTF-16.",
            plays=_body(lambda asked: _json(asked).decode().encode("utf-16")),
        ),
    ]


def _no_completion() -> list[WireFault]:
    tops = {"list": b"[]", "text": b'"ok"', "null": b"null", "number": b"42", "object": b"{}"}
    choices: dict[str, Any] = {
        "empty": [],
        "null": None,
        "text": "ok",
        "of_null": [None],
        "of_text": ["ok"],
        "object": {"message": {"content": "ok"}},
    }
    return [
        *(
            _fault(
                name=f"top_{name}", does=f"Sends {text.decode()} as its body.", plays=_just(text)
            )
            for name, text in tops.items()
        ),
        *(
            _fault(
                name=f"choices_{name}",
                does=f"Sends {json.dumps(value)} as its choices.",
                plays=_changed(choices=value),
            )
            for name, value in choices.items()
        ),
        _fault(
            name="message_null",
            does="Sends a choice whose message is null.",
            plays=_changed(choices=[{"index": 0, "message": None, "finish_reason": "stop"}]),
        ),
        _fault(
            name="message_missing",
            does="Sends a choice without a message.",
            plays=_changed(choices=[{"index": 0, "finish_reason": "stop"}]),
        ),
        _fault(
            name="content_number",
            does="Sends a number as the content.",
            plays=_message(content=42),
        ),
        _fault(
            name="content_object",
            does="Sends an object as the content.",
            plays=_message(content={"text": "ok"}),
        ),
    ]


def _no_answer() -> list[WireFault]:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return [
        _fault(
            name="content_null",
            does="Sends null as the content, and nothing beside it.",
            plays=_message(content=None),
        ),
        _fault(name="content_empty", does="Sends an empty content.", plays=_message(content="")),
        _fault(
            name="content_calls",
            does="Sends null as the content, and tool calls.",
            plays=_message("tool_calls", content=None, tool_calls=[call]),
        ),
        _fault(
            name="refusal",
            does="Sends a refusal instead of a content.",
            plays=_message(content=None, refusal="I cannot help with that."),
        ),
        _fault(
            name="finish_length",
            does="Ends by its length before it has said anything.",
            plays=_message("length", content=""),
        ),
        _fault(
            name="finish_filter",
            does="Ends by the content filter before it has said anything.",
            plays=_message("content_filter", content=""),
        ),
    ]


def _odd_values() -> list[WireFault]:
    usages: dict[str, Any] = {
        "missing": None,
        "text": "many",
        "negative": {"prompt_tokens": -5, "completion_tokens": -1, "total_tokens": -6},
        "huge": {"prompt_tokens": 10**18, "completion_tokens": 10**18, "total_tokens": 10**30},
        "texts": {"prompt_tokens": "8", "completion_tokens": "1", "total_tokens": None},
        "fractions": {"prompt_tokens": 8.5, "completion_tokens": 1.5, "total_tokens": True},
    }
    return [
        *(
            _fault(
                name=f"usage_{name}",
                does=f"Sends {json.dumps(value)[:40]} as its usage.",
                plays=_changed(usage=value),
                is_harmless=True,
            )
            for name, value in usages.items()
        ),
        _fault(
            name="odd_fields",
            does="Sends its other fields with other types.",
            plays=_changed(id=5, object=None, created="now", model=["m"], system_fingerprint={}),
            is_harmless=True,
        ),
    ]


def _encodings() -> list[WireFault]:
    return [
        _fault(
            name="gzip",
            does="Sends gzip though nobody asked for it.",
            plays=_body(lambda asked: gzip.compress(_json(asked)), "gzip"),
            is_harmless=True,
        ),
        _fault(
            name="gzip_bomb",
            does="Sends 256 kB of gzip that unpack to 256 MB.",
            plays=_body(lambda _: gzip_bomb(), "gzip"),
        ),
        _fault(
            name="gzip_cut",
            does="Sends gzip that ends too early.",
            plays=_body(lambda asked: gzip.compress(_json(asked))[:-9], "gzip"),
        ),
        _fault(
            name="gzip_lie",
            does="Calls plain JSON gzip.",
            plays=_body(_json, "gzip"),
        ),
        _fault(
            name="brotli_lie",
            does="Calls plain JSON brotli.",
            plays=_body(_json, "br"),
        ),
    ]
