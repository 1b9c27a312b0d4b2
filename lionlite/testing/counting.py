"""The fake provider's own idea of how many tokens a text has.

Holds: a rule anyone can redo on paper. Does not hold: a tokenizer, nor
anything of lionlite.tokens: a judge must not count with the rule of the judged.
Pure; safe anywhere.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MESSAGE_TOKENS = 4  # round a message, and 3 a request: near the 3-4 and 3
REQUEST_TOKENS = 3  # that OpenAI's chat format costs


@attrs.frozen
class TokenRule:
    """Counts tokens by the bytes of a text.

    Attributes:
        bytes_per_token: UTF-8 bytes that make one token.
    """

    bytes_per_token: float = 4.0

    def text(self, text: str) -> int:
        """Return the tokens of *text*, rounded up."""
        return math.ceil(len(text.encode("utf-8", "surrogatepass")) / self.bytes_per_token)

    def request(self, messages: Sequence[Mapping[str, Any]]) -> int:
        """Return the input tokens: each content + 4, and 3 in all.

        Content that is no text (parts, None) is counted by its JSON; names,
        tool calls and tool definitions are not counted.
        """
        return REQUEST_TOKENS + sum(
            MESSAGE_TOKENS + self._content(message.get("content")) for message in messages
        )

    def reply(self, message: Mapping[str, Any]) -> int:
        """Return the output tokens of an assistant message, at least 1."""
        return max(1, self._content(message.get("content")))

    def _content(self, content: object) -> int:
        if content is None:
            return 0
        return self.text(content if isinstance(content, str) else json.dumps(content))
