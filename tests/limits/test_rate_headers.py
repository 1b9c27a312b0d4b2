"""What providers say of their limits, and what hostile servers say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionlite.limits.durations import span_s
from lionlite.limits.headers import ServerView, rate_limit_view, retry_after_s

pytestmark = pytest.mark.quick

NOW = 1_760_000_000.0  # 2025-10-09T08:53:20Z


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("0s", 0),
        ("6m0s", 360),
        ("120ms", 0.12),
        ("4ms", 0.004),
        ("12.967s", 12.967),
        ("14h29m11.04s", 52_151.04),
        ("1d2h", 93_600),
        ("3us", 3e-6),
        ("3\u00b5s", 3e-6),
        ("3\u03bcs", 3e-6),
        ("3ns", 3e-9),
        ("59.5", 59.5),
        (" 7 ", 7),
        ("1760000012500", 12.5),
        ("2025-10-09T08:53:50Z", 30),
        ("2025-10-09T10:53:50+02:00", 30),
        ("2025-10-09T08:53:50", 30),
        ("2025-10-09T08:53:19Z", None),
        ("1759999999999", None),
        ("", None),
        ("s", None),
        ("5x", None),
        ("1s1", None),
        ("-1s", None),
        ("nan", None),
        ("inf", None),
        ("1e9", None),
        ("1_0", None),
        ("\u0661", None),  # an Arabic digit, which float() takes
        ("9" * 400, None),
        ("1s" * 200, None),
        ("9999-99-99T00:00:00Z", None),
    ],
)
def test_a_span_is_read_as_the_server_means_it(text, seconds):
    assert span_s(text, now_epoch_s=NOW) == (
        seconds if seconds is None else pytest.approx(seconds, rel=1e-9)
    )


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "20"}, 20),
        ({"retry-after": "0.5"}, 0.5),
        ({"RETRY-AFTER": "0"}, 0),
        ({"Retry-After-Ms": "1500", "Retry-After": "20"}, 1.5),
        ({"retry-after-ms": "soon", "Retry-After": "20"}, 20),
        ({"Retry-After": "Thu, 09 Oct 2025 08:53:50 GMT"}, 30),
        ({"Retry-After": "Thu, 09 Oct 2025 08:53:10 GMT"}, None),
        ({"Retry-After": "999999999"}, 999_999_999),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "1e400"}, None),
        ({"Retry-After": "9" * 400}, None),
        ({"Retry-After": "Thu, 99 Foo 2025 08:53:50 GMT"}, None),
        ({"Retry-After": "Thu, 09 Oct 99999 08:53:50 GMT"}, None),
        ({"Retry-After": "tomorrow"}, None),
        ({"Retry-After": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_or_nothing(headers, seconds):
    assert retry_after_s(headers, now_epoch_s=NOW) == seconds


def test_openai_headers_give_both_dimensions():
    headers = {
        "X-RateLimit-Limit-Requests": "15000",
        "x-ratelimit-remaining-requests": "14999",
        "x-ratelimit-reset-requests": "4ms",
        "x-ratelimit-limit-tokens": "40000000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "6m0s",
    }

    assert rate_limit_view(headers, now_epoch_s=NOW) == {
        "requests": ServerView(15_000, 14_999, 0.004),
        "tokens": ServerView(40_000_000, 0, 360),
    }


@pytest.mark.parametrize("limit", ["-1", "0"])
def test_azure_limits_below_one_mean_unknown(limit):
    headers = {"x-ratelimit-limit-tokens": limit, "x-ratelimit-remaining-tokens": "0"}

    assert rate_limit_view(headers, now_epoch_s=NOW) == {}


def test_azure_remaining_below_zero_means_unknown():
    headers = {"x-ratelimit-limit-tokens": "9", "x-ratelimit-remaining-tokens": "-1"}

    assert rate_limit_view(headers, now_epoch_s=NOW) == {"tokens": ServerView(limit=9)}


def test_openrouter_speaks_of_requests_and_of_epoch_milliseconds():
    headers = {
        "X-RateLimit-Limit": "20",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "1760000012500",
    }

    assert rate_limit_view(headers, now_epoch_s=NOW) == {"requests": ServerView(20, 0, 12.5)}


def test_anthropic_counts_input_and_output_apart():
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-input-tokens-remaining": "39000",
        "anthropic-ratelimit-output-tokens-reset": "2025-10-09T08:53:50Z",
        "anthropic-ratelimit-tokens-limit": "48000",
    }

    assert rate_limit_view(headers, now_epoch_s=NOW) == {
        "requests": ServerView(limit=50),
        "input": ServerView(remaining=39_000),
        "output": ServerView(reset_s=30),
        "tokens": ServerView(limit=48_000),
    }


def test_cerebras_names_the_interval_and_the_shortest_is_kept():
    headers = {
        "x-ratelimit-limit-requests-day": "14400",
        "x-ratelimit-reset-requests-day": "33011.382867",
        "x-ratelimit-limit-tokens-minute": "60000",
        "x-ratelimit-limit-tokens-day": "1000000",
    }

    assert rate_limit_view(headers, now_epoch_s=NOW) == {
        "requests": ServerView(14_400, None, 33_011.382867, 86_400),
        "tokens": ServerView(60_000, None, None, 60),
    }


def test_headers_that_are_not_text_are_passed_over():
    headers = {"Retry-After": 5, b"x": "1", "x-ratelimit-limit-tokens": None}

    assert retry_after_s(headers, now_epoch_s=NOW) is None
    assert rate_limit_view(headers, now_epoch_s=NOW) == {}


NAMES = st.sampled_from(
    [
        "retry-after",
        "retry-after-ms",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
        "anthropic-ratelimit-tokens-reset",
        "X-RateLimit-Reset",
    ]
)
TEXTS = (
    st.text()
    | st.floats().map(str)
    | st.integers().map(str)
    | st.datetimes().map(str)
    | st.from_regex(r"[0-9.]*(ms|s|m|h)?[0-9.]*(ms|s|m|h)?", fullmatch=True)
    | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT", fullmatch=True)
)


@given(st.dictionaries(NAMES | st.text(), TEXTS), st.floats(-1e12, 1e12))
def test_no_header_whatever_raises_or_gives_a_senseless_number(headers, now):
    wait = retry_after_s(headers, now_epoch_s=now)
    views = rate_limit_view(headers, now_epoch_s=now).values()

    assert wait is None or (math.isfinite(wait) and wait >= 0)
    for view in views:
        assert view.limit is None or view.limit >= 1
        assert view.remaining is None or view.remaining >= 0
        assert view.reset_s is None or (math.isfinite(view.reset_s) and view.reset_s >= 0)
