"""Refusing unknown names, and the small values."""

from __future__ import annotations

import inspect

import pytest

from lionlite.arguments import keywords_checked, nearest, refuse_unknown
from lionlite.exceptions import ConfigError
from lionlite.records import CallRecord, Usage
from lionlite.unset import UNSET

pytestmark = pytest.mark.quick


class Engine:
    @keywords_checked
    def __init__(self, provider, /, *, max_requests=None, interval=60):
        self.made_of = provider, max_requests, interval


@keywords_checked
def brew(tea, *, sugar=0):
    """Return a cup."""
    return tea, sugar


def test_a_misspelt_name_is_answered_with_the_nearest():
    assert nearest("temprature", {"temperature", "top_p"}) == "did you mean 'temperature'?"


def test_a_name_near_to_nothing_is_answered_with_all():
    assert nearest("zzz", {"b", "a"}) == "known: a, b."


def test_known_names_pass():
    refuse_unknown(["a"], {"a", "b"}, where="brew()")


def test_checked_functions_work_as_before():
    assert (brew("mint", sugar=2), brew(tea="mint")) == (("mint", 2), ("mint", 0))
    assert Engine("x", interval=1).made_of == ("x", None, 1)


def test_a_misspelt_keyword_of_a_constructor_is_a_config_error():
    with pytest.raises(ConfigError, match=r"^Engine\(\) has no argument 'max_request': did you "):
        Engine("x", max_request=1)


def test_what_is_positional_only_is_no_keyword():
    with pytest.raises(ConfigError, match=r"Engine\(\) has no argument 'provider'"):
        Engine("x", provider="y")


def test_a_checked_function_keeps_name_docstring_and_signature():
    assert (brew.__name__, brew.__doc__, list(inspect.signature(brew).parameters)) == (
        "brew",
        "Return a cup.",
        ["tea", "sugar"],
    )


def test_usages_add_up_part_by_part():
    total = Usage(1, 2, 3, 4) + Usage(10, 20, 30, 40)

    assert (total, total.total_tokens) == (Usage(11, 22, 33, 44), 33)


def test_a_record_of_a_call_that_never_went_out_says_so():
    record = CallRecord(model="m", error="BudgetTimeout")

    assert (record.attempts, record.usage, record.request_id) == (0, None, None)


def test_unset_shows_as_its_name_and_is_not_none():
    assert (repr(UNSET), UNSET is None) == ("UNSET", False)
