"""A provider with one budget, one key and its connections, shared by sessions.

The way of one call: check and estimate, reserve, send, read, settle, record;
a retry goes back to reserve. Does not hold: conversations, what a provider is
like (providers.py), the protocol (wire.py), sockets (transport/). Safe to
share between threads; after a fork each process has the budget for itself.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn, Self

from lionlite import scope
from lionlite.arguments import keywords_checked
from lionlite.display import once_made
from lionlite.exceptions import ConfigError
from lionlite.service.address import (
    CHAT_PATH,
    Heads,
    checked_headers,
    merged,
    parse_base_url,
    refuse_key_in_clear,
)
from lionlite.service.budgets import BudgetArguments, budget_for
from lionlite.service.delivery import Delivery
from lionlite.service.estimate import Estimator
from lionlite.service.keys import KeySource
from lionlite.service.neighbours import forget, warn_of_second
from lionlite.service.request import build_request
from lionlite.service.retry import RetryPolicy
from lionlite.service.retry_budget import RetryBudget
from lionlite.service.secret import Secret
from lionlite.service.settings import (
    IDLE_S,
    checked_flag,
    checked_idle_timeout,
    checked_retries,
    checked_timeout,
    chosen_base_url,
    env_headers,
)
from lionlite.service.totals import Stats, Totals
from lionlite.service.transport.way import way_to
from lionlite.tokens import checked_encoding_name
from lionlite.unset import UNSET, UnsetType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from lionlite.service.address import Address
    from lionlite.service.providers import Provider
    from lionlite.service.reply import Reply
    from lionlite.service.request import Request
    from lionlite.service.stream import Stream
    from lionlite.service.transport.way import Way


class Service:
    """A provider, ready to be shared by any number of sessions and threads.

    Made by `Services.OpenAI()` and its like. Nothing is opened, read from disk
    or started before the first call.

    Args:
        provider: What the provider is like.
        model: The model for calls that name none; None = the provider's default,
            where it has one.
        api_key: The key, or a function that returns it for each request; None
            = read the environment variable *key_scheme* at the first call.
        key_scheme: The variable's name; None = the provider's own.
        base_url: Where the provider is; None = its own address.
        token_encoding_name: tiktoken encoding to count with, or "estimate";
            None = chosen by model.
        max_tokens: Budget of all calls together: tokens per *interval*; None
            = no limit. (The cap on one answer is llmconfig={"max_tokens": n}.)
        max_requests: Budget of all calls together: requests per *interval*;
            None = no limit.
        interval: What *max_tokens* and *max_requests* count in, in seconds.
        limits: Several budgets at once, such as {"requests": ["10/second",
            "500/minute"], "tokens": "90_000/minute"}; instead of the two above.
        store: Where the budget is kept to be shared: "sqlite:///file.db" by the
            processes of this machine, "redis://host:6379/0" by hosts; None =
            each process has a budget of its own.
        budget: Its name in the store; None = of the provider and its host.
        on_store_down: "raise" a BudgetError, or go on with a "share" of the
            limits until the store answers again.
        timeout: Total seconds from a call to its last byte, all waiting
            included. Not given: 600 s for each exchange, and the wait for the
            budget is bounded only by `deadline()`. None = likewise.
        max_retries: More attempts after a failed one; waiting for the budget
            and 429s do not use them up; 0 = none at all.
        max_concurrency: Calls in flight at once; None = no limit.
        headers: Sent with every request.
        charge: How the provider charges its token limit: "estimate", "adjust"
            or "usage"; None = as known of the provider.
        proxy: The URL of a proxy, "http://user:password@host:3128", https:// or
            socks5:// (the extra `socks`); None = what HTTPS_PROXY, ALL_PROXY and NO_PROXY
            say, for https:// only.
        http_client: An `httpx.Client` to send with, of httpx or its successor
            httpx2. Best effort: the deadline bounds each of its waits and not
            their sum, and a cancel is noticed between pieces.
        allow_http: Send a key over http:// to a public host.

    Raises:
        ConfigError: An argument is wrong; a missing key shows at the first call.

    Threads: safe to share.
    """

    @keywords_checked
    def __init__(
        self,
        provider: Provider,
        /,
        *,
        model: str | None = None,
        api_key: str | Callable[[], str] | None = None,
        key_scheme: str | None = None,
        base_url: str | None = None,
        token_encoding_name: str | None = None,
        max_tokens: int | UnsetType | None = UNSET,
        max_requests: int | UnsetType | None = UNSET,
        interval: float = 60,
        limits: Mapping[str, Any] | None = None,
        store: str | None = None,
        budget: str | None = None,
        on_store_down: str = "raise",
        timeout: float | UnsetType | None = UNSET,
        max_retries: int = 2,
        max_concurrency: int | None = None,
        headers: Mapping[str, str] | None = None,
        charge: str | None = None,
        proxy: str | None = None,
        http_client: object | None = None,
        allow_http: bool = False,
    ) -> None:
        try:
            keys = KeySource(provider, api_key, key_scheme)
            # Either may hold a password.
            hidden_proxy = None if proxy is None else Secret(proxy)
            hidden_store = None if store is None else Secret(store)
        finally:
            # No frame of a traceback may show them.
            del api_key, proxy, store
        self._provider = provider
        self._model = provider.default_model if model is None else model
        self._timeout_s = checked_timeout(timeout)
        self._address = parse_base_url(chosen_base_url(provider, base_url))
        self._allow_http = checked_flag(allow_http, name="allow_http=")
        origin = self._address.origin
        # In the order of its attributes, that of the signature as far as it goes.
        asked = BudgetArguments(
            *(max_requests, max_tokens, interval, limits, charge, max_concurrency),
            *(hidden_store, budget, on_store_down),
        )
        self._delivery = _delivery(
            provider,
            self._address,
            keys,
            asked,
            headers=checked_headers(headers, name="headers"),
            encoding_name=checked_encoding_name(token_encoding_name),
            policy=RetryPolicy(max_retries=checked_retries(max_retries)),
            way=way_to(origin, proxy=hidden_proxy, http_client=http_client, env=os.environ),
        )
        # The last one is that of new calls. No lock: a fork would copy it held.
        self._tokens = deque([scope.CancelToken()])
        # Whether the key may go there, as the first call finds out, and whether others
        # of its account are to be warned of: with a store, they are what it is for.
        self._is_known, self._is_alone = False, hidden_store is None

    @property
    def provider_name(self) -> str:
        """The provider's name."""
        return self._provider.name

    @property
    def base_url(self) -> str:
        """Where the provider is, up to the chat-completions path."""
        scheme = "https" if self._address.origin.is_tls else "http"
        path = self._address.path.removesuffix(CHAT_PATH)
        return f"{scheme}://{self._address.host_header}{path}"

    @property
    def timeout_s(self) -> float | None:
        """Total seconds of a call, None when only scopes and exchanges bound it."""
        return self._timeout_s

    def send(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        timeout: float | UnsetType | None = UNSET,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> Reply:
        """Send *messages* and return the reply, after retries and waiting.

        Args:
            messages: Role/content dicts, at least one.
            timeout: As for the service, for this call; not given = the service's.
            extra_body: Keys for the request's body that are not checked.
            extra_headers: Headers for this call.
            **params: Model parameters (temperature=..., max_tokens=...); None
                leaves one out.

        Returns:
            The reply, whatever it says: a refusal too.

        Raises:
            ConfigError: An argument is wrong; nothing was sent.
            BudgetError: The budget cannot grant it, or not before the deadline.
            DeadlineExceeded: The deadline passed.
            ServiceError: The provider, or the way to it, failed.
            Cancelled: The scope was cancelled, or the service.

        Threads: blocks the calling thread only.
        """
        request = self._request(messages, params, extra_body, extra_headers, is_stream=False)
        timeout_s = self._timeout_s if timeout is UNSET else checked_timeout(timeout)
        return self._delivery.deliver(request, timeout_s=timeout_s, token=self._tokens[-1])

    def stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        timeout: float | UnsetType | None = UNSET,
        idle_timeout: float | None = IDLE_S,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> Stream:
        """Send *messages* and return the answer as it is being written.

        Waits for the budget, sends, and checks the status, with retries as
        `send`; then returns. From the first text on nothing is sent again.

        Args:
            messages: As for `send`.
            timeout: Total seconds, from the call to the last byte of the
                stream; not given = the service's.
            idle_timeout: The longest silence of the provider, in seconds, once
                it has the request; None = the total alone counts.
            extra_body: Keys for the request's body that are not checked;
                {"stream_options": None} for a server that refuses that key.
            extra_headers: Headers for this call.
            **params: Model parameters, as for `send`.

        Returns:
            An iterator of text, to be used in a `with`; its `.reply` is the
            whole reply at the end.

        Raises:
            LionError: As `send`. Reading may raise what `Stream` says.

        Threads: blocks the calling thread only; one thread at a time reads.
        """
        request = self._request(messages, params, extra_body, extra_headers, is_stream=True)
        return self._delivery.stream(
            request,
            timeout_s=self._timeout_s if timeout is UNSET else checked_timeout(timeout),
            idle_s=checked_idle_timeout(idle_timeout),
            token=self._tokens[-1],
        )

    def stats(self) -> Stats:
        """Return what the service has done so far, and what its budget is doing."""
        return self._delivery.totals.stats(self._delivery.limiter.stats())

    def cancel(self) -> None:
        """End all calls under way with `Cancelled`; later calls are not affected.

        Threads: safe anywhere.
        """
        own = scope.CancelToken()
        self._tokens.append(own)
        for token in itertools.takewhile(lambda token: token is not own, list(self._tokens)):
            token.cancel()
            # Only now: Ctrl-C may have cut it short, and the next call goes on.
            with contextlib.suppress(ValueError):
                self._tokens.remove(token)

    def close(self) -> None:
        """End all calls under way and give everything back; later calls raise.

        Calls that wait for the budget end with `BudgetClosed`, others with
        `Cancelled`. A second call does nothing.
        """
        self._delivery.limiter.close()
        self.cancel()
        self._delivery.connections.close()
        forget(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @once_made
    def __repr__(self) -> str:
        return f"<Service {self._provider.name} at {self.base_url}>"

    def __reduce__(self) -> NoReturn:
        msg = (
            "A Service does not pickle: its budget counts for one process, and its key stays "
            "there. Make the service in the process that uses it; store='sqlite:///budget.db' "
            "shares one budget between them."
        )
        raise ConfigError(msg)

    def _request(
        self,
        messages: Sequence[Mapping[str, Any]],
        params: Mapping[str, Any],
        extra_body: Mapping[str, Any] | None,
        extra_headers: Mapping[str, str] | None,
        *,
        is_stream: bool,
    ) -> Request:
        """Return the request; all that can be wrong with a call is found here."""
        request = build_request(
            self._provider,
            messages,
            {"model": self._model, **params},
            extra_body=extra_body,
            headers=(
                {}
                if extra_headers is None
                else checked_headers(extra_headers, name="extra_headers")
            ),
            is_stream=is_stream,
        )
        self._check_key()
        return request

    def _check_key(self) -> None:
        """Raise if there is no key, or no safe way for it: before the budget is asked."""
        keys = self._delivery.keys
        if self._is_known and keys.is_renewed:
            # Only the first call asks a function once more than it sends.
            return
        key = keys.key()
        if not key.is_empty and not self._is_known:
            refuse_key_in_clear(self._address, allow_http=self._allow_http)
            self._is_known = True
            if self._is_alone:
                warn_of_second(self, host=self._address.host_header, key=key)


def _delivery(
    provider: Provider,
    address: Address,
    keys: KeySource,
    asked: BudgetArguments,
    *,
    headers: Mapping[str, str],
    encoding_name: str | None,
    policy: RetryPolicy,
    way: Way,
) -> Delivery:
    """Return the parts of a service, put together; all arguments are checked."""
    kept = budget_for(provider, asked, host=address.host_header)
    return Delivery(
        provider=provider,
        where=address.host_header + address.path,
        keys=keys,
        heads=Heads(address, merged(env_headers(provider), headers)),
        connections=way,
        limiter=kept.limiter,
        estimator=Estimator(
            encoding_name=encoding_name or provider.encoding_name,
            may_download=not address.is_local,
            is_charged_used=kept.is_charged_used,
        ),
        lessons=kept.lessons,
        policy=policy,
        retry_budget=RetryBudget(),
        totals=Totals(),
    )
