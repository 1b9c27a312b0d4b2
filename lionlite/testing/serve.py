"""A calculator provider that runs until it is told to stop.

Holds: `serve`, what the command line runs. Does not hold: the command line,
or any printing. Blocks the calling thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lionlite.testing.calculator import calculator_reply
from lionlite.testing.provider import FakeProvider

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from lionlite.testing.report import Report
    from lionlite.testing.settings import Charge


def serve(
    *,
    port: int,
    latency_s: float,
    max_requests: int | None,
    max_tokens: int | None,
    interval_s: float,
    charge: Charge,
    model: str,
    announce: Callable[[str], None],
    stop: threading.Event,
) -> Report:
    """Serve the calculator until *stop* is set.

    Args:
        port: Where to listen; 0 is any free port.
        latency_s: Seconds from arrival to reply.
        max_requests: Requests in any window; None is no limit.
        max_tokens: Tokens in any window; None is no limit.
        interval_s: Length of a window in seconds.
        charge: What a request costs of *max_tokens*, as in `FakeProvider`.
        model: The name of the model.
        announce: Told the base_url once it is listening.
        stop: Ends the serving; may be set from any thread.

    Returns:
        The counts over everything it received.

    Raises:
        ConfigError: An argument makes no sense, or the port is taken.
    """
    provider = FakeProvider(
        calculator_reply,
        port=port,
        latency_s=latency_s,
        max_requests=max_requests,
        max_tokens=max_tokens,
        interval_s=interval_s,
        charge=charge,
        model=model,
        keep_bodies=False,
    )
    with provider:
        announce(provider.base_url)
        stop.wait()
    return provider.report()
