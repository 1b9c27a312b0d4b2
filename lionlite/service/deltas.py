"""The pieces of one choice of a stream, put together to a message.

Holds: the merging of deltas, tool calls among them, into what a reply without
stream would hold. Does not hold: events (sse.py), chunks and their errors
(chunks.py), or what the message means (reply.py). One assembler belongs to one
stream of one thread.

Source: OpenAI's OpenAPI description; for calls without index, with one index
for all, with a repeated id or name: recorded streams and issues of Gemini,
Ollama, LiteLLM and vLLM.
"""

from __future__ import annotations

from typing import Any, Final

from lionlite import jsontext
from lionlite.service.reply import text_of

_JOINED: Final = frozenset({"reasoning", "reasoning_content", "refusal"})
"""Texts that come in pieces; of any other key the last value stands."""

_PLACES: Final = frozenset({"delta", "error", "finish_reason", "index", "message", "usage"})


class Choice:
    """One choice, as far as it has come.

    Attributes:
        finish_reason: Why it ended, None while it has not.
        pieces: Its text, in pieces.
    """

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.pieces: list[str] = []
        self._parts: list[Any] | None = None  # the content, where it comes as parts
        self._parts_from = 0  # the pieces before it are in the parts
        self._joined: dict[str, list[str]] = {}
        self._rest: dict[str, Any] = {"role": "assistant"}
        self._beside: dict[str, Any] = {}
        self._calls = ToolCalls()
        self._function = Function()

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self.pieces)

    def take(self, delta: dict[str, Any]) -> str:
        """Take a delta in; return the text that it adds, "" if none.

        Raises:
            NoAnswerError: Its content is neither text nor parts.
        """
        text = ""
        for key, value in delta.items():
            if value is None:
                continue
            if key == "content":
                text = self._content(value)
            elif key == "tool_calls":
                self._calls.take(value)
            elif key == "function_call":
                self._function.take(value)
            elif key in _JOINED and isinstance(value, str):
                self._joined.setdefault(key, []).append(value)
            else:
                _merge(self._rest, key, value)
        return text

    def end(self, choice: dict[str, Any]) -> None:
        """Take in what stands beside the delta: why it ended, and what is rare."""
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self.finish_reason = reason
        for key, value in choice.items():
            if key not in _PLACES:
                _merge(self._beside, key, value)

    def whole(self, index: int) -> dict[str, Any]:
        """Return the choice as a reply without stream has it."""
        return {
            **self._beside,
            "index": index,
            "message": self._message(),
            "finish_reason": self.finish_reason,
        }

    def _message(self) -> dict[str, Any]:
        calls = self._calls.whole()
        message = {**self._rest, "content": self._whole_content(has_calls=bool(calls))}
        message.update((key, "".join(pieces)) for key, pieces in self._joined.items())
        if calls:
            message["tool_calls"] = calls
        if self._function.has_begun:
            message["function_call"] = self._function.whole()
        return message

    def _content(self, value: Any) -> str:
        text = text_of(value)
        if isinstance(value, list):
            self._parts = self._parts_so_far()
            self._parts += value
            self._parts_from = len(self.pieces) + bool(text)
        if text:
            self.pieces.append(text)
        return text

    def _parts_so_far(self) -> list[Any]:
        """Return the content as parts, with the text since the last list as one more."""
        parts = [] if self._parts is None else self._parts
        later = "".join(self.pieces[self._parts_from :])
        if later:
            parts.append({"type": "text", "text": later})
            self._parts_from = len(self.pieces)
        return parts

    def _whole_content(self, *, has_calls: bool) -> Any:
        if self._parts is not None:
            return self._parts_so_far()
        # As providers say it: null beside tool calls, a text otherwise.
        return self.text or (None if has_calls else "")


