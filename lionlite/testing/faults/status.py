"""Faults that a provider words itself: error statuses, Retry-After, redirects, echoes.

Holds: the group "status", among it every status with every form of
Retry-After. Does not hold: errors inside a stream (stream.py). Pure.
Source: RFC 9110, sections 10.2.3 and 15; recorded errors of ten providers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from lionlite.testing.faults.wirefault import Asked, WireFault, whole
from lionlite.testing.message import Step
from lionlite.testing.protocol import error_body

_fault = partial(WireFault, group="status", after="keep")
_Plays = Callable[[Asked], Iterable[Step]]

FINAL = (400, 401, 402, 403, 404, 405, 413, 422)
PASSING = (408, 409, 429, 500, 502, 503, 504, 520, 524, 529)

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

RETRY_AFTER: Mapping[str, Callable[[], dict[str, str]]] = {
    "seconds": lambda: {"retry-after": "1"},
    "fraction": lambda: {"retry-after": "0.25"},
    "zero": lambda: {"retry-after": "0"},
    "date": lambda: {"retry-after": _date(2.0)},
    "past": lambda: {"retry-after": _date(-60.0)},
    "ms": lambda: {"retry-after-ms": "250", "retry-after": "60"},
    "huge": lambda: {"retry-after": "999999999"},
    "nan": lambda: {"retry-after": "nan"},
    "inf": lambda: {"retry-after": "inf"},
    "negative": lambda: {"retry-after": "-5"},
    "garbage": lambda: {"retry-after": "soon, \u00e9, 1e999"},
}
"""Forms of Retry-After by name, and the headers they are now."""

_PAGE = b"<!DOCTYPE html><html><head><title>Bad gateway</title></head><body>cloud</body></html>"


def _date(in_s: float) -> str:
    """Return the instant in *in_s* seconds as HTTP writes it, whatever the locale."""
    at = time.gmtime(time.time() + in_s)
    day, month = _DAYS[at.tm_wday], _MONTHS[at.tm_mon - 1]
    return f"{day}, {at.tm_mday:02} {month} {at.tm_year} {time.strftime('%H:%M:%S', at)} GMT"


def _error(status: int, *, headers: Callable[[], dict[str, str]] = dict, **changes: Any) -> _Plays:
    """Play an error as OpenAI words it, with *changes* to its type, code and so on."""

    def plays(_: Asked) -> Iterable[Step]:
        body = error_body(status, f"The fault server says {status}.")
        body["error"].update(changes)
        yield _json(body, status=status, headers=headers())

    return plays


def _json(body: object, *, status: int, headers: Mapping[str, str] | None = None) -> bytes:
    return whole(json.dumps(body).encode(), status=status, headers=headers)


def _says(body: object, *, status: int = 200) -> _Plays:
    def plays(_: Asked) -> Iterable[Step]:
        yield _json(body, status=status)

    return plays


def _redirect(status: int, where: Callable[[Asked], str]) -> _Plays:
    def plays(asked: Asked) -> Iterable[Step]:
        yield whole(b"", status=status, headers={"location": where(asked)})

    return plays


def _echo(status: int, *, in_headers: bool = False) -> _Plays:
    """Play an error that repeats the key, as real ones do."""

    def plays(asked: Asked) -> Iterable[Step]:
        message = (
            f"Incorrect API key provided: {asked.key}. You can find your API key at https://x."
        )
        body = error_body(status, message, code=f"bad_{asked.key}")
        fields = {"x-request-id": f"req-{asked.key}", "x-key": asked.key, "retry-after": asked.key}
        yield _json(body, status=status, headers=fields if in_headers else None)

    return plays


def _echo_in_body(asked: Asked) -> Iterable[Step]:
    yield whole(b"denied: " + asked.key.encode(), status=200, content_type="text/plain")


def _echo_then_more(asked: Asked) -> Iterable[Step]:
    """Play the beginning of an error that repeats the key."""
    body = json.dumps(error_body(401, f"Incorrect API key provided: {asked.key}")).encode()
    yield whole(body, status=401).replace(b"\r\n\r\n", b"0\r\n\r\n")  # ten times as long


def _echo_in_gzip(asked: Asked) -> Iterable[Step]:
    yield whole(b"denied: " + asked.key.encode(), headers={"content-encoding": "gzip"})


def _echo_in_chunk(asked: Asked) -> Iterable[Step]:
    yield asked.head(None, transfer_encoding="chunked") + asked.key.encode() + b"\r\ndenied"


def _echo_in_long_head(asked: Asked) -> Iterable[Step]:
    head, body = asked.parts()
    yield head[:-2] + b"x-key: " + asked.key.encode() * 3_000 + b"\r\n\r\n" + body


def _echo_in_id(asked: Asked) -> Iterable[Step]:
    head, body = asked.parts()
    yield head[:-2] + b"x-request-id: req-" + asked.key.encode() + b"\r\n\r\n" + body


def _odd_limits(asked: Asked) -> Iterable[Step]:
    head, body = asked.parts()
    odd = {
        "x-ratelimit-limit-requests": "0",
        "x-ratelimit-limit-tokens": "-1",
        "x-ratelimit-remaining-requests": "-7",
        "x-ratelimit-remaining-tokens": "many",
        "x-ratelimit-reset-requests": "yesterday",
        "x-ratelimit-reset-tokens": "9" * 40,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in odd.items())
    yield head[:-2] + lines.encode() + b"\r\n" + body


def catalogue() -> list[WireFault]:
    """Return the faults that the provider words itself."""
    return [*_statuses(), *_credit(), *_pages(), *_redirects(), *_echoes()]


def _statuses() -> list[WireFault]:
    plain = [
        _fault(
            name=f"status_{status}",
            does=f"Answers {status} with an error in JSON.",
            plays=_error(status),
        )
        for status in (*FINAL, *PASSING)
    ]
    waits = [
        _fault(
            name=f"status_{status}_retry_{form}",
            does=f"Answers {status} and asks for a wait: {form}.",
            plays=_error(status, headers=headers),
        )
        for status in (*PASSING, 402)
        for form, headers in RETRY_AFTER.items()
    ]
    return [*plain, *waits]


def _credit() -> list[WireFault]:
    return [
        _fault(
            name="status_429_quota",
            does="Answers 429 as an account without credit does.",
            plays=_error(429, type="insufficient_quota", code="insufficient_quota"),
        ),
        _fault(
            name="status_500_no_retry",
            does="Answers 500 with x-should-retry: false.",
            plays=_error(500, headers=lambda: {"x-should-retry": "false"}),
        ),
        _fault(
            name="status_400_retry",
            does="Answers 400 with x-should-retry: true.",
            plays=_error(400, headers=lambda: {"x-should-retry": "true"}),
        ),
        _fault(
            name="odd_limits",
            does="Answers with x-ratelimit headers that contradict each other.",
            plays=_odd_limits,
            is_harmless=True,
        ),
    ]


def _pages() -> list[WireFault]:
    nested = {"message": {"detail": [{"msg": "extra_forbidden"}]}}
    return [
        _fault(
            name="page_502",
            does="Answers 502 with a web page.",
            plays=lambda _: [whole(_PAGE, content_type="text/html", status=502)],
        ),
        _fault(
            name="empty_503",
            does="Answers 503 with no body at all.",
            plays=lambda _: [whole(b"", status=503)],
        ),
        _fault(
            name="plain_400",
            does="Answers 400 with an error that is a plain text in JSON.",
            plays=_says({"error": "'response_format.type' must be 'json_schema'"}, status=400),
        ),
        _fault(
            name="nested_422",
            does="Answers 422 with a message that is an object.",
            plays=_says({"object": "error", **nested}, status=422),
        ),
        _fault(
            name="deep_500",
            does="Answers 500 with JSON nested 200,000 deep.",
            plays=lambda _: [whole(b"[" * 200_000, status=500)],
        ),
        _fault(
            name="error_200",
            does="Answers 200 with an error without a code.",
            plays=_says({"error": {"message": "The model crashed."}}),
        ),
        _fault(
            name="error_200_429",
            does="Answers 200 with an error whose code is 429, as OpenRouter does.",
            plays=_says({"error": {"message": "Slow down.", "code": 429}}),
        ),
        _fault(
            name="error_200_key",
            does="Answers 200 with an error about the key.",
            plays=_says({"error": {"message": "Bad key.", "code": "invalid_api_key"}}),
        ),
        _fault(
            name="error_200_text",
            does="Answers 200 with an error that is a text.",
            plays=_says({"error": "out of memory"}),
        ),
    ]


def _redirects() -> list[WireFault]:
    return [
        _fault(
            name="redirect_same",
            does="Redirects (307) to another path here.",
            plays=_redirect(307, lambda asked: f"{asked.base_url}/other"),
        ),
        _fault(
            name="redirect_other",
            does="Redirects (307) to another host.",
            plays=_redirect(307, lambda _: "https://elsewhere.invalid/v1/chat/completions"),
        ),
        _fault(
            name="redirect_down",
            does="Redirects (308) to http:// at another host.",
            plays=_redirect(308, lambda _: "http://elsewhere.invalid/v1/chat/completions"),
        ),
        _fault(
            name="redirect_loop",
            does="Redirects (302) to itself.",
            plays=_redirect(302, lambda asked: f"{asked.base_url}/chat/completions"),
        ),
        _fault(
            name="redirect_nowhere",
            does="Redirects (303) without saying where.",
            plays=lambda _: [whole(b"", status=303)],
        ),
    ]


def _echoes() -> list[WireFault]:
    return [
        *(
            _fault(
                name=f"echo_{status}",
                does=f"Answers {status} and repeats the key in message and code.",
                plays=_echo(status),
            )
            for status in (200, 400, 401, 429, 500)
        ),
        _fault(
            name="echo_in_headers",
            does="Answers 401 and repeats the key in its headers too.",
            plays=_echo(401, in_headers=True),
        ),
        _fault(
            name="echo_in_redirect",
            does="Redirects (307) to an address with the key in it.",
            plays=_redirect(307, lambda asked: f"{asked.base_url}/?key={asked.key}"),
        ),
        _fault(
            name="echo_then_hang",
            does="Begins an error that repeats the key, and falls silent.",
            plays=_echo_then_more,
            after="hold",
        ),
        _fault(
            name="echo_then_rst",
            does="Begins an error that repeats the key, and resets the connection.",
            plays=_echo_then_more,
            after="reset",
        ),
        _fault(
            name="echo_in_gzip",
            does="Calls a plain text with the key in it gzip.",
            plays=_echo_in_gzip,
        ),
        _fault(
            name="echo_in_chunk",
            does="Repeats the key where the size of a chunk should be.",
            plays=_echo_in_chunk,
            after="close",
        ),
        _fault(
            name="echo_in_long_head",
            does="Repeats the key in a header field of 100 kB and more.",
            plays=_echo_in_long_head,
        ),
        _fault(
            name="echo_in_id",
            does="Answers, and repeats the key in x-request-id.",
            plays=_echo_in_id,
            is_harmless=True,
        ),
        _fault(
            name="echo_in_body",
            does="Answers 200 with the key in a plain text.",
            plays=_echo_in_body,
        ),
    ]
