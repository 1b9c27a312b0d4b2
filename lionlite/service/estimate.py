"""What a request will cost the budget, before it is sent.

Holds: one token counter a model's encoding, and what past calls correct in its
counts. Does not hold: counting (tokens.py), what is learned (experience.py) or
the budget (limits/). Safe to share between threads.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from lionlite.service.experience import Experience
from lionlite.tokens import ESTIMATE, TokenCounter, encoding_for_model
from lionlite.value import Value

if TYPE_CHECKING:
    from lionlite.records import Usage
    from lionlite.service.request import Request

DEFAULT_OUTPUT_TOKENS = 256
"""Reserved for an answer without a cap, until enough answers of the model were seen."""

MAX_KINDS = 1_024
"""Kinds of calls remembered; tools that differ at every call must not fill the memory."""

_log = logging.getLogger("lionlite")


class Cost(Value, frozen=True):
    """What one request is taken to cost.

    Attributes:
        input_tokens: Of everything sent.
        output_tokens: The most that may come back, or a guess.
        counted_input: Input tokens as counted, before experience corrected them.
    """

    input_tokens: int
    output_tokens: int
    counted_input: int

    @property
    def tokens(self) -> int:
        """Both together."""
        return self.input_tokens + self.output_tokens


class Estimator:
    """Estimates requests of one service.

    Args:
        encoding_name: For all models; None = chosen by model.
        may_download: Whether a vocabulary may be fetched from the internet.
        is_charged_used: Whether the provider charges what was used. If it
            charges its own estimate, experience never lowers ours.

    Threads: safe to share. Two threads may make the same counter at once: the
    first one is kept.
    """

    def __init__(
        self, *, encoding_name: str | None, may_download: bool, is_charged_used: bool = False
    ) -> None:
        self._encoding_name = encoding_name
        self._may_download = may_download
        self._least_factor = 0.0 if is_charged_used else 1.0
        self._by_model: dict[str, TokenCounter] = {}
        self._by_encoding: dict[str, TokenCounter] = {}
        self._experiences: dict[tuple[str, str], Experience] = {}

    def cost_of(self, request: Request) -> Cost:
        """Return what *request* is taken to cost; never blocks on loading."""
        counter = self._by_model.get(request.model) or self._counter_for(request.model)
        counted = counter.count_messages(request.messages)
        if request.tools:
            counted += counter.count_text(request.tools)
        known = self._experiences.get((request.model, request.tools))
        factor, answer = (1.0, None) if known is None else (known.input_factor, known.output_tokens)
        return Cost(
            math.ceil(counted * max(factor, self._least_factor)),
            request.answers * (request.cap or answer or DEFAULT_OUTPUT_TOKENS),
            counted,
        )

    def learn(self, request: Request, cost: Cost, usage: Usage) -> None:
        """Remember what *request* really cost."""
        kind = request.model, request.tools
        known = self._experiences.get(kind)
        if known is None:
            if len(self._experiences) >= MAX_KINDS:
                self._experiences = {}
            known = self._experiences.setdefault(kind, Experience())
        known.observe(
            counted_input=cost.counted_input, usage=usage, answers=request.answers
        )

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
