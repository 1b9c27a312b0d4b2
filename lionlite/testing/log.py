"""Every request that a fake provider received.

Holds: `ReceivedRequest` and the log that tests wait on. Does not hold: the
judgement over the log (report.py). Records are frozen; the log is safe to
share between threads.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

Outcome = Literal["waiting", "answered", "refused", "fault", "error"]

_SECRET = frozenset({"authorization", "proxy-authorization", "api-key", "x-api-key", "cookie"})


@attrs.frozen(kw_only=True)
class ReceivedRequest:
    """One request, as the provider saw it.

    Attributes:
        arrival_s: When its first bytes were read, on `time.monotonic`.
        finished_s: When its reply was made, just before it was sent, of a
            stream its last event; None while it waits, and for one that hangs.
        method: Such as `"POST"`.
        path: Without the query.
        headers: Lower-case names; what may hold a key is masked.
        body: The decoded JSON; None when there was none, or it was bad, or
            bodies are not kept.
        client_port: The client's end of the connection; equal ports mean one
            connection was used again.
        outcome: "waiting", "answered", "refused" by the rate limit, "fault"
            (scripted), or "error" (bad key, bad request, no reply left).
        is_admitted: Whether it passed the rate limit and used some of it.
        status: The status of the reply; None before there is one.
        input_tokens: Of a chat request, by the provider's own count.
        output_tokens: Of its reply, 0 without one.
        charged_tokens: What it costs of the token limit.
        charged_at_s: The instant that cost counts from.
        is_stream: Whether it asked for a stream.
        pieces_sent: Of a streamed reply, how many pieces of text, reasoning
            or tool calls were made and sent.
        is_aborted: Whether a reply in steps (a stream, or one of FaultServer's)
            ended early, as the client left or the server was closed.
        fault: What was played on it: `Fault.kind`, or FaultServer's name of
            it; None if nothing was.
    """

    arrival_s: float
    finished_s: float | None = None
    method: str = "POST"
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: Any = None
    client_port: int = 0
    outcome: Outcome = "waiting"
    is_admitted: bool = False
    status: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    charged_tokens: int = 0
    charged_at_s: float = 0.0
    is_stream: bool = False
    pieces_sent: int = 0
    is_aborted: bool = False
    fault: str | None = None


class RequestLog:
    """An append-only list of requests that threads can wait on.

    Threads: all methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards _records and _is_closed
        self._records: list[ReceivedRequest] = []
        self._is_closed = False

    def add(self, record: ReceivedRequest) -> int:
        """Log an arrival; return its place, for `update`."""
        with self._changed:
            self._records.append(record)
            self._changed.notify_all()
            return len(self._records) - 1

    def update(self, place: int, record: ReceivedRequest) -> None:
        """Replace the request at *place* by what is known of it now."""
        with self._changed:
            self._records[place] = record
            self._changed.notify_all()

    def snapshot(self) -> tuple[ReceivedRequest, ...]:
        """Return all requests so far, in the order they were logged."""
        with self._changed:
            return tuple(self._records)

    def wait_for(self, count: int, timeout_s: float) -> bool:
        """Return whether *count* requests arrived within *timeout_s* seconds.

        Returns at once when the log is closed.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_closed or len(self._records) >= count, timeout_s
            )
            return len(self._records) >= count

    def wait_for_ended(self, count: int, timeout_s: float) -> bool:
        """Return whether *count* requests ended within *timeout_s* seconds.

        Returns at once when the log is closed.
        """

        def have_ended() -> bool:
            return sum(record.finished_s is not None for record in self._records) >= count

        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or have_ended(), timeout_s)
            return have_ended()

    def close(self) -> None:
        """Wake every thread that waits. What is logged stays readable."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


def masked(headers: Mapping[str, str]) -> dict[str, str]:
    """Return *headers* without the values that may hold a key."""
    return {name: "***" if name in _SECRET else value for name, value in headers.items()}
