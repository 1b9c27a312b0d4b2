"""A prompt with gaps that the fields of a row fill: one chat for each row.

Holds: `Prompt`. Does not hold: rows themselves (calls/rows.py), mapping over
them (calls/), or the chat (session.py). Frozen once made, so safe to share
between threads.
"""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING, Any

from lionlite import jsontext
from lionlite.arguments import nearest
from lionlite.calls.runs.rows import fields_of, is_missing
from lionlite.conversation.branch import checked_llmconfig, checked_service
from lionlite.conversation.messages import system_message
from lionlite.conversation.session import Session
from lionlite.display import once_made, shown
from lionlite.exceptions import ConfigError
from lionlite.service.settings import checked_timeout
from lionlite.unset import UNSET, UnsetType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lionlite.service.service import Service

# Column names such as "review text" are welcome; attributes, indices and
# numbers are not: a template may come from a file, and {x.__class__} reaches
# into the program.
_NAME = re.compile(r"[^\W\d][\w -]*")


class Prompt:
    """A function of a row: it fills a template and returns the model's answer.

    ```python
    classify = Prompt("Is this review good or bad? {text}", model="gpt-5-mini")
    labels = run(reviews, classify).results
    ```

    Each call is a session of its own, so rows know nothing of each other.
    Text goes in as it is, everything else as JSON. It pickles unless it was
    given a service.

    Args:
        template: The prompt, with fields such as {text}; {{ and }} stand for
            braces.
        service: Whom to ask; None = `default_service()` at each call.
        model: Same as the model parameter "model".
        system: The system message, a text or a dict; None = none.
        timeout: Total seconds of a call, all waiting included; not given = the
            service's.
        extra_body: Keys for the request's body that are not checked.
        **llmconfig: Model parameters, such as temperature; checked by the
            service at each call.

    Attributes:
        template: The template as it was given.
        fields: The names of its fields, in order, each once.

    Raises:
        ConfigError: The template has no fields or wrong ones, or an argument
            is wrong.

    Threads: safe to share.
    """

    def __init__(
        self,
        template: str,
        *,
        service: Service | None = None,
        model: str | None = None,
        system: Any = None,
        timeout: float | UnsetType | None = UNSET,
        extra_body: Mapping[str, Any] | None = None,
        **llmconfig: Any,
    ) -> None:
        self._parts = _parts_of(template)
        self.template = template
        named = (name for _, name in self._parts if name is not None)
        self.fields: tuple[str, ...] = tuple(dict.fromkeys(named))
        if not self.fields:
            msg = f"The template has no field to fill, such as {{text}}: {shown(template, 80)}."
            raise ConfigError(msg)
        self._service = checked_service(service)
        self._model = model
        self._system = None if system is None else system_message(system)
        self._timeout = timeout if timeout is UNSET else checked_timeout(timeout)
        self._extra_body = extra_body
        self._llmconfig = checked_llmconfig(llmconfig)

    def __call__(self, row: Any) -> str:
        """Return the model's answer to the prompt for *row*.

        Args:
            row: A mapping, an instance of an attrs class or a dataclass, a
                namedtuple, a Series, or another object with attributes: its
                fields by name. For a template of one field also a single
                value, such as a text.

        Raises:
            ConfigError: A field is not there, is missing (None, NaN), or is
                not JSON; nothing was sent.
            OutputError: The model refused, or said nothing.
            LionError: See `Service.send`.

        Threads: blocks the calling thread only.
        """
        session = Session(
            self._system, model=self._model, service=self._service, llmconfig=self._llmconfig
        )
        return session.chat(self.render(row), timeout=self._timeout, extra_body=self._extra_body)

    def render(self, row: Any) -> str:
        """Return the text that a call with *row* would send.

        Raises:
            ConfigError: As for a call.
        """
        given = self._fields_in(row)
        texts = {name: self._text(name, given) for name in self.fields}
        return "".join(
            literal if name is None else literal + texts[name] for literal, name in self._parts
        )

    def _fields_in(self, row: Any) -> Mapping[str, Any]:
        """Return the fields of *row*; a value without any is the template's only one."""
        given = None
        if not isinstance(row, str) and (not isinstance(row, tuple) or hasattr(row, "_fields")):
            given = fields_of(row)
            held: dict[str, Any] = getattr(row, "__dict__", {})
            if given is None and self.fields[0] in held:
                given = {name: value for name, value in held.items() if name[0] != "_"}
        if given is not None:
            return given
        if len(self.fields) == 1:
            return {self.fields[0]: row}
        msg = (
            f"The template has {len(self.fields)} fields ({', '.join(self.fields)}), so it takes "
            f"rows with names, such as dicts; got {type(row).__name__}."
        )
        raise ConfigError(msg)

    def _text(self, name: str, given: Mapping[str, Any]) -> str:
        if name not in given:
            msg = f"The row has no field {name!r}: {nearest(name, list(given))}"
            raise ConfigError(msg)
        value = given[name]
        if is_missing(value):
            msg = (
                f"The field {name!r} is missing ({shown(value)}). Leave such rows out, or run() "
                "them with skip_missing=True."
            )
            raise ConfigError(msg)
        try:
            said = jsontext.plain(value, name=name)
            return said if isinstance(said, str) else jsontext.encode(said).decode()
        except jsontext.JsonError as exc:
            msg = f"The field {name!r} cannot be said in the prompt: {exc}."
            raise ConfigError(msg) from exc

    @once_made
    def __repr__(self) -> str:
        model = "" if self._model is None else f", model={self._model!r}"
        return f"Prompt({self.template!r:.80}{model})"

    def __getstate__(self) -> dict[str, Any]:
        if self._service is not None:
            msg = (
                "A Prompt with service= does not pickle, as a Service does not: leave it out, and "
                "call set_default_service() in the process that uses the prompt."
            )
            raise ConfigError(msg)
        return self.__dict__.copy()


def _parts_of(template: str) -> tuple[tuple[str, str | None], ...]:
    """Return each literal text with the name of the field after it, if there is one."""
    if not isinstance(template, str):
        msg = f"The template is a text such as 'Classify: {{text}}'; got {shown(template, 80)}."
        raise ConfigError(msg)
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as exc:
        msg = f"The template does not parse: {exc}. Write {{{{ and }}}} for braces."
        raise ConfigError(msg) from exc
    return tuple((literal, _name_in(*rest)) for literal, *rest in parts)


def _name_in(name: str | None, spec: str | None, conversion: str | None) -> str | None:
    if name is None or (not spec and not conversion and _NAME.fullmatch(name)):
        return name
    shown = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
    msg = (
        f"A field of a template is a plain name such as {{text}}; got {{{shown:.60}}}. Write "
        "{{ and }} for braces."
    )
    raise ConfigError(msg)
