"""Messages: what was said, and how an instruction becomes one.

Holds: `Message`, and turning instructions with their context into the text of
a user message. Does not hold: the order of messages (branch.py), or the wire.
Frozen values and pure functions, safe to share between threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lionlite import jsontext
from lionlite.display import shown
from lionlite.exceptions import ConfigError
from lionlite.value import Value

ROLES = ("system", "developer", "user", "assistant", "tool")
SYSTEM_ROLES = frozenset({"system", "developer"})


class Message(Value, frozen=True):
    """One message of a conversation.

    Attributes:
        role: "system", "developer", "user", "assistant" or "tool".
        content: Text, a list of parts, or None.
        fields: Other keys that go with it, such as "name".
    """

    role: str
    content: Any
    fields: Mapping[str, Any] = {}

    def to_dict(self) -> dict[str, Any]:
        """Return it as it goes on the wire, as a new dict."""
        return {"role": self.role, "content": self.content, **self.fields}


def instruction_text(instruction: Any, context: Any = None) -> str:
    """Return the text of the user message for *instruction*.

    A text alone goes out as it is, anything else as JSON; with a context both
    go out as `{"instruction": ..., "context": ...}`.

    Raises:
        ConfigError: *instruction* is empty or a list of messages, or one of
            them cannot be said in JSON (with the path of the culprit).
    """
    if context is None and type(instruction) is str and instruction.strip():
        return instruction
    _refuse_messages(instruction)
    said = _plain(instruction, "instruction")
    if _is_empty(said):
        msg = f"The instruction is empty: {shown(instruction)}. Say what the model shall do."
        raise ConfigError(msg)
    if context is not None:
        said = {"instruction": said, "context": _plain(context, "context")}
    return said if isinstance(said, str) else _json_text(said, "instruction")


def _is_empty(said: Any) -> bool:
    if isinstance(said, str):
        return not said.strip()
    return said is None or (isinstance(said, (dict, list)) and not said)


def _refuse_messages(instruction: Any) -> None:
    if isinstance(instruction, (list, tuple)) and any(map(_is_message, instruction)):
        msg = (
            "The instruction is a list of role/content messages: pass earlier messages as "
            "Session(messages=[...]), and the last user's text as the instruction."
        )
        raise ConfigError(msg)


def _is_message(item: Any) -> bool:
    if isinstance(item, Mapping):
        return "role" in item and "content" in item
    return isinstance(item, Message)


def system_message(system: Any) -> Message:
    """Return the system message that says *system*.

    Raises:
        ConfigError: *system* is empty, another kind of message, or cannot be
            said in JSON.
    """
    if type(system) is str and system.strip():
        return Message("system", system)
    if isinstance(system, Message) and system.role in SYSTEM_ROLES:
        return system
    if isinstance(system, (str, Mapping)):
        said = _plain(system, "system")
        if not _is_empty(said):
            text = said if isinstance(said, str) else _json_text(said, "system message")
            return Message("system", text)
    msg = f"system= takes a text, or a dict; got {shown(system)}. None = no system message."
    raise ConfigError(msg)


def messages_from(messages: Any) -> list[Message]:
    """Return *messages* as our own.

    Args:
        messages: `Message`s or role/content dicts.

    Raises:
        ConfigError: One has no known role, or no content that can be sent.
    """
    if isinstance(messages, (str, Mapping)) or not isinstance(messages, Sequence):
        msg = f"messages= takes a list of role/content dicts; got {type(messages).__name__}."
        raise ConfigError(msg)
    return [_message_from(item, index) for index, item in enumerate(messages)]


def _message_from(item: Any, index: int) -> Message:
    given = item.to_dict() if isinstance(item, Message) else item
    if isinstance(given, Mapping) and given.get("role") in ROLES and "content" in given:
        plain = _plain(given, f"messages[{index}]")
        role, content = plain.pop("role"), plain.pop("content")
        if content is None or isinstance(content, (str, list)):
            return Message(role, content, plain)
    msg = (
        f"messages[{index}] needs a role of {', '.join(ROLES)}, and a content that is text, "
        f"a list of parts or None; got {shown(given, 80)}."
    )
    raise ConfigError(msg)


def _plain(value: Any, name: str) -> Any:
    try:
        return jsontext.plain(value, name=name)
    except jsontext.JsonError as exc:
        msg = f"{exc}."
        raise ConfigError(msg) from exc


def _json_text(value: Any, name: str) -> str:
    try:
        return jsontext.encode(value).decode()
    except jsontext.JsonError as exc:
        msg = f"The {name} is not JSON: {exc}."
        raise ConfigError(msg) from exc
