"""Where a service's API key comes from.

Holds: the argument, the function or the environment variable, and the check
of what they give. Does not hold: what is done with the key. Safe to share
between threads.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lionlite.exceptions import ConfigError
from lionlite.service.secret import NO_SECRET, Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from lionlite.service.providers import Provider


class KeySource:
    """Gives the key at each need.

    Args:
        provider: Whose key it is.
        api_key: The key, a function that returns it, or None. An empty text
            is no key, and does not stand for the environment's: that may be
            meant for another host.
        key_scheme: The environment variable to read when *api_key* is None,
            and then it must be set; None = the provider's own, if it has one.

    Attributes:
        is_renewed: Whether a function gives the key.

    Raises:
        ConfigError: *api_key* or *key_scheme* is neither of these, or the key
            cannot go into a header.

    Threads: safe to share. A function is called in the calling thread, for
    every attempt: it may renew the key.
    """

    def __init__(
        self,
        provider: Provider,
        api_key: str | Callable[[], str] | None,
        key_scheme: str | None,
    ) -> None:
        self._provider = provider
        self._function = api_key if callable(api_key) else None
        self.is_renewed = self._function is not None
        is_text_given = api_key is not None and not self.is_renewed
        secret = _secret_of(api_key)
        # From here on no frame of a traceback holds the text itself.
        del api_key
        self._variable = _checked_variable(key_scheme) or provider.key_scheme
        self._needs_key = provider.needs_key or key_scheme is not None
        self._given = _checked(secret, "api_key=") if is_text_given else None

    def key(self) -> Secret:
        """Return the key; an empty one where none is needed.

        Raises:
            ConfigError: There is none, naming where it was looked for; or it
                cannot go into a header.
        """
        key = self._find() if self._given is None else self._given
        if key.is_empty and self._needs_key:
            raise self._missing()
        return key

    def _missing(self) -> ConfigError:
        if self._given is None:
            cure = (
                f"pass api_key=... or set {self._variable}. Looked in: argument, environment."
            )
        else:
            cure = f"api_key= is empty. Pass the key, or None to read {self._variable}."
        return ConfigError(f"No API key for {self._provider.name}: {cure}")

    def _find(self) -> Secret:
        if self._function is not None:
            return _checked(_secret_of(self._function()), "The result of api_key()")
        if self._variable is None:
            return NO_SECRET
        return _checked(_secret_of(os.environ.get(self._variable, "")), self._variable)


def _checked(secret: Secret | None, name: str) -> Secret:
    """Return *secret* if it can be a key; *name* is what it was given as."""
    if secret is None:
        msg = f"{name} is not a text: a key is a str."
        raise ConfigError(msg)
    if not secret.fits_in_header:
        msg = f"{name} has a blank, a line break or a non-ASCII letter inside: copy the key again."
        raise ConfigError(msg)
    return secret


def _secret_of(value: object) -> Secret | None:
    return Secret(value.strip()) if isinstance(value, str) else None


def _checked_variable(key_scheme: str | None) -> str | None:
    if key_scheme is None or (isinstance(key_scheme, str) and key_scheme.isidentifier()):
        return key_scheme
    # Not shown: a key may have been passed by mistake.
    msg = "key_scheme= takes the name of an environment variable, such as 'OPENAI_API_KEY'."
    raise ConfigError(msg)
