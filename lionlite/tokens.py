"""How many tokens a text or a list of chat messages has, before it is sent.

The one door to tiktoken. Holds: the choice of an encoding for a model, loading
it without ever blocking a call, counting, and the estimate where no encoding
is to be had. Does not hold: budgets (limits/) or what a provider charges.
Safe to share between threads.
"""

from __future__ import annotations

import logging
import math
import os
import re
import tempfile
import threading
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lionlite.display import shown
from lionlite.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BYTES_PER_TOKEN = 4
"""UTF-8 bytes a token, for text that nothing counts: measured 3.5 to 4.5 for English."""

TOKENS_PER_MESSAGE = 3
TOKENS_PER_NAME = 1
TOKENS_PER_REQUEST = 3
"""What the chat format adds: exact for 69 of 83 recorded OpenAI chats, else 1 or 2 too high."""

TOKENS_PER_IMAGE = 1_100
"""Recorded images cost 219 to 1,105 tokens: the upper end, corrected by the reply's usage."""

ESTIMATE = "estimate"
"""The encoding name that says: estimate from the length, load nothing."""

MAX_CACHED_TEXTS = 4_096
MAX_CACHED_TEXT_CHARS = 20_000
"""Bounds of the counts kept: about 80 MB of text at the very worst, held by histories anyway."""

MAX_PIECE_CHARS = 100_000
"""Encoded at once: a million spaces and a word exceed tiktoken's stack, which panics."""

_RANKS_HOST = "https://openaipublic.blob.core.windows.net/encodings/"
_RANKS = {
    "o200k_base": "o200k_base.tiktoken",
    "o200k_harmony": "o200k_base.tiktoken",
    "cl100k_base": "cl100k_base.tiktoken",
    "p50k_base": "p50k_base.tiktoken",
    "p50k_edit": "p50k_base.tiktoken",
    "r50k_base": "r50k_base.tiktoken",
}
"""Encoding to the file it is made of, as tiktoken_ext/openai_public.py has it."""

# tiktoken's own table raises KeyError for the newest names and takes
# "ft:gpt-4.1-mini" for gpt-4; everything of OpenAI since gpt-4o is o200k.
_OLD_MODELS = re.compile(r"gpt-4(?!o|\.|-?5)|gpt-3\.?5|text-embedding")
_OPENAI_MODELS = re.compile(r"gpt-|chatgpt|codex|o\d|text-embedding")

_log = logging.getLogger("lionlite")


def encoding_for_model(model: str) -> str:
    """Return the name of the encoding of *model*, or `ESTIMATE` if none is known.

    Vendor prefixes ("openai/"), variants (":free") and fine-tune marks ("ft:")
    do not matter.
    """
    name = model.rpartition("/")[2].removeprefix("ft:")
    if not _OPENAI_MODELS.match(name):
        return ESTIMATE
    return "cl100k_base" if _OLD_MODELS.match(name) else "o200k_base"


