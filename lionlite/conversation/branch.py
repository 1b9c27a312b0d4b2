"""One line of conversation: its messages, its parameters, its turns.

Holds: `Branch`. Does not hold: several branches (session.py), how an
instruction becomes text (messages.py), or how it reaches a provider. Safe to
share between threads: one turn at a time, others wait.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Final

from lionlite import scope
from lionlite.arguments import keywords_checked
from lionlite.conversation.answer import answer_of, is_answer
from lionlite.conversation.messages import (
    SYSTEM_ROLES,
    Message,
    instruction_text,
    messages_from,
    system_message,
)
from lionlite.conversation.turns import TurnLock
from lionlite.display import shown
from lionlite.exceptions import ConfigError
from lionlite.records import Usage
from lionlite.service.service import Service
from lionlite.service.services import default_service
from lionlite.service.settings import IDLE_S, checked_timeout
from lionlite.unset import UNSET, UnsetType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from lionlite.service.reply import Reply
    from lionlite.service.stream import Stream

_NOTHING: Final = Usage()

# Arguments of `Service.send` that are no model parameters.
_NO_PARAMETERS = {
    "extra_body": "pass it to chat()",
    "extra_headers": "pass it to chat(), or headers= to the service",
    "idle_timeout": "pass it to stream()",
    "messages": "the messages are the session's: pass Session(messages=...)",
    "self": "no model knows it",
    "timeout": "pass it to chat(), or to the service",
}


class Branch:
    """One line of conversation.

    Args:
        system: The system message, a text or a dict; None = none.
        name: How a session finds it.
        model: Same as llmconfig={"model": model}.
        service: Whom it talks to; None = `default_service()` at each chat.
        llmconfig: Model parameters for all chats; copied, so that no other
            branch sees changes.
        messages: What was said before, as role/content dicts. A system
            message at its head is the system message, unless *system* replaces
            it; one further down stands where it stands.

    Attributes:
        llmconfig: The parameters, a plain dict to read and update. A value of
            None removes a key.

    Raises:
        ConfigError: An argument is wrong.

    Threads: safe to share; one turn at a time, others wait to their deadline.
    """

    @keywords_checked
    def __init__(
        self,
        system: Any = None,
        *,
        name: str = "main",
        model: str | None = None,
        service: Service | None = None,
        llmconfig: Mapping[str, Any] | None = None,
        messages: Sequence[Any] | None = None,
    ) -> None:
        self._name = checked_name(name)
        self._service = checked_service(service)
        self.llmconfig = checked_llmconfig(llmconfig)
        if model is not None:
            self.llmconfig["model"] = model
        self._system = None if system is None else system_message(system)
        self._messages = [] if messages is None else messages_from(messages)
        if self._messages and self._messages[0].role in SYSTEM_ROLES:
            head = self._messages.pop(0)
            self._system = self._system or head
        self._turns = TurnLock()
        self._last_reply: Reply | None = None
        self._usage = _NOTHING

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def service(self) -> Service:
        """Whom it talks to."""
        return self._service or default_service()

    @property
    def own_service(self) -> Service | None:
        """The service it was given, None if it uses the default one."""
        return self._service

    @property
    def system(self) -> Message | None:
        """The system message, None if there is none."""
        return self._system

    @property
    def messages(self) -> list[Message]:
        """What was said so far, in order, without the system message; a copy."""
        return list(self._messages)

    @property
    def last_reply(self) -> Reply | None:
        """The reply of the last turn, None before the first."""
        return self._last_reply

    @property
    def usage(self) -> Usage:
        """The tokens of all turns so far, as far as the provider told."""
        return self._usage

    def to_messages(self) -> list[dict[str, Any]]:
        """Return system message and messages as role/content dicts, as copies."""
        system = [] if self._system is None else [self._system]
        return [copy.deepcopy(message.to_dict()) for message in (*system, *self._messages)]

    def chat(
        self,
        instruction: Any,
        *,
        context: Any = None,
        system: Any = None,
        remember: bool = True,
        timeout: float | UnsetType | None = UNSET,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **llmconfig: Any,
    ) -> str:
        """Say *instruction* and return the answer.

        Args:
            instruction: A text, sent as it is, or any JSON value.
            context: Anything that JSON can say, numpy and the like included;
                goes with the instruction.
            system: Replaces the system message, from this turn on.
            remember: False = the history is read but not written, and no turn
                is taken: the way to map one session over many inputs.
            timeout: Total seconds, all waiting included; not given = the
                service's.
            extra_body: Keys for the request's body that are not checked.
            extra_headers: Headers for this call.
            **llmconfig: Model parameters for this call; None removes one.

        Returns:
            What the model said, never empty.

        Raises:
            ConfigError: An argument is wrong; nothing was sent.
            OutputError: It refused, or said nothing.
            LionError: See `Service.send`.

        A chat that raises leaves the history as it was.
        """
        reply = self.complete(
            instruction,
            context=context,
            system=system,
            remember=remember,
            timeout=timeout,
            extra_body=extra_body,
            extra_headers=extra_headers,
            **llmconfig,
        )
        return answer_of(reply)

    def complete(
        self,
        instruction: Any,
        *,
        context: Any = None,
        system: Any = None,
        remember: bool = True,
        timeout: float | UnsetType | None = UNSET,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **llmconfig: Any,
    ) -> Reply:
        """Say *instruction* and return the whole reply.

        As `chat`, but a refusal or an empty answer is returned, not raised;
        such a turn is not remembered.

        Raises:
            ConfigError: An argument is wrong; nothing was sent.
            LionError: See `Service.send`.
        """
        question = Message("user", instruction_text(instruction, context))
        new_system = None if system is None else system_message(system)
        service = self.service
        timeout_s = service.timeout_s if timeout is UNSET else checked_timeout(timeout)
        options = {
            **self._params(llmconfig),
            "timeout": timeout_s,
            "extra_body": extra_body,
            "extra_headers": extra_headers,
        }
        with _bounded(timeout_s), self._turns.turn() if remember else _ANYHOW:
            # Read inside the turn: the one before may have replaced it.
            said_first = new_system or self._system
            reply = service.send(self._wire(said_first, question), **options)
            if remember and is_answer(reply):
                self._record(said_first, question, reply)
        return reply

    def stream(
        self,
        instruction: Any,
        *,
        context: Any = None,
        system: Any = None,
        remember: bool = True,
        timeout: float | UnsetType | None = UNSET,
        idle_timeout: float | None = IDLE_S,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **llmconfig: Any,
    ) -> Stream:
        """Say *instruction* and return the answer as it is being written.

        Waits for its turn and the budget, sends, and checks the status; then
        returns. The turn lasts until the stream has ended or was closed. It is
        recorded when the answer is complete; a stream that was cut or left
        early leaves the history as it was.

        Args:
            instruction: As for `chat`.
            context: As for `chat`.
            system: As for `chat`.
            remember: As for `chat`.
            timeout: Total seconds, to the stream's last byte.
            idle_timeout: The longest silence of the provider, in seconds; None
                = the total alone counts.
            extra_body: As for `chat`.
            extra_headers: As for `chat`.
            **llmconfig: As for `chat`.

        Returns:
            An iterator of text, to be used in a `with`; `.reply` at its end.

        Raises:
            ConfigError: An argument is wrong; nothing was sent.
            LionError: See `Service.stream`; and while it is read, `Stream`.
        """
        question = Message("user", instruction_text(instruction, context))
        new_system = None if system is None else system_message(system)
        service = self.service
        timeout_s = service.timeout_s if timeout is UNSET else checked_timeout(timeout)
        options = {
            **self._params(llmconfig),
            "timeout": timeout_s,
            "idle_timeout": idle_timeout,
            "extra_body": extra_body,
            "extra_headers": extra_headers,
        }
        with ExitStack() as held, _bounded(timeout_s):
            turn = self._turns.turn() if remember else _ANYHOW
            held.enter_context(turn)
            said_first = new_system or self._system
            stream = service.stream(self._wire(said_first, question), **options)
            if remember:
                note = functools.partial(self._record_answer, said_first, question)
                # Not the stack's close: it forgets the turn before it gives it back.
                stream.when(complete=note, over=functools.partial(turn.__exit__, None, None, None))
            held.pop_all()
        return stream

    def _params(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the model parameters of one call."""
        # The attribute is the user's to fill: look at it each time.
        _check_names(self.llmconfig)
        _check_names(given)
        return {**self.llmconfig, **given}

    def _wire(self, system: Message | None, question: Message) -> list[dict[str, Any]]:
        # list() of a list is one step of the interpreter: no half of a turn.
        said = list(self._messages)
        said.append(question)
        if system is not None:
            said.insert(0, system)
        return [message.to_dict() for message in said]

    def _record_answer(self, system: Message | None, question: Message, reply: Reply) -> None:
        if is_answer(reply):
            self._record(system, question, reply)

    def _record(self, system: Message | None, question: Message, reply: Reply) -> None:
        """Keep question and answer, together."""
        self._system = system
        self._messages.extend((question, Message("assistant", reply.text)))
        self._last_reply = reply
        if reply.usage is not None:
            self._usage = reply.usage if self._usage is _NOTHING else self._usage + reply.usage


