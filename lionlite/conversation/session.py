"""A conversation with a model, in one branch or several.

Holds: `Session`. Does not hold: what a branch does (branch.py). Safe to share
between threads.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

from lionlite.arguments import keywords_checked, nearest
from lionlite.conversation.branch import Branch, checked_llmconfig
from lionlite.conversation.messages import SYSTEM_ROLES, messages_from
from lionlite.display import once_made, shown
from lionlite.exceptions import ConfigError
from lionlite.service.settings import IDLE_S
from lionlite.unset import UNSET, UnsetType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lionlite.conversation.messages import Message
    from lionlite.records import Usage
    from lionlite.service.reply import Reply
    from lionlite.service.service import Service
    from lionlite.service.stream import Stream


class Session:
    """A conversation with a model; blocking, cheap to make, safe to share.

    Args:
        system: The system message, a text or a dict; None = none.
        model: Same as llmconfig={"model": model}.
        service: Whom it talks to, shared with other sessions to share its
            budget; None = `default_service()`.
        llmconfig: Model parameters for all chats; copied.
        messages: What was said before, as role/content dicts; a system message
            at its head is the system message, unless *system* replaces it.

    Raises:
        ConfigError: An argument is wrong.

    Threads: safe to share; each branch takes one turn at a time.
    """

    @keywords_checked
    def __init__(
        self,
        system: Any = None,
        *,
        model: str | None = None,
        service: Service | None = None,
        llmconfig: Mapping[str, Any] | None = None,
        messages: Sequence[Any] | None = None,
    ) -> None:
        first = Branch(system, model=model, service=service, llmconfig=llmconfig, messages=messages)
        self._default = first
        self._branches = {first.name: first}
        # For names; next() of it is one step of the interpreter.
        self._numbers = itertools.count(2)
        # Guards _default, and that it is never deleted.
        self._lock = threading.Lock()

    @property
    def default_branch(self) -> Branch:
        """The branch that is meant where none is named."""
        return self._default

    @property
    def branches(self) -> dict[str, Branch]:
        """All branches by name; a copy."""
        return dict(self._branches)

    @property
    def llmconfig(self) -> dict[str, Any]:
        """The default branch's parameters, to read and update."""
        return self._default.llmconfig

    @property
    def messages(self) -> list[Message]:
        """What was said in the default branch; a copy."""
        return self._default.messages

    @property
    def last_reply(self) -> Reply | None:
        """The default branch's last reply, None before the first turn."""
        return self._default.last_reply

    @property
    def usage(self) -> Usage:
        """The tokens of all turns of the default branch."""
        return self._default.usage

    def to_messages(self) -> list[dict[str, Any]]:
        """Return the default branch as role/content dicts, as copies."""
        return self._default.to_messages()

    def chat(
        self,
        instruction: Any,
        *,
        context: Any = None,
        branch: str | Branch | None = None,
        system: Any = None,
        remember: bool = True,
        timeout: float | UnsetType | None = UNSET,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **llmconfig: Any,
    ) -> str:
        """Say *instruction* in *branch* and return the answer; see `Branch.chat`.

        Args:
            instruction: A text, sent as it is, or any JSON value.
            context: Anything that JSON can say; goes with the instruction.
            branch: A branch or its name; None = the default branch.
            system: Replaces the branch's system message, from this turn on.
            remember: False = read the history, write none, take no turn.
            timeout: Total seconds, all waiting included.
            extra_body: Keys for the request's body that are not checked.
            extra_headers: Headers for this call.
            **llmconfig: Model parameters for this call; None removes one.

        Raises:
            ConfigError: An argument is wrong; nothing was sent.
            OutputError: The model refused, or said nothing.
            LionError: See `Service.send`.
        """
        return (self._default if branch is None else self.get_branch(branch)).chat(
            instruction,
            context=context,
            system=system,
            remember=remember,
            timeout=timeout,
            extra_body=extra_body,
            extra_headers=extra_headers,
            **llmconfig,
        )

    def complete(
        self,
        instruction: Any,
        *,
        context: Any = None,
        branch: str | Branch | None = None,
        system: Any = None,
        remember: bool = True,
        timeout: float | UnsetType | None = UNSET,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **llmconfig: Any,
    ) -> Reply:
        """Say *instruction* in *branch* and return the whole reply; see `Branch.complete`.

        Arguments and errors are those of `chat`, but a refusal or an empty
        answer is returned, and not remembered.

        Raises:
            ConfigError: An argument is wrong; nothing was sent.
            LionError: See `Service.send`.
        """
        return self.get_branch(branch).complete(
            instruction,
            context=context,
            system=system,
            remember=remember,
            timeout=timeout,
            extra_body=extra_body,
            extra_headers=extra_headers,
            **llmconfig,
        )

    def stream(
        self,
        instruction: Any,
        *,
        context: Any = None,
        branch: str | Branch | None = None,
        system: Any = None,
        remember: bool = True,
        timeout: float | UnsetType | None = UNSET,
        idle_timeout: float | None = IDLE_S,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **llmconfig: Any,
    ) -> Stream:
        """Say *instruction* in *branch*; the answer as it is written; see `Branch.stream`.

        Arguments are those of `chat`, and *idle_timeout*: the longest silence
        of the provider, in seconds; None = *timeout* alone counts.

        Raises:
            ConfigError: An argument is wrong; nothing was sent.
            LionError: See `Service.stream`; and while it is read, `Stream`.
        """
        return self.get_branch(branch).stream(
            instruction,
            context=context,
            system=system,
            remember=remember,
            timeout=timeout,
            idle_timeout=idle_timeout,
            extra_body=extra_body,
            extra_headers=extra_headers,
            **llmconfig,
        )

    @keywords_checked
    def new_branch(
        self,
        name: str | None = None,
        *,
        system: Any = None,
        model: str | None = None,
        service: Service | None = None,
        llmconfig: Mapping[str, Any] | None = None,
        messages: Sequence[Any] | None = None,
    ) -> Branch:
        """Add a branch and return it.

        What is not given comes from the default branch as it is now: system
        message, service and llmconfig; but not its messages.

        Args:
            name: None = "branch-2", "branch-3" and so on.
            system: As for `Session`.
            model: As for `Session`.
            service: As for `Session`.
            llmconfig: Added to the default branch's parameters.
            messages: What was said before; to fork, `session.to_messages()`.

        Raises:
            ConfigError: There is a branch of that name, or an argument is wrong.

        Threads: safe anywhere.
        """
        parent = self._default
        said = None if messages is None else messages_from(messages)
        if system is None and not (said and said[0].role in SYSTEM_ROLES):
            system = parent.system
        branch = Branch(
            system,
            name=self._free_name() if name is None else name,
            model=model,
            service=parent.own_service if service is None else service,
            llmconfig={**parent.llmconfig, **checked_llmconfig(llmconfig)},
            messages=said,
        )
        # setdefault is one step of the interpreter: of two threads one wins.
        if self._branches.setdefault(branch.name, branch) is not branch:
            msg = f"There is a branch {branch.name!r} already: choose another name."
            raise ConfigError(msg)
        return branch

    def get_branch(self, branch: str | Branch | None = None) -> Branch:
        """Return the branch of that name; None = the default branch.

        Raises:
            ConfigError: This session has no such branch.
        """
        if branch is None:
            return self._default
        name = branch.name if isinstance(branch, Branch) else branch
        found = self._branches.get(name) if isinstance(name, str) else None
        if found is None:
            # A copy: another thread may add one while it is read.
            hint = nearest(shown(name), list(self._branches))
            msg = f"This session has no branch {shown(name)}: {hint}"
            raise ConfigError(msg)
        if isinstance(branch, Branch) and found is not branch:
            what = f"The branch {shown(name)}"
            msg = f"{what} is not this session's: it was deleted, or is another's."
            raise ConfigError(msg)
        return found

    def change_default_branch(self, branch: str | Branch) -> None:
        """Make *branch* the one that is meant where none is named.

        Raises:
            ConfigError: This session has no such branch.
        """
        with self._lock:
            self._default = self.get_branch(branch)

    def delete_branch(self, branch: str | Branch) -> None:
        """Forget *branch*; chats under way in it still end.

        Raises:
            ConfigError: There is no such branch, or it is the default one.
        """
        with self._lock:
            found = self.get_branch(branch)
            if found is self._default:
                msg = (
                    f"{found.name!r} is the default branch: call change_default_branch() "
                    f"before deleting it."
                )
                raise ConfigError(msg)
            del self._branches[found.name]

    @once_made
    def __repr__(self) -> str:
        return f"<Session of {len(self._branches)} branches, {len(self.messages)} messages>"

    def _free_name(self) -> str:
        return next(
            name for number in self._numbers if (name := f"branch-{number}") not in self._branches
        )
