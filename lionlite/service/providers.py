"""The providers, as data: where they are, what they call things, what they know.

Holds: the table. Does not hold: code that talks to them. A new provider of the
chat-completions kind is one more entry. Constants, safe to share.

Source: each provider's published API reference, and 2,188 recorded exchanges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TOKENS = "max_tokens"
MAX_COMPLETION_TOKENS = "max_completion_tokens"

_COMMON = frozenset(
    {
        "frequency_penalty",
        MAX_TOKENS,
        "n",
        "presence_penalty",
        "response_format",
        "seed",
        "stop",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
    }
)

_OPENAI = _COMMON | {
    "audio",
    "logit_bias",
    "logprobs",
    MAX_COMPLETION_TOKENS,
    "metadata",
    "modalities",
    "moderation",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "store",
    "top_logprobs",
    "user",
    "verbosity",
    "web_search_options",
}


@attrs.frozen
class Provider:
    """What one provider is like.

    Attributes:
        name: For messages and errors.
        base_url: Where its chat-completions API stands; None = must be given.
        key_scheme: The environment variable of its key; None = reads none.
        needs_key: Whether a call without a key is an error.
        default_model: For calls that name none; None = must be named.
        parameters: The llmconfig keys it knows; None = any key passes.
        max_tokens_name: What it calls the cap on one answer.
        env_base_url: The variable that replaces `base_url`, None = none.
        env_headers: Header to variable: sent when the variable is set.
        charge: What it charges a token limit with: "estimate" (at arrival,
            never corrected), "adjust" (corrected at the reply) or "usage" (at
            completion). Unknown = "estimate", the strictest.
        has_limits: Whether its headers are worth reading for rate limits.
        intervals: Dimension to seconds, where a limit in its headers counts
            in something else than a minute.
        encoding_name: The tokens' encoding; None = chosen by model.
        stream_options: What to ask of a stream so that it tells its usage;
            None where it does so unasked, or refuses the question.
    """

    name: str
    base_url: str | None = None
    key_scheme: str | None = None
    needs_key: bool = True
    default_model: str | None = None
    parameters: frozenset[str] | None = None
    max_tokens_name: str = MAX_TOKENS
    env_base_url: str | None = None
    env_headers: Mapping[str, str] = attrs.field(factory=dict)
    charge: str = "estimate"
    has_limits: bool = True
    intervals: Mapping[str, float] = attrs.field(factory=dict)
    encoding_name: str | None = None
    stream_options: Mapping[str, Any] | None = None


_WITH_USAGE = {"include_usage": True}

OPENAI = Provider(
    name="OpenAI",
    stream_options=_WITH_USAGE,
    base_url="https://api.openai.com/v1",
    key_scheme="OPENAI_API_KEY",
    default_model="gpt-4o-mini",
    parameters=_OPENAI,
    max_tokens_name=MAX_COMPLETION_TOKENS,
    env_base_url="OPENAI_BASE_URL",
    env_headers={
        "OpenAI-Organization": "OPENAI_ORG_ID",
        "OpenAI-Project": "OPENAI_PROJECT_ID",
    },
)

OPENROUTER = Provider(
    name="OpenRouter",
    base_url="https://openrouter.ai/api/v1",
    key_scheme="OPENROUTER_API_KEY",
    default_model="openai/gpt-4o-mini",
    parameters=_OPENAI
    | {
        "min_p",
        "models",
        "plugins",
        "provider",
        "reasoning",
        "repetition_penalty",
        "session_id",
        "top_a",
        "top_k",
        "transforms",
        "usage",
    },
    max_tokens_name=MAX_COMPLETION_TOKENS,
)

GROQ = Provider(
    name="Groq",
    # Its x-ratelimit-limit-requests is of a day, -tokens of a minute.
    intervals={"requests": 86_400.0},
    base_url="https://api.groq.com/openai/v1",
    key_scheme="GROQ_API_KEY",
    parameters=_COMMON
    | {
        "include_reasoning",
        "logit_bias",
        "logprobs",
        MAX_COMPLETION_TOKENS,
        "parallel_tool_calls",
        "reasoning_effort",
        "reasoning_format",
        "service_tier",
        "top_logprobs",
        "user",
    },
)

# Mistral answers 422 to any key that it does not know.
MISTRAL = Provider(
    name="Mistral",
    base_url="https://api.mistral.ai/v1",
    key_scheme="MISTRAL_API_KEY",
    default_model="mistral-small-latest",
    parameters=(_COMMON - {"seed"})
    | {
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "prompt_mode",
        "random_seed",
        "reasoning_effort",
        "safe_prompt",
    },
)

DEEPSEEK = Provider(
    name="DeepSeek",
    stream_options=_WITH_USAGE,
    base_url="https://api.deepseek.com",
    key_scheme="DEEPSEEK_API_KEY",
    default_model="deepseek-chat",
    parameters=(_COMMON - {"n", "seed"})
    | {"logprobs", "reasoning_effort", "thinking", "top_logprobs"},
)

OLLAMA = Provider(
    name="Ollama",
    stream_options=_WITH_USAGE,
    has_limits=False,
    base_url="http://localhost:11434/v1",
    needs_key=False,
    parameters=_COMMON | {"logit_bias", "reasoning", "reasoning_effort", "user"},
)

COMPATIBLE = Provider(name="the server", needs_key=False, stream_options=_WITH_USAGE)