_ANYHOW: AbstractContextManager[Any] = nullcontext()


def _bounded(timeout_s: float | None) -> AbstractContextManager[Any]:
    return _ANYHOW if timeout_s is None else scope.deadline(timeout_s)


def checked_name(name: str) -> str:
    """Return *name* if it can name a branch.

    Raises:
        ConfigError: It is not a text, or empty.
    """
    if isinstance(name, str) and name.strip():
        return name
    msg = f"A branch's name is a text that is not empty; got {shown(name)}."
    raise ConfigError(msg)


def checked_service(service: Service | None) -> Service | None:
    """Return *service* if it is one, or None.

    Raises:
        ConfigError: It is something else.
    """
    if service is None or isinstance(service, Service):
        return service
    msg = (
        f"service= takes a Service, such as Services.OpenAI(); got {type(service).__name__}. "
        f"None = the default service."
    )
    raise ConfigError(msg)


def checked_llmconfig(llmconfig: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return *llmconfig* as a dict of its own.

    Raises:
        ConfigError: It is no mapping of names.
    """
    if llmconfig is None:
        return {}
    _check_names(llmconfig)
    try:
        return copy.deepcopy(dict(llmconfig)) if llmconfig else {}
    except TypeError as exc:
        msg = f"llmconfig= holds what cannot be copied, and so cannot be sent: {exc}."
        raise ConfigError(msg) from exc


def _check_names(llmconfig: Mapping[str, Any]) -> None:
    if type(llmconfig) is dict and not llmconfig:
        return
    if not isinstance(llmconfig, Mapping) or not all(isinstance(name, str) for name in llmconfig):
        got = shown(llmconfig)
        msg = f"llmconfig takes a dict of parameters such as {{'model': ...}}; got {got}."
        raise ConfigError(msg)
    for name, cure in _NO_PARAMETERS.items():
        if name in llmconfig:
            msg = f"llmconfig has no place for {name!r}: {cure}."
            raise ConfigError(msg)
