"""The Lua script and book.py are one machine: the same deeds, the same answers, word for word."""

from __future__ import annotations

import random

import pytest
from store_tools import Asker, Clock, fresh_name, redis_or_skip, store_at

from lionlite.limits.rates import Rate
from lionlite.limits.stores.book import LOOK, QUEUE, TRY
from lionlite.limits.stores.terms import terms_of

LIMITS = {
    "one": {"requests": [Rate(3, 1.0)]},
    "two": {"requests": [Rate(5, 1.0)], "tokens": [Rate(100, 1.0)]},
    "many": {
        "requests": [Rate(3, 0.5), Rate(7, 2.0)],
        "tokens": [Rate(50, 0.7)],
        "output": [Rate(10**14, 100_000.0)],
    },
    "none": {},
}

STEPS = 60
SCRIPTS = 4  # of each kind

VERBS = ["take"] * 6 + ["sent", "settle"] * 3 + ["leave", "pause", "refuse", "stats", "enter"]


class Scribe:
    """Makes up deeds, so that some fit together and some make no sense."""

    def __init__(self, seed, count):
        self.rng = random.Random(seed)
        self.count = count

    def move_us(self):
        return self.rng.choice(
            [0, 5, self.below(30_000), self.below(30_000), self.below(1_500_000), 11_000_000]
        )

    def deed(self, number):
        verb = self.rng.choice(VERBS)
        return verb, *getattr(self, f"_{verb}")(number)

    def below(self, most):
        return self.rng.randrange(most)

    def _take(self, _):
        return (
            self.rng.choice([QUEUE, QUEUE, QUEUE, TRY, LOOK]),
            self._ticket(),
            self.rng.choice([600_000_000, self.below(5_000_000)]),
            self.rng.choice([-1, -1, self.below(2_000_000)]),
            self._units([0, 1, 1, 2, 30]),
        )

    def _sent(self, _):
        return self._ticket(), self.below(300_000)

    def _settle(self, _):
        return self._ticket(), self._age(), self._age(), self._units([-1, self.below(120)])

    def _leave(self, _):
        return (self._ticket(),)

    def _pause(self, _):
        return (self.below(3_000_000),)

    def _refuse(self, _):
        return self.rng.choice(["", self._ticket()]), self._age()

    def _stats(self, _):
        return ()

    def _enter(self, number):
        known = self.rng.choice(["", "old"])
        return f"e{number}", known, self.below(60), self._units([0, 60]), self._units([0, 9])

    def _ticket(self):
        number = self.below(10)
        return f"{'abc'[number % 3]}.{number}"

    def _age(self):
        return self.rng.choice([-1, self.below(300_000)])

    def _units(self, choices):
        return tuple(self.rng.choice(choices) for _ in range(self.count))


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    clock = Clock()
    redis = store_at(redis_or_skip(), clock)
    sqlite = store_at(f"sqlite:///{tmp_path_factory.mktemp('equal')}/b.db", clock)
    yield clock, sqlite, redis
    sqlite.close()
    redis.close()


@pytest.mark.parametrize("charge", ["estimate", "adjust", "usage"])
@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
def test_every_answer_is_the_same(stores, charge, limits):
    clock, sqlite, redis = stores
    terms = terms_of(limits, charge)
    for seed in range(SCRIPTS):
        name, scribe = fresh_name(), Scribe(seed, len(terms.rates))
        both = [Asker(store, terms, name) for store in (sqlite, redis)]
        said = [[asker.enter("e") for asker in both]]

        for number in range(STEPS):
            clock.now += scribe.move_us()
            deed = scribe.deed(number)
            said.append([asker.do(*deed) for asker in both])

        assert [one for one, _ in said] == [two for _, two in said], f"seed {seed}"


def test_a_silent_process_is_forgotten_by_both(stores):
    clock, sqlite, redis = stores
    terms, name = terms_of(LIMITS["two"], "adjust"), fresh_name()
    both = [Asker(store, terms, name) for store in (sqlite, redis)]

    for asker in both:
        asker.enter("e")
        asker.do("take", QUEUE, "a.1", 1_000_000, -1, (1, 1))
        asker.do("take", QUEUE, "b.1", 1_000_000, -1, (1, 1))
    clock.now += 601_000_000
    said = [asker.do("take", QUEUE, "c.1", 1_000_000, -1, (1, 1)) for asker in both]

    assert said[0] == said[1]
    assert said[0][5] == 1
