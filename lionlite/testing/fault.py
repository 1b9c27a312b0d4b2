"""The ways a provider fails, to be scripted in a test.

Holds: `Fault`, a value that says what goes wrong. Does not hold: the doing,
which is endpoint.py's and server.py's. Frozen, so safe to share and to reuse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from lionlite.exceptions import ConfigError
from lionlite.testing.message import After, HttpReply, json_reply
from lionlite.testing.protocol import error_body
from lionlite.testing.settings import check_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lionlite.testing.streaming import FakeStream

FakeReply: TypeAlias = (
    "str | Mapping[str, Any] | FakeStream | Fault | Callable[[dict[str, Any]], FakeReply]"
)
"""What a provider can be told to answer: a text, a message (a mapping), a
whole body (a mapping with `choices`), a text in chosen pieces, a failure, or a
function of the request's decoded body that returns one of these."""

_CUT_TEXT = "This reply never arrives whole."
_HTML = b"<html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>"


@attrs.frozen(kw_only=True)
class Fault:
    """One scripted failure. Make it with a class method, not by hand.

    A fault comes after the rate limit: a request that is refused with 429 by
    the provider's own window uses up no fault.

    Attributes:
        kind: The name of the class method that made it.
        http: The reply to send as it is, or None when *then* makes it.
        then: What to build the reply from when *http* is None. None is the
            next reply of the script.
        delay_s: Seconds to wait, on top of the provider's latency.
        sent_bytes: How much of the body goes out; None is all of it.
        after: What becomes of the connection, as in an HTTP reply.
    """

    kind: str
    http: HttpReply | None = None
    then: FakeReply | None = None
    delay_s: float = 0.0
    sent_bytes: int | None = None
    after: After = "keep"

    @classmethod
    def status(
        cls, code: int, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Fault:
        """Answer with a status code.

        Args:
            code: Such as 429 or 503.
            body: Any JSON value; None is an error as OpenAI words it.
            headers: More header fields, such as `{"retry-after": "2"}`.
        """
        if body is None:
            body = error_body(code, f"The script says {code}.")
        return cls(kind="status", http=json_reply(body, status=code, headers=headers))

    @classmethod
    def raw(
        cls,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Fault:
        """Answer with exactly these bytes as the body, `b""` included."""
        return cls(kind="raw", http=HttpReply(status, body, content_type, headers or {}))

    @classmethod
    def quota(cls) -> Fault:
        """Answer 429 as an account without credit does: no wait cures it."""
        message = "You exceeded your current quota, please check your plan and billing details."
        body = error_body(429, message, code="insufficient_quota")
        body["error"]["type"] = "insufficient_quota"
        return cls(kind="quota", http=json_reply(body, status=429))

    @classmethod
    def html(cls, status: int = 502) -> Fault:
        """Answer with a web page, as a proxy in between does."""
        return cls(kind="html", http=HttpReply(status, _HTML, "text/html"))

    @classmethod
    def bad_json(cls) -> Fault:
        """Answer 200 with JSON that ends in the middle."""
        return cls(kind="bad_json", http=HttpReply(200, b'{"id": "chatcmpl-0", "choices": [{"mes'))

    @classmethod
    def no_choices(cls) -> Fault:
        """Answer 200 with a completion whose `choices` are empty."""
        return cls(kind="no_choices", then={"choices": []})

    @classmethod
    def null_content(cls) -> Fault:
        """Answer 200 with a message whose content is null."""
        return cls(kind="null_content", then={"content": None})

    @classmethod
    def delay(
        cls,
        seconds: float,
        then: FakeReply | None = None,
    ) -> Fault:
        """Answer late, by *seconds* on top of the provider's latency.

        Args:
            seconds: >= 0.
            then: The late reply; None is the next one of the script.

        Raises:
            ConfigError: *seconds* is negative or not finite.
        """
        return cls(kind="delay", then=then, delay_s=check_seconds("seconds", seconds))

    @classmethod
    def hang(cls) -> Fault:
        """Say nothing until the client or the provider goes."""
        return cls(kind="hang", http=HttpReply(is_silent=True, after="hold"))

    @classmethod
    def drop(cls, *, reset: bool = False) -> Fault:
        """Close the connection without a byte.

        Args:
            reset: Whether the client sees a reset instead of an end.
        """
        return cls(kind="drop", http=HttpReply(is_silent=True, after="reset" if reset else "close"))

    @classmethod
    def cut(cls, after_bytes: int, *, reset: bool = False, then: FakeReply = _CUT_TEXT) -> Fault:
        """Announce a whole reply, send part of its body, and close.

        At least one byte is always missing. The tokens are charged: the
        provider did its work, and only the way back failed. Of a stream the
        bytes of its events are counted, and what came before is charged.

        Args:
            after_bytes: How much of the body goes out, >= 0.
            reset: Whether the client sees a reset instead of an end.
            then: The reply that is cut.

        Raises:
            ConfigError: *after_bytes* is not a whole number >= 0.
        """
        if isinstance(after_bytes, bool) or not isinstance(after_bytes, int) or after_bytes < 0:
            msg = f"after_bytes={after_bytes!r} is no size: give a whole number >= 0."
            raise ConfigError(msg)
        after: After = "reset" if reset else "close"
        return cls(kind="cut", then=then, sent_bytes=after_bytes, after=after)
