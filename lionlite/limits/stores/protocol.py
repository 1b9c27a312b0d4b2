"""What a store is: one trip for one verb, all rates in one atomic step.

Holds: `Store`, `Deed` and the errors of a store that is down. Does not hold:
any store. A deed is a frozen value, so safe to share between threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import attrs

from lionlite.exceptions import BudgetError

if TYPE_CHECKING:
    from lionlite.limits.stores.terms import Terms

Word: TypeAlias = int | str
Answer: TypeAlias = list[Word]
"""Status, epoch, version, wait, free in, holders, and the units used of each rate;
of a status LOST or DIFFERS only what follows it here."""

LOST: Final = "lost"
"""The store no longer knows the epoch or the version: enter again."""

DIFFERS: Final = "differs"
"""The budget has other terms; their words follow."""

USED_FROM: Final = 6
"""Where in an answer the units used begin."""


@attrs.frozen
class Deed:
    """One verb on one budget.

    Attributes:
        budget: The budget's name.
        terms: What it is like.
        epoch: The epoch that the member is in, "" if in none.
        version: The last version that it saw.
        verb: The name of a method of `Book`.
        args: Its arguments; sequences have a number for each rate.
    """

    budget: str
    terms: Terms
    epoch: str
    version: int
    verb: str
    args: tuple[Word | tuple[int, ...], ...]


class Store(Protocol):
    """Where budgets are kept that many processes share.

    Attributes:
        where: What it is called in messages; never holds a password.
    """

    where: str

    def trip(self, deed: Deed, within_s: float) -> Answer:
        """Do *deed* in one atomic step.

        Args:
            deed: What to do.
            within_s: Seconds it may take, > 0.

        Raises:
            BudgetError: The store is down, busy for too long, or broken;
                whether the deed was done is then not known.

        Threads: any; blocks for *within_s* at most.
        """

    def close(self) -> None:
        """Close what is open and idle; a later trip opens anew."""


def store_down(where: str, problem: object, *, retryable: bool = True) -> BudgetError:
    """Return the error for a store that cannot be asked."""
    what = str(problem).rstrip(". ")
    msg = (
        f"The budget's store {where} failed: {what}. Repair it, or pass "
        'on_store_down="share" to go on with a share of the limits meanwhile.'
    )
    return BudgetError(msg, retryable=retryable)
