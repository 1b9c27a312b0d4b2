"""Results as JSON text and back, by the user's functions where he gives them.

Holds: `Values`. Does not hold: where the text is kept. Pure but for calling
encode= and decode=; safe anywhere if those are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from lionlite import jsontext
from lionlite.calls.verdict import describe
from lionlite.exceptions import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable


class NotKeepable(Exception):  # noqa: N818 - a verdict; never leaves calls/
    """A value is no JSON; the text says why."""


@attrs.frozen
class Values:
    """How results become text, and text results.

    Attributes:
        encode: From a result to what JSON knows; None = as `jsontext.plain`.
        decode: From what the JSON says to a result; None = what it says.
    """

    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None

    def text_of(self, value: object) -> str:
        """Return *value* as JSON.

        Raises:
            NotKeepable: It is none, or encode= failed.
        """
        try:
            given = value if self.encode is None else self.encode(value)
            return jsontext.encode(jsontext.plain(given)).decode()
        except jsontext.JsonError as exc:
            raise NotKeepable(str(exc)) from exc
        except Exception as exc:
            msg = f"encode= raised {describe(exc)}"
            raise NotKeepable(msg) from exc

    def value_in(self, text: str, *, key: str) -> object:
        """Return the result that *text* is, of the item named *key*.

        Raises:
            CheckpointError: decode= failed, or the text is no JSON.
        """
        try:
            found = jsontext.decode(text)
            return found if self.decode is None else self.decode(found)
        except Exception as exc:
            msg = (
                f"The kept result of item {key} cannot be read: {describe(exc)}. Repair decode=, "
                "or pass a new version= to have the item done again."
            )
            raise CheckpointError(msg) from exc

    def as_found_later(self, value: object, text: str, *, key: str) -> object:
        """Return what a later run will have for *value*, kept as *text*.

        With decode= that is *value* itself. Without it, what JSON makes of it:
        a tuple is a list then, and so it is at once, in both runs alike.
        """
        return value if self.decode is not None else self.value_in(text, key=key)
