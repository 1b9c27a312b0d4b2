"""The providers by name: `Services.OpenAI()` and its like.

Holds: one name a provider, and the process's default service. Does not hold:
the arguments, which are those of `Service`, nor what the providers are like
(providers.py). Safe to share between threads.
"""

from __future__ import annotations

import functools
import inspect
import os
import threading
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from lionlite.exceptions import ConfigError
from lionlite.service import providers
from lionlite.service.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from lionlite.service.providers import Provider

P = ParamSpec("P")


def _made_for(
    provider: Provider, make: Callable[Concatenate[Provider, P], Service]
) -> Callable[P, Service]:
    """Return *make* for one provider, with every other argument in its signature."""

    @functools.wraps(make, assigned=(), updated=())
    def service(*args: P.args, **kwargs: P.kwargs) -> Service:
        try:
            return make(provider, *args, **kwargs)
        finally:
            # One of them may be an API key, and tracebacks may show locals.
            kwargs.clear()
            del args

    full = inspect.signature(make)
    service.__signature__ = full.replace(  # type: ignore[attr-defined]
        parameters=list(full.parameters.values())[1:]
    )
    key = f"key from {provider.key_scheme}" if provider.key_scheme else "no key unless given"
    service.__doc__ = (
        f"Return a service for {provider.name} ({provider.base_url or 'base_url= required'}; "
        f"{key}).\n\n    The arguments are those of `Service`, all by keyword."
    )
    del service.__wrapped__
    return service


class Services:
    """One maker of services a provider; see `Service` for the arguments.

    A service is made once and shared: all sessions that get the same service
    object share its budget.
    """

    OpenAI = staticmethod(_made_for(providers.OPENAI, Service))
    OpenRouter = staticmethod(_made_for(providers.OPENROUTER, Service))
    Groq = staticmethod(_made_for(providers.GROQ, Service))
    Mistral = staticmethod(_made_for(providers.MISTRAL, Service))
    DeepSeek = staticmethod(_made_for(providers.DEEPSEEK, Service))
    Ollama = staticmethod(_made_for(providers.OLLAMA, Service))
    Compatible = staticmethod(_made_for(providers.COMPATIBLE, Service))


_default: Service | None = None
# Guards _default: the first chat of two threads must get one service.
_default_lock = threading.RLock()


def _renew_after_fork() -> None:  # pragma: no cover - only in forked children
    """Forget a lock that a thread of the parent may hold."""
    global _default_lock  # noqa: PLW0603 - one a process
    _default_lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_renew_after_fork)


def default_service() -> Service:
    """Return the service of all sessions that were given none.

    Made at the first need: `Services.OpenAI()`, unless `set_default_service`
    was called before.

    Threads: safe anywhere.
    """
    global _default  # noqa: PLW0603 - one a process, as its name says
    with _default_lock:
        if _default is None:
            _default = Services.OpenAI()
        return _default


def set_default_service(service: Service | None) -> None:
    """Make *service* that of all sessions that were given none.

    Args:
        service: A service; None = forget the present one.

    Raises:
        ConfigError: *service* is not a service.

    Threads: safe anywhere; calls under way keep the service they have.
    """
    global _default  # noqa: PLW0603 - one a process, as its name says
    if service is not None and not isinstance(service, Service):
        msg = f"set_default_service() takes a Service or None; got {type(service).__name__}."
        raise ConfigError(msg)
    with _default_lock:
        _default = service