class Function:
    """The function of a tool call, as far as it has come.

    Args:
        text_key: The key of the text that comes in pieces.
    """

    def __init__(self, text_key: str = "arguments") -> None:
        self._text_key = text_key
        self._name = ""
        self._pieces: list[str] = []
        self._rest: dict[str, Any] = {}

    @property
    def has_begun(self) -> bool:
        """Whether anything of it came."""
        return bool(self._name or self._pieces or self._rest)

    @property
    def has_name(self) -> bool:
        """Whether its name has begun to come."""
        return bool(self._name)

    @property
    def is_complete(self) -> bool:
        """Whether its arguments are whole: more of them would be no JSON."""
        if not self._pieces or not self._pieces[-1].rstrip().endswith("}"):
            return False
        try:
            jsontext.decode("".join(self._pieces))
        except jsontext.JsonError:
            return False
        return True

    def take(self, part: Any) -> None:
        """Take a piece in; what is no dict is nothing."""
        if not isinstance(part, dict):
            return
        name = part.get("name")
        if isinstance(name, str) and name != self._name and not self._pieces:
            # Some servers repeat the name in every piece, some cut it.
            self._name += name
        for key, value in part.items():
            if key == self._text_key:
                self._take_text(value)
            elif key != "name":
                _merge(self._rest, key, value)

    def whole(self) -> dict[str, Any]:
        """Return it as a reply without stream has it."""
        return {**self._rest, "name": self._name, self._text_key: "".join(self._pieces)}

    def _take_text(self, value: Any) -> None:
        if isinstance(value, dict):
            # Ollama's own form: the arguments themselves, whole.
            value = jsontext.encode(value).decode()
        if isinstance(value, str) and value:
            self._pieces.append(value)


class ToolCalls:
    """The tool calls of one message, as far as they have come."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}

    def take(self, parts: Any) -> None:
        """Take pieces in; what is no list of dicts is nothing."""
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict):
                self._call_of(part).take(part)

    def whole(self) -> list[dict[str, Any]]:
        """Return them in the order in which they began."""
        # Snowflake sends empty ones beside a text.
        return [call.whole() for call in self._calls if call.has_begun]

    def _call_of(self, part: dict[str, Any]) -> _Call:
        """Return the call that *part* belongs to, a new one if it begins one."""
        index, name_of_call = part.get("index"), part.get("id")
        id_ = name_of_call if isinstance(name_of_call, str) else ""
        has_name = _has(part, "name")
        call = self._known(index, id_, has_name=has_name)
        if call is None or call.is_over_before(
            id_, has_name=has_name, has_arguments=_has(part, "arguments")
        ):
            call = _Call(id_)
            self._calls.append(call)
        if isinstance(index, int):
            self._by_index[index] = call
        if id_:
            self._by_id[id_] = call
        return call

    def _known(self, index: Any, id_: str, *, has_name: bool) -> _Call | None:
        if isinstance(index, int):
            return self._by_index.get(index)
        if id_ in self._by_id:
            return self._by_id[id_]
        last = self._calls[-1] if self._calls else None
        # Without an index, a name is what begins a call.
        return None if last is None or (has_name and last.function.has_name) else last


class _Call:
    """One tool call."""

    def __init__(self, id_: str) -> None:
        self._id = id_
        self._rest: dict[str, Any] = {"type": "function"}
        self.function = Function()
        self._custom = Function("input")

    @property
    def has_begun(self) -> bool:
        """Whether anything of it came."""
        return bool(self._id) or self.function.has_begun or self._custom.has_begun

    def is_over_before(self, id_: str, *, has_name: bool, has_arguments: bool) -> bool:
        """Whether a piece with that id, at the same index, begins another call."""
        if id_ and self._id and id_ != self._id:
            # LiteLLM counts all calls as index 0; others give every piece a new id.
            return has_name or not has_arguments
        return has_name and has_arguments and self.function.is_complete

    def take(self, part: dict[str, Any]) -> None:
        for key, value in part.items():
            if key == "function":
                self.function.take(value)
            elif key == "custom":
                self._custom.take(value)
            elif key == "id":
                self._id = self._id or (value if isinstance(value, str) else "")
            elif key != "index" and value != "":
                _merge(self._rest, key, value)

    def whole(self) -> dict[str, Any]:
        call = {"id": self._id, **self._rest}
        if self._custom.has_begun:
            return {**call, "custom": self._custom.whole()}
        return {**call, "function": self.function.whole()}


def _has(part: dict[str, Any], key: str) -> bool:
    function = part.get("function")
    return bool(function.get(key)) if isinstance(function, dict) else False


def _merge(whole: dict[str, Any], key: str, value: Any) -> None:
    """Put *value* under *key*: lists grow, dicts merge, of the rest the last stands."""
    before = whole.get(key)
    if isinstance(before, list) and isinstance(value, list):
        # In place: what was decoded is ours, and a copy at every piece is quadratic.
        before += value
    elif isinstance(before, dict) and isinstance(value, dict):
        for inner, its_value in value.items():
            _merge(before, inner, its_value)
    elif value is not None:
        whole[key] = value
