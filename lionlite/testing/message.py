"""One HTTP/1.1 request and reply, as values, and the bytes they travel in.

Holds: `HttpRequest`, `HttpReply`, `SteppedReply`, reading a head and writing a
reply. Does not hold: sockets (server.py), or anything of OpenAI's protocol
(protocol.py). Pure and, but for `SteppedReply`, frozen and safe to share.
"""

from __future__ import annotations

import http
import json
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

_TOKEN_PARTS = 3  # method, target, version: RFC 9112, section 3


After = Literal["keep", "close", "reset", "hold", "deaf"]
"""What becomes of a connection: hold reads on until one end goes, deaf reads no more."""

Step: TypeAlias = "bytes | float"
"""Bytes to send, or seconds to wait; 0.0 only looks whether the client is still there."""


class BadHeadError(Exception):
    """What arrived is not the head of an HTTP/1.1 request."""


@attrs.frozen
class Head:
    """The first line and the header fields of a request.

    Attributes:
        method: As sent, such as `"POST"`.
        path: The target without its query, which may hold a secret.
        version: Such as `"HTTP/1.1"`.
        headers: Lower-case names; a repeated field is joined by commas.
    """

    method: str
    path: str
    version: str
    headers: Mapping[str, str]

    @property
    def keeps_alive(self) -> bool:
        """Whether the client wants to use the connection again."""
        wish = self.headers.get("connection", "").lower()
        return self.version == "HTTP/1.1" and wish != "close"


@attrs.frozen
class HttpRequest:
    """One request that arrived in full.

    Attributes:
        head: Its first line and header fields.
        body: Exactly as sent.
        arrival_s: When its first bytes were read, on `time.monotonic`.
        client_port: The client's end of the connection.
    """

    head: Head
    body: bytes
    arrival_s: float
    client_port: int


@attrs.frozen
class HttpReply:
    """One reply, and what becomes of the connection after it.

    Attributes:
        status: The status code.
        body: Announced in full by Content-Length.
        content_type: Of the body.
        headers: More header fields; one named here replaces the server's own.
        sent_bytes: How much of the body really goes out; None is all of it.
        is_silent: Whether not even the head goes out.
        after: What becomes of the connection.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = attrs.field(factory=dict)
    sent_bytes: int | None = None
    is_silent: bool = False
    after: After = "keep"

    def with_headers(self, headers: Mapping[str, str]) -> HttpReply:
        """Return this reply with *headers* too; its own win."""
        return HttpReply(
            self.status,
            self.body,
            self.content_type,
            {**headers, **self.headers},
            self.sent_bytes,
            self.is_silent,
            self.after,
        )


@attrs.frozen(eq=False)
class SteppedReply:
    """A reply sent step by step, exactly as its bytes are; head and framing included.

    Attributes:
        steps: Made while they are sent, in the connection's thread. Closed
            where it stands when the client leaves, or the server closes.
        after: What becomes of the connection once all of it was sent.
    """

    steps: Generator[Step, None, None]
    after: After = "close"


def json_reply(
    body: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> HttpReply:
    """Return a reply whose body is *body* as JSON."""
    return HttpReply(status=status, body=json.dumps(body).encode(), headers=headers or {})


def parse_head(head: bytes) -> Head:
    """Read the head of a request, without its closing blank line.

    Raises:
        BadHeadError: It has no method, target and version, or a field line
            without a colon.

    Source: RFC 9112, sections 3 and 5.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != _TOKEN_PARTS or not parts[2].startswith("HTTP/1."):
        msg = f"not a request line of HTTP/1.x: {first[:80]!r}"
        raise BadHeadError(msg)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            msg = "a header field has no colon"
            raise BadHeadError(msg)
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Head(parts[0], parts[1].partition("?")[0], parts[2], headers)


def render(reply: HttpReply, *, will_close: bool = False) -> bytes:
    """Return the bytes of *reply*, head and body in one piece.

    Args:
        reply: What to say.
        will_close: Whether to announce the end of the connection.
    """
    if reply.is_silent:
        return b""
    fields = {
        "content-type": reply.content_type,
        "content-length": str(len(reply.body)),
        **({"connection": "close"} if will_close else {}),
    }
    return render_head(reply, fields) + reply.body[: reply.sent_bytes]


def render_head(reply: HttpReply, fields: Mapping[str, str]) -> bytes:
    """Return the head of *reply*: *fields*, under which its own headers win."""
    fields = {**fields, **{name.lower(): value for name, value in reply.headers.items()}}
    head = f"HTTP/1.1 {reply.status} {_phrase(reply.status)}\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in fields.items()
    )
    return head.encode("latin-1", "replace") + b"\r\n"


def chunk(data: bytes) -> bytes:
    """Return *data* as one chunk of a chunked body; no bytes at all are its end.

    Source: RFC 9112, section 7.1.
    """
    return b"%x\r\n%b\r\n" % (len(data), data)


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:  # 529 and its like are in use, and in no register
        return "Unknown"