class TokenCounter:
    """Counts the tokens of chat messages in one encoding.

    The encoding is loaded by a background thread at the first count; until it
    is there, and for good if it cannot be had, counts are estimates from the
    length, and one warning says so. Each text is counted once.

    Args:
        encoding_name: A tiktoken encoding such as "o200k_base", or "estimate".
        may_download: Whether tiktoken may fetch the vocabulary from the
            internet when it is not in its cache.

    Threads: safe to share; never waits for the loading.
    """

    def __init__(self, encoding_name: str, *, may_download: bool = True) -> None:
        self._name = encoding_name
        self._may_download = may_download
        # Guards _loader: one thread loads, whoever comes first starts it.
        self._lock = threading.Lock()
        self._loader: threading.Thread | None = None
        self._pid = os.getpid()
        self._encoding: Any = None
        self._is_settled = encoding_name == ESTIMATE
        self._counts: dict[str, int] = {}

    @property
    def encoding_name(self) -> str:
        """The encoding counted in."""
        return self._name

    def count_text(self, text: str) -> int:
        """Return the tokens of *text*; an estimate while no encoding is loaded."""
        if self._encoding is None:
            if not self._is_settled:
                self._start_loading()
            return estimate_text(text)
        count = self._counts.get(text)
        if count is None:
            count = self._encode(text)
            self._remember(text, count)
        return count

    def count_messages(self, messages: Iterable[Mapping[str, Any]]) -> int:
        """Return the tokens that *messages* cost as the input of one request."""
        total = TOKENS_PER_REQUEST
        known = self._counts
        for message in messages:
            total += TOKENS_PER_MESSAGE
            # The usual message: a role, and a text that was counted before.
            role, content = message.get("role"), message.get("content")
            if len(message) == 2 and type(content) is str and type(role) is str:  # noqa: PLR2004
                counted, of_role = known.get(content), known.get(role)
                if counted is not None and of_role is not None:
                    total += counted + of_role
                    continue
            for key, value in message.items():
                total += self._count_value(value)
                if key == "name":
                    total += TOKENS_PER_NAME
        return total

    def wait_until_loaded(self, timeout_s: float) -> bool:
        """Start loading if need be; return whether counts are exact by then.

        For tests and command lines; a call never waits.
        """
        self._start_loading()
        loader = self._loader
        if loader is not None:
            loader.join(timeout_s)
        return self._encoding is not None

    def _count_value(self, value: Any) -> int:
        if isinstance(value, str):
            return self.count_text(value)
        if isinstance(value, dict):
            if "image_url" in value:
                return TOKENS_PER_IMAGE
            return sum(self._count_value(part) for part in value.values())
        if isinstance(value, (list, tuple)):
            return sum(self._count_value(part) for part in value)
        return 1 if value is not None else 0

    def _encode(self, text: str) -> int:
        # Ordinary: a user's "<|endoftext|>" is text, not a control token.
        return sum(
            len(self._encoding.encode_ordinary(text[start : start + MAX_PIECE_CHARS]))
            for start in range(0, len(text), MAX_PIECE_CHARS)
        )

    def _remember(self, text: str, count: int) -> None:
        if len(text) > MAX_CACHED_TEXT_CHARS:
            return
        if len(self._counts) >= MAX_CACHED_TEXTS:
            self._counts = {}
        self._counts[text] = count

    def _start_loading(self) -> None:
        if self._pid != os.getpid():  # pragma: no cover - only in forked children
            # A fork leaves the loader behind, and maybe the lock held: begin anew.
            self._lock, self._loader, self._pid = threading.Lock(), None, os.getpid()
        try:
            with self._lock:
                if self._is_settled or self._loader is not None:
                    return
                loader = threading.Thread(target=self._load, name="lionlite-tokens", daemon=True)
                loader.start()
                self._loader = loader
        except RuntimeError as exc:
            # The system gives no more threads; a call must not fail of it.
            self._give_up(exc)

    def _load(self) -> None:
        try:
            self._encoding = load_encoding(self._name, may_download=self._may_download)
        except Exception as exc:  # noqa: BLE001 - whatever it is, a call must not fail of it
            self._give_up(exc)
        else:
            self._is_settled = True

    def _give_up(self, exc: Exception) -> None:
        self._is_settled = True
        _log.warning(
            "Token counts are estimates (%d bytes a token): the encoding %s could not be "
            "loaded (%s).",
            BYTES_PER_TOKEN,
            self._name,
            type(exc).__name__,
        )


def load_encoding(name: str, *, may_download: bool) -> Any:
    """Return the tiktoken encoding *name*; slow (0.2 to 0.6 s), may use the network.

    Raises:
        FileNotFoundError: It is not in tiktoken's cache and *may_download* is
            false.
        Exception: Whatever tiktoken raises when it cannot be had.
    """
    if not may_download and name in _RANKS and not _cached_ranks(name).exists():
        msg = f"{name} is not in tiktoken's cache"
        raise FileNotFoundError(msg)
    # Costs 50 ms, and a program without a token budget never needs it.
    import tiktoken  # noqa: PLC0415

    return tiktoken.get_encoding(name)


def _cached_ranks(name: str) -> Path:
    """Return where tiktoken keeps the ranks of *name* (its load.py)."""
    folder = (
        os.environ.get("TIKTOKEN_CACHE_DIR")
        or os.environ.get("DATA_GYM_CACHE_DIR")
        or Path(tempfile.gettempdir(), "data-gym-cache")
    )
    address = (_RANKS_HOST + _RANKS[name]).encode()
    return Path(folder, sha1(address).hexdigest())  # noqa: S324 - tiktoken's file name


def estimate_text(text: str) -> int:
    """Return about how many tokens *text* has, from its length, >= 0."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return math.ceil(size / BYTES_PER_TOKEN)


def checked_encoding_name(name: str | None) -> str | None:
    """Return *name* if it can be an encoding's name.

    Raises:
        ConfigError: *name* is not a non-empty text.
    """
    if name is None or (isinstance(name, str) and name.strip()):
        return name
    msg = (
        f"token_encoding_name= takes the name of a tiktoken encoding such as 'o200k_base', "
        f"or 'estimate'; got {shown(name)}."
    )
    raise ConfigError(msg)

