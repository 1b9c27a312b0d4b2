"""What all tests share: no keys from outside, tokenizer ranks where they lie beside the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

RANKS = Path(__file__).resolve().parents[2] / "shared" / "tiktoken"

if RANKS.is_dir():
    os.environ["TIKTOKEN_CACHE_DIR"] = str(RANKS)

_KEYS = (
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
    "OPENROUTER_API_KEY",
    "GROQ_API_KEY",
    "MISTRAL_API_KEY",
    "DEEPSEEK_API_KEY",
)


@pytest.fixture(autouse=True)
def _no_keys_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _KEYS:
        monkeypatch.delenv(name, raising=False)
