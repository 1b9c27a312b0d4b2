"""What the log of a fake provider says about its client.

Holds: `Report` and the arithmetic over the log. Does not hold: the judgement
of a single arrival (gate.py): this recounts from the log, by other code, so
that each checks the other. Pure; safe anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lionlite.testing.log import ReceivedRequest
    from lionlite.testing.settings import Settings


@attrs.frozen(kw_only=True)
class Report:
    """Counts over all requests of one provider.

    A window is half-open and *interval_s* long, and may start anywhere.

    Attributes:
        accepted: Chat requests that passed the rate limit, faults included.
        refused_429: Chat requests that did not.
        faults: Accepted ones that met a scripted fault.
        other_errors: Everything else that got no answer: bad key, bad
            request, unknown path, no reply left in the script.
        highest_requests_in_window: The most accepted requests in any window.
        highest_arrivals_in_window: The same with the refused ones, which use
            up no budget: what the client tried.
        highest_tokens_in_window: The most tokens charged in any window.
        interval_s: Length of a window in seconds.
        max_requests: The limit of requests, None if there is none.
        max_tokens: The limit of tokens, None if there is none.
        first_s: Arrival of the first chat request on `time.monotonic`, None
            if there was none.
        last_s: Arrival of the last one.
        input_tokens: Of all accepted requests, by the provider's own count.
        output_tokens: Of all replies.
    """

    accepted: int
    refused_429: int
    faults: int
    other_errors: int
    highest_requests_in_window: int
    highest_arrivals_in_window: int
    highest_tokens_in_window: int
    interval_s: float
    max_requests: int | None
    max_tokens: int | None
    first_s: float | None
    last_s: float | None
    input_tokens: int
    output_tokens: int


def report_on(requests: Sequence[ReceivedRequest], settings: Settings) -> Report:
    """Return the counts over *requests*."""
    accepted = [request for request in requests if request.is_admitted]
    refused = [request for request in requests if request.outcome == "refused"]
    arrivals = sorted(request.arrival_s for request in (*accepted, *refused))
    interval_s = settings.interval_s
    return Report(
        accepted=len(accepted),
        refused_429=len(refused),
        faults=sum(request.outcome == "fault" for request in requests),
        other_errors=sum(request.outcome == "error" for request in requests),
        highest_requests_in_window=highest_in_window(
            ((request.arrival_s, 1) for request in accepted), interval_s
        ),
        highest_arrivals_in_window=highest_in_window(((at_s, 1) for at_s in arrivals), interval_s),
        highest_tokens_in_window=highest_in_window(
            ((request.charged_at_s, request.charged_tokens) for request in accepted), interval_s
        ),
        interval_s=interval_s,
        max_requests=settings.max_requests,
        max_tokens=settings.max_tokens,
        first_s=arrivals[0] if arrivals else None,
        last_s=arrivals[-1] if arrivals else None,
        input_tokens=sum(request.input_tokens for request in accepted),
        output_tokens=sum(request.output_tokens for request in accepted),
    )


def highest_in_window(costs: Iterable[tuple[float, int]], interval_s: float) -> int:
    """Return the highest sum of costs in any half-open window.

    Args:
        costs: Pairs of an instant in seconds and a cost, in any order.
        interval_s: Length of a window in seconds.
    """
    points = sorted(costs)
    highest = held = oldest = 0
    for at_s, cost in points:
        held += cost
        while at_s - points[oldest][0] >= interval_s:
            held -= points[oldest][1]
            oldest += 1
        highest = max(highest, held)
    return highest
