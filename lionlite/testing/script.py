"""What a fake provider answers next.

Holds: `Script`, the order of replies, and `Turn`, one reply with everything
about it decided. Does not hold: HTTP, the rate limit, or waiting. `Script` is
safe to share between threads; each request takes one reply, and no two the same.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import attrs

from lionlite.exceptions import ConfigError
from lionlite.testing.fault import FakeReply, Fault
from lionlite.testing.protocol import error_reply
from lionlite.testing.streaming import FakeStream

if TYPE_CHECKING:
    from lionlite.testing.message import HttpReply

EXHAUSTED = attrs.evolve(
    error_reply(
        500,
        "script exhausted: give FakeProvider more replies, or call script()",
        code="script_exhausted",
    ),
    headers={"x-should-retry": "false"},
)
"""What is replied when no reply is left. No retry would cure it."""


@attrs.frozen(kw_only=True)
class Turn:
    """One reply, decided: an HTTP reply as it is, or content for a completion.

    Attributes:
        content: Text, message or body to build a completion from.
        http: The reply to send as it is when *content* is None.
        faults: The faults that were played, outermost first.
        stream: The pieces of *content*, where a test chose them.
    """

    content: str | Mapping[str, Any] | None = None
    http: HttpReply = EXHAUSTED
    faults: tuple[Fault, ...] = ()
    stream: FakeStream | None = None

    @property
    def delay_s(self) -> float:
        """Seconds that all faults together add to the latency."""
        return sum(fault.delay_s for fault in self.faults)

    @property
    def is_broken(self) -> bool:
        """Whether the script ran out."""
        return self.content is None and self.http is EXHAUSTED

    @property
    def cut(self) -> Fault | None:
        """The fault that cuts the reply short, if there is one."""
        return next((fault for fault in self.faults if fault.sent_bytes is not None), None)

    def shape(self, reply: HttpReply) -> HttpReply:
        """Return *reply* cut short, when a fault says so."""
        cut = self.cut
        if cut is None or cut.sent_bytes is None:
            return reply
        sent_bytes = min(cut.sent_bytes, len(reply.body) - 1)
        return attrs.evolve(reply, sent_bytes=sent_bytes, after=cut.after)


class Script:
    """Replies in turn.

    Args:
        reply: One reply for every request, or a sequence of replies, each of
            them used once. After the last one each request is answered 500
            "script exhausted", with a header that asks for no retry.

    Raises:
        ConfigError: *reply* is nothing that can be replied.
    """

    def __init__(self, reply: FakeReply | Sequence[FakeReply]) -> None:
        self._lock = threading.Lock()  # guards _waiting
        self._waiting: deque[FakeReply] = deque()
        self._always: FakeReply | None = None
        if isinstance(reply, Sequence) and not isinstance(reply, str | bytes):
            self._waiting.extend(checked(item) for item in reply)
        else:
            self._always = checked(reply)

    def put_in_front(self, replies: Sequence[FakeReply]) -> None:
        """Use *replies*, in their order, before anything else.

        Raises:
            ConfigError: One of them is nothing that can be replied; then none
                is used.
        """
        good = [checked(reply) for reply in replies]
        with self._lock:
            self._waiting.extendleft(reversed(good))

    def next_turn(self, body: dict[str, Any]) -> Turn:
        """Take the next reply and decide it for a request.

        Args:
            body: The request, for replies that are functions of it.

        Raises:
            Exception: Whatever such a function raises.
            ConfigError: Such a function returned nothing that can be replied.
        """
        reply = self._next()
        faults: tuple[Fault, ...] = ()
        while reply is not None:
            if isinstance(reply, str | Mapping):
                return Turn(content=reply, faults=faults)
            if isinstance(reply, FakeStream):
                return Turn(content=reply.text, faults=faults, stream=reply)
            if isinstance(reply, Fault):
                faults = (*faults, reply)
                if reply.http is not None:
                    return Turn(http=reply.http, faults=faults)
                reply = self._next() if reply.then is None else reply.then
            else:
                reply = checked(reply(body))
        return Turn(faults=faults)

    def _next(self) -> FakeReply | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else self._always


def checked(reply: object) -> FakeReply:
    """Return *reply* when it is one.

    Raises:
        ConfigError: It is not.
    """
    if isinstance(reply, str | Mapping | Fault | FakeStream) or callable(reply):
        return cast("FakeReply", reply)
    msg = (
        f"reply is {type(reply).__name__}: give a text, a mapping (the message), a FakeStream, "
        f"a Fault, a function of the request that returns one of these, or a sequence of them."
    )
    raise ConfigError(msg)
