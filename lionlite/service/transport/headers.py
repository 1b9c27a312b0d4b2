"""The headers of a reply, read when they are asked for.

Holds: `Headers`, a mapping over a head that llhttp has accepted. Does not hold:
what is allowed in a head (parse.py). Safe to share between threads: reading it
twice does no harm.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from typing import Any


class Headers(Mapping[str, str]):
    """Lower-case names; values of equal names joined with ", ".

    Making the texts of twenty headers costs as much as all the rest of reading
    a reply, so it is done at the first look, once.

    Args:
        head: First line and headers, as they came, joined by CRLF.
        lower: The same in lower case.
    """

    __slots__ = ("_found", "_head", "_lower")

    def __init__(self, head: str, lower: str) -> None:
        self._head = head
        self._found: dict[str, str] | None = None
        # As long as the head itself, so that what is found here stands there.
        self._lower = lower

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of *name*, a lower-case name; looks for no other."""
        if self._found is None:
            lower, key = self._lower, "\r\n" + name + ":"
            start = lower.find(key)
            if start < 0:
                return default
            start += len(key)
            if lower.find(key, start) < 0:
                end = lower.find("\r\n", start)
                return self._head[start : end if end >= 0 else None].strip(" \t")
        return self._all().get(name, default)

    def mention(self, word: str) -> bool:
        """Whether *word*, in lower case, stands in any of them, so that a look is worth it."""
        return word in self._lower

    def __getitem__(self, name: str) -> str:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def items(self) -> ItemsView[str, str]:
        """Return the names and their values."""
        return self._all().items()

    def pairs(self) -> list[tuple[str, str]]:
        """Return each header by itself, the name as it came."""
        split = [line.partition(":") for line in self._head.split("\r\n")[1:]]
        return [(name, value.strip(" \t")) for name, _, value in split]

    def __repr__(self) -> str:
        # A provider may have echoed the key into one.
        return f"<{len(self)} headers>"

    def _all(self) -> dict[str, str]:
        found = self._found
        if found is None:
            found = {}
            lines = self._head.split("\r\n")
            del lines[0]
            for line in lines:
                name, _, value = line.partition(":")
                found[name.lower()] = value.strip(" \t")
            if len(found) < len(lines):
                found = self._joined()
            self._found = found
        return found

    def _joined(self) -> dict[str, str]:
        found: dict[str, list[str]] = {}
        for name, value in self.pairs():
            found.setdefault(name.lower(), []).append(value)
        return {name: ", ".join(values) for name, values in found.items()}
