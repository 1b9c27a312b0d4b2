"""The error tree: what each error carries, and that it travels."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from lionlite import exceptions
from lionlite.exceptions import LionError

pytestmark = pytest.mark.quick

CLASSES = [kind for _, kind in inspect.getmembers(exceptions, inspect.isclass)]
ERRORS = [kind for kind in CLASSES if issubclass(kind, BaseException)]
LION_ERRORS = [kind for kind in ERRORS if issubclass(kind, LionError)]

FACTS = {
    "retryable": True,
    "fatal": True,
    "attempts": 3,
    "waited_s": 1.5,
    "retry_after_s": 20.0,
    "request_id": "req_1",
    "status": 503,
    "partial": "half a",
}
OWN = {
    "dimension": "tokens",
    "needed": 9,
    "limit": 5,
    "phase": "read",
    "code": "slow_down",
    "body": "{}",
    "reason": "length",
    "text": "half an ans",
    "reply": {"choices": []},
    "results": [1, None],
    "failed": {1: "the error of item 1"},
    "run": {"outcomes": 2},
}


def own_fields(kind):
    names = inspect.signature(kind).parameters
    return {name: value for name, value in OWN.items() if name in names}


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("travel", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
def test_an_error_travels_with_all_it_carries(kind, travel):
    facts = FACTS if issubclass(kind, LionError) else {}
    error = kind("what happened", **facts, **own_fields(kind))

    again = travel(error)

    assert (type(again), str(again), vars(again)) == (kind, "what happened", vars(error))
    assert vars(again) == {**facts, **own_fields(kind)}


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_can_be_made_of_nothing(kind):
    assert str(kind()) == ""


@pytest.mark.parametrize("kind", LION_ERRORS, ids=lambda kind: kind.__name__)
def test_an_unknown_fact_is_refused_by_name(kind):
    with pytest.raises(TypeError, match=f"{kind.__name__} takes no colour, size"):
        kind("x", size=1, colour=2)


def names_where(flag):
    return {kind.__name__ for kind in LION_ERRORS if getattr(kind("x"), flag)}


def test_which_errors_a_retry_may_cure():
    assert names_where("retryable") == {
        "BudgetTimeout",
        "ConnectionFailed",
        "RateLimitError",
        "ResponseError",
        "ServerError",
        "StreamTruncated",
    }


def test_which_errors_stop_a_run_over_many_items():
    assert names_where("fatal") == {
        "AuthenticationError",
        "CheckpointError",
        "NotFoundError",
        "PermissionDeniedError",
        "QuotaExhausted",
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ConfigError", ValueError),
        ("BudgetTimeout", TimeoutError),
        ("DeadlineExceeded", TimeoutError),
        ("Interrupted", KeyboardInterrupt),
    ],
)
def test_an_error_is_also_what_python_calls_it(name, kind):
    assert issubclass(getattr(exceptions, name), kind)


def test_ctrl_c_is_no_lion_error():
    assert [kind.__name__ for kind in ERRORS if not issubclass(kind, LionError)] == ["Interrupted"]


def test_the_tree_at_the_head_names_every_error():
    drawn = exceptions.__doc__

    assert [kind.__name__ for kind in ERRORS if f" {kind.__name__}" not in drawn] == []
