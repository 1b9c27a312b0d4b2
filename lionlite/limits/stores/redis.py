"""Budgets in Redis, for the processes of many hosts.

Holds: `RedisStore`: one script for each trip; the one door to redis-py, which
is loaded at the first trip. Does not hold: what a verb does (script.py). Time
is the server's own, whatever the hosts' clocks do; a server's clock that steps
back stands still until it is past where it was. Safe to share between threads.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

from lionlite.limits.rates import is_requests
from lionlite.limits.stores.protocol import DIFFERS, LOST, Answer, Deed, Word, store_down
from lionlite.limits.stores.script import SCRIPT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lionlite.limits.stores.terms import Terms

PATIENCES_S: Final = (4.9, 2.4, 1.2, 0.6, 0.3, 0.15, 0.08)
"""How long a trip may take, by kinds of connection: redis-py fixes it for each.
Most trips use one kind, and those near their deadline another."""

KEY_PREFIX: Final = "lionlite:budget:"


class RedisStore:
    """Budgets in a Redis server of version 5 or later.

    Args:
        url: As `open_store` takes it, checked.
        where: The address without the password, for messages.
        clock: Microseconds instead of the server's own time; only for tests.

    Attributes:
        where: See above.

    Threads: safe to share. redis-py gives each trip a connection for itself; a
    forked child makes connections of its own.
    """

    def __init__(
        self, url: str, *, where: str, clock: Callable[[], int] | None = None
    ) -> None:
        self.where = where
        # In a function, so that no repr and no traceback shows the password.
        self._open: Callable[[float], Any] = lambda patience_s: _script(url, patience_s)
        self._clock = clock
        self._scripts: dict[float, Any] = {}
        self._pid = os.getpid()
        self._of_parent: list[dict[float, Any]] = []

    def trip(self, deed: Deed, within_s: float) -> Answer:
        """Run the script for *deed*; see `Store.trip`.

        Raises:
            BudgetError: The server cannot be reached, or refuses the script.
        """
        import redis  # noqa: PLC0415 - an optional package, loaded when needed

        until_s = time.monotonic() + within_s
        now = "" if self._clock is None else self._clock()
        words = " ".join(str(word) if word != "" else "-" for word in _words(deed, now))
        try:
            script = self._script_within(until_s)
            answer = script([KEY_PREFIX + deed.budget], [deed.terms.text, words])
        except (redis.RedisError, OSError) as exc:
            # The frames below hold the password.
            raise store_down(self.where, str(exc) or type(exc).__name__) from (
                exc.with_traceback(None)
            )
        except BaseException:
            # Mostly what a signal's handler raised: nobody may take the answer to
            # this trip for the answer to his.
            self.close()
            raise
        return _answer(answer.decode())

    def close(self) -> None:
        """Close what is idle; a later trip opens anew."""
        for script in list(self._scripts.values()):
            # Not the client's close(): it would cut other threads' trips.
            script.registered_client.connection_pool.disconnect(inuse_connections=False)

    def __repr__(self) -> str:
        return f"<RedisStore {self.where}>"

    def _script_within(self, until_s: float) -> Any:
        if self._pid != os.getpid():  # pragma: no cover - only in forked children
            # Kept, so that nothing closes what the parent uses.
            self._of_parent.append(self._scripts)
            self._scripts, self._pid = {}, os.getpid()
        left_s = until_s - time.monotonic()
        patience_s = next((one for one in PATIENCES_S if one <= left_s), PATIENCES_S[-1])
        if patience_s not in self._scripts:
            # Two threads may make one each: the second is kept, both work.
            self._scripts[patience_s] = self._open(patience_s)
        return self._scripts[patience_s]


def _script(url: str, patience_s: float) -> Any:
    """Return the script, bound to connections that answer in time or break."""
    import redis  # noqa: PLC0415 - an optional package, loaded when needed
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    # No retries: a trip that may have been made is made again only by those who
    # know what that means.
    client = redis.Redis.from_url(
        url,
        socket_timeout=patience_s,
        socket_connect_timeout=patience_s,
        retry=Retry(NoBackoff(), 0),
        max_connections=100_000,
    )
    # It loads the script again where the server has forgotten it.
    return client.register_script(SCRIPT)


def _words(deed: Deed, now: Word) -> Iterator[Word]:
    """Yield what the script reads, in its order."""
    yield from (deed.verb, now, deed.epoch, deed.version)
    if deed.verb == "enter":
        yield from _terms(deed.terms)
    for arg in deed.args:
        if isinstance(arg, tuple):
            yield from arg
        else:
            yield arg


def _terms(terms: Terms) -> Iterator[Word]:
    yield from (terms.charge, terms.guard_us, len(terms.rates))
    for rate in terms.rates:
        yield from (rate.limit, rate.interval_us, rate.width_us)
        yield from (int(rate.is_on_arrival), int(is_requests(rate.dimension)))


def _answer(text: str) -> Answer:
    status, _, rest = text.partition(" ")
    if status in {LOST, DIFFERS}:
        return [status, rest]
    epoch, *numbers = rest.split(" ")
    return [status, epoch, *map(int, numbers)]
