"""What a request will cost the budget, before it is sent.

Holds: one token counter a model's encoding, and the sum of input and output.
Does not hold: counting (tokens.py) or the budget (limits/). Safe to share
between threads.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import attrs

from lionlite.tokens import ESTIMATE, TokenCounter, encoding_for_model

if TYPE_CHECKING:
    from lionlite.service.request import Request

_log = logging.getLogger("lionlite")


@attrs.frozen
class Cost:
    """What one request is taken to cost.

    Attributes:
        input_tokens: Of everything sent.
        output_tokens: The most that may come back, or a guess.
    """

    input_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        """Both together."""
        return self.input_tokens + self.output_tokens


class Estimator:
    """Estimates requests of one service.

    Args:
        encoding_name: For all models; None = chosen by model.
        may_download: Whether a vocabulary may be fetched from the internet.

    Threads: safe to share. Two threads may make the same counter at once: the
    first one is kept.
    """

    def __init__(self, *, encoding_name: str | None, may_download: bool) -> None:
        self._encoding_name = encoding_name
        self._may_download = may_download
        self._by_model: dict[str, TokenCounter] = {}
        self._by_encoding: dict[str, TokenCounter] = {}

    def cost_of(self, request: Request) -> Cost:
        """Return what *request* is taken to cost; never blocks on loading."""
        counter = self._by_model.get(request.model) or self._counter_for(request.model)
        return Cost(counter.count_messages(request.messages), request.output_tokens)

    def _counter_for(self, model: str) -> TokenCounter:
        name = self._encoding_name or encoding_for_model(model)
        own = TokenCounter(name, may_download=self._may_download)
        counter = self._by_encoding.setdefault(name, own)
        self._by_model[model] = counter
        # Only the thread whose counter was kept warns, so it is said once.
        if counter is own and name == ESTIMATE and self._encoding_name is None:
            _log.warning(
                "No token encoding is known for the model %r: counts are estimates from the "
                "length. token_encoding_name= chooses one; 'estimate' silences this.",
                model,
            )
        return counter
