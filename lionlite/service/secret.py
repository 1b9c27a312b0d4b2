"""An API key that cannot be printed, logged or pickled by accident.

Holds: `Secret` and the scrubbing of texts that a provider sends back. Does not
hold: where keys come from. Values, safe to share between threads.
"""

from __future__ import annotations

import base64
import functools
import re
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote

from lionlite.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

MASK = "***"

# What providers echo, as in "Incorrect API key provided: sk-ab***yz".
# A digit or a star tells them from words: "API key provided" stays.
_LOOKS_LIKE_KEY = re.compile(
    r"\b(?:(?:sk|gsk|pk|key)[-_]|Bearer )(?=[A-Za-z_\-.]*[0-9*])[A-Za-z0-9_\-*.]{6,}"
)

_MIN_SECRET_CHARS = 6
"""Shorter placeholders ("none", "-") would blank out ordinary words."""


_MIN_KEY_CHARS = 12
"""No provider's key is shorter; what is, says something else too."""

# One of them is in all that the expression finds.
_MARKS = ("k-", "k_", "ey-", "ey_", "Bearer ")


class Secret:
    """A text that shows itself only to `reveal`.

    Attributes:
        is_empty: Whether there is nothing in it.

    Threads: immutable.
    """

    __slots__ = ("_forms", "_reveal", "is_empty")

    def __init__(self, value: str) -> None:
        # Closures: vars(), attrs, debuggers' locals and pickle see functions.
        self._reveal: Callable[[], str] = lambda: value
        self._forms = functools.cache(lambda: _forms_of(value))
        self.is_empty = not value

    def reveal(self) -> str:
        """Return the text itself."""
        return self._reveal()

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Secret) and self.reveal() == other.reveal()
        )

    def __hash__(self) -> int:
        return hash(self.reveal())

    def __reduce__(self) -> NoReturn:
        msg = "An API key does not pickle: set key_scheme= and read it where it is used."
        raise ConfigError(msg)

    @property
    def fits_in_header(self) -> bool:
        """Whether it is printable ASCII, without blanks or line breaks."""
        return re.fullmatch(r"[\x21-\x7e]*", self.reveal()) is not None

    def scrub(self, text: str) -> str:
        """Return *text* without this secret in any usual form, nor the like of it."""
        for form in self._forms():
            text = text.replace(form, MASK)
        # The expression costs 30 us on a whole reply, and nearly none has a mark.
        for mark in _MARKS:
            if mark in text:
                return _LOOKS_LIKE_KEY.sub(MASK, text)
        return text

    def scrub_own(self, text: str) -> str:
        """Return *text* without this secret, and as it is otherwise.

        For a model's own words: those that look like a key are not ours to
        blank out, nor is a placeholder such as "ollama".
        """
        if len(self.reveal()) < _MIN_KEY_CHARS:
            return text
        for form in self._forms():
            text = text.replace(form, MASK)
        return text


def _forms_of(value: str) -> tuple[str, ...]:
    """Return what to look for in a text that may hold *value*, each once."""
    if len(value) < _MIN_SECRET_CHARS:
        return ()
    encoded = base64.b64encode(value.encode()).decode().rstrip("=")
    return tuple({value, quote(value, safe=""), encoded, value.replace("/", "\\/")})


NO_SECRET = Secret("")
