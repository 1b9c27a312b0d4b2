"""What one fault is, and what it may know of the request it answers.

Holds: `WireFault`, `Asked`, and the pieces that faults are put together from.
Does not hold: any single fault. Values; the bytes they yield belong to the
thread of one connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import attrs

from lionlite.testing.message import After, HttpReply, Step, json_reply, render, render_head
from lionlite.testing.protocol import completion
from lionlite.testing.streaming import stream_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Group = Literal["network", "http", "status", "body", "stream"]

BLANKS = b" " * 65_536
_USAGE = (8, 11)


@attrs.frozen(kw_only=True)
class Asked:
    """A request, as far as a fault cares.

    Attributes:
        headers: As they came, lower-case names; the key is in there.
        body: The decoded JSON; empty if it was none.
        base_url: Of the server.
        text: What the model would have said.
        pause_s: Seconds between two bytes of a drip.
    """

    headers: Mapping[str, str] = attrs.field(repr=False)
    body: Mapping[str, Any]
    base_url: str
    text: str
    pause_s: float

    @property
    def key(self) -> str:
        """The key that came with it, for faults that echo it; "" without one."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def is_stream(self) -> bool:
        """Whether the reply shall be streamed."""
        return self.body.get("stream") is True

    def events(self) -> list[bytes]:
        """Return the events of the healthy stream: role, pieces, finish, usage, [DONE]."""
        return [
            event.data
            for event in stream_events(
                self.text, number=1, model=self._model, usage=_USAGE, wants_usage=True
            )
        ]

    def completion(self, **changes: Any) -> dict[str, Any]:
        """Return the body of the healthy reply, with *changes* on top."""
        return {
            **completion(self.text, number=1, model=self._model, usage=_USAGE),
            **changes,
        }

    def parts(self) -> tuple[bytes, bytes]:
        """Return head and body of the healthy reply, a stream where one is asked for."""
        if not self.is_stream:
            head, _, body = render(json_reply(self.completion())).partition(b"\r\n\r\n")
            return head + b"\r\n\r\n", body
        body = b"".join(self.events())
        return self.head(len(body)), body

    def head(self, length: int | str | None, **fields: str) -> bytes:
        """Return the head of a 200 for the healthy body, as `head_of` does."""
        kind = "text/event-stream" if self.is_stream else "application/json"
        return head_of(length, content_type=kind, **fields)

    @property
    def _model(self) -> str:
        model = self.body.get("model")
        return model if isinstance(model, str) else "fake-model"


@attrs.frozen(kw_only=True)
class WireFault:
    """One way in which a provider, or the way to it, fails.

    Attributes:
        name: In snake case; how a test asks for it.
        group: "network": the connection; "http": the grammar of the reply;
            "status": what the provider says no with; "body": a 200 that is
            not what the protocol promises; "stream": a stream that is not.
        does: What it does, in a sentence.
        plays: Yields the bytes to send and the seconds to wait.
        after: What becomes of the connection: keep, close (FIN), reset (RST),
            hold (open, silent), deaf (open, silent, and nothing read).
        is_harmless: Whether a client should answer as if nothing had happened.
        before_body: Whether it is played before the request's body is read.
        then: The fault that the next request on the same connection meets.
    """

    name: str
    group: Group
    does: str
    plays: Callable[[Asked], Iterable[Step]] = attrs.field(repr=False)
    after: After = "close"
    is_harmless: bool = False
    before_body: bool = False
    then: str | None = None


def nothing(_: Asked) -> Iterable[Step]:
    """Send nothing."""
    return ()


def healthy(asked: Asked) -> Iterable[Step]:
    """Send what a provider in good health sends."""
    yield b"".join(asked.parts())


def head_of(
    length: int | str | None, *, content_type: str = "application/json", **fields: str
) -> bytes:
    """Return the head of a 200 that announces *length* bytes, None = no length.

    Args:
        length: Also a text that is no number.
        content_type: Of the body.
        fields: More header fields; "_" in a name stands for "-".
    """
    known = {} if length is None else {"content-length": str(length)}
    more = {name.replace("_", "-"): value for name, value in fields.items()}
    return render_head(HttpReply(), {"content-type": content_type, **known, **more})


def whole(
    body: bytes,
    *,
    content_type: str = "application/json",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return a reply with honest framing."""
    return render(HttpReply(status, body, content_type, headers or {}))
