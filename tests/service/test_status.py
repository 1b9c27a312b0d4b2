"""Errors of providers: wherever they stand, each becomes its typed error, without the key."""

from __future__ import annotations

import json

import pytest

from lionlite.exceptions import (
    AuthenticationError,
    BadRequestError,
    LionError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExhausted,
    RateLimitError,
    ServerError,
)
from lionlite.service.secret import Secret
from lionlite.service.status import MAX_EXCERPT_CHARS
from lionlite.service.transport.parse import RawReply
from lionlite.service.wire import read_reply

pytestmark = pytest.mark.quick

KEY = "canary-0123456789/abcdef+"


def read(body, *, status=200, headers=None):
    """Read a reply with *body*: bytes as they are, anything else as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_reply(
        RawReply(status, headers or {}, raw),
        now_epoch_s=0.0,
        scrub=Secret(KEY).scrub,
        provider="Acme",
    )


def error_of(body, **how):
    with pytest.raises(LionError) as caught:
        read(body, **how)
    return caught.value


def answer(**choice):
    message = {"role": "assistant", "content": "4"}
    return {"choices": [{"message": message, "finish_reason": "stop", **choice}]}


def openai_error(**error):
    return {"error": {"message": "no", "type": None, "param": None, "code": None, **error}}


STATUSES = [
    (302, BadRequestError, False),
    (400, BadRequestError, False),
    (401, AuthenticationError, False),
    (402, QuotaExhausted, False),
    (403, PermissionDeniedError, False),
    (404, NotFoundError, False),
    (408, ServerError, True),
    (409, BadRequestError, True),
    (413, BadRequestError, False),
    (418, BadRequestError, False),
    (422, BadRequestError, False),
    (429, RateLimitError, True),
    (500, ServerError, True),
    (502, ServerError, True),
    (503, ServerError, True),
    (504, ServerError, True),
    (524, ServerError, True),
    (529, ServerError, True),
]
BODIES = {
    "openai": json.dumps(openai_error()).encode(),
    "nothing": b"",
    "html": b"<html>",
    "string error": b'{"error": "no"}',
    "list": b"[1]",
    "null": b"null",
    "an answer": json.dumps(answer()).encode(),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize(("status", "kind", "is_retryable"), STATUSES)
def test_each_status_has_its_error_whatever_the_body(status, kind, is_retryable, body):
    error = error_of(body, status=status)

    assert (type(error), error.status, error.retryable) == (kind, status, is_retryable)
    assert error.fatal == kind.fatal


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (openai_error(message="too long"), "too long"),
        ({"error": "'type' must be 'text'"}, "'type' must be 'text'"),
        ({"error": {"detail": "bad"}}, "bad"),
        ({"object": "error", "message": {"detail": [{"loc": "x"}]}}, '{"detail":[{"loc":"x"}]}'),
        ({"detail": "Not authenticated"}, "Not authenticated"),
        ({"error": ["a"], "message": "b"}, "b"),
        ({"error": {"message": ""}}, '{"error": {"message": ""}}'),
        (b"upstream connect error\n", "upstream connect error"),
        (b"\n", "nothing"),
        ([{"error": {"message": "m"}}], "m"),
    ],
    ids=[
        "openai",
        "text",
        "detail",
        "mistral",
        "fastapi",
        "list",
        "empty",
        "plain",
        "blank",
        "gemini",
    ],
)
def test_an_error_says_what_the_provider_said(body, said):
    assert str(error_of(body, status=400)) == f"Acme answered 400 (request None): {said}"


@pytest.mark.parametrize(
    ("kind", "status", "cure"),
    [
        (AuthenticationError, 401, "Check the API key."),
        (NotFoundError, 404, "Check model= and base_url=."),
        (QuotaExhausted, 402, "retrying cannot help"),
        (RateLimitError, 429, "Lower max_requests or max_tokens"),
        (BadRequestError, 307, "a redirect, which is not followed"),
    ],
)
def test_an_error_names_the_cure(kind, status, cure):
    error = error_of(openai_error(), status=status)

    assert type(error) is kind
    assert cure in str(error)


@pytest.mark.parametrize("place", ["type", "code"])
@pytest.mark.parametrize(
    "name", ["insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"]
)
def test_a_429_without_credit_is_final(name, place):
    error = error_of(openai_error(**{place: name}), status=429, headers={"retry-after": "5"})

    assert (type(error), error.retryable, error.fatal) == (QuotaExhausted, False, True)


def test_a_429_without_credit_stays_final_whatever_the_header_wishes():
    error = error_of(
        openai_error(code="insufficient_quota"), status=429, headers={"x-should-retry": "true"}
    )

    assert (type(error), error.retryable) == (QuotaExhausted, False)


def test_mistrals_error_without_an_envelope_has_its_code_and_type():
    body = {"object": "error", "message": "no", "type": "insufficient_quota", "code": "1300"}

    error = error_of(body, status=429)

    assert (type(error), error.code) == (QuotaExhausted, "1300")


def test_credit_held_by_calls_in_flight_comes_back():
    error = error_of({"error": {"code": 402}}, status=402, headers={"retry-after": "3"})

    assert (type(error), error.retryable, error.retry_after_s) == (RateLimitError, True, 3.0)


@pytest.mark.parametrize(("status", "wish"), [(400, "true"), (503, "false"), (429, "false")])
def test_the_servers_word_on_retries_wins(status, wish):
    error = error_of(openai_error(), status=status, headers={"x-should-retry": wish})

    assert error.retryable == (wish == "true")


def test_a_fatal_error_that_may_be_retried_is_not_fatal():
    error = error_of(openai_error(), status=401, headers={"x-should-retry": "true"})

    assert (type(error), error.retryable, error.fatal) == (AuthenticationError, True, False)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:07 GMT"}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "20"}, 0.25),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_an_error_carries_when_to_come_back(headers, expected):
    assert error_of(openai_error(), status=429, headers=headers).retry_after_s == expected


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": "x"}, RateLimitError),
        ({"code": "429"}, RateLimitError),
        ({"code": 401}, AuthenticationError),
        ({"code": 402}, QuotaExhausted),
        ({"code": 404}, NotFoundError),
        ({"code": 502}, ServerError),
        ({"code": "rate_limit_exceeded"}, RateLimitError),
        ({"type": "rate_limit_error"}, RateLimitError),
        ({"type": "overloaded_error"}, ServerError),
        ({"code": "context_length_exceeded"}, BadRequestError),
        ({"code": "invalid_api_key"}, AuthenticationError),
        ({"code": "model_not_found"}, NotFoundError),
        ({"code": "insufficient_quota"}, QuotaExhausted),
        ({"code": 12, "type": "who knows"}, ServerError),
        ({"code": 200}, ServerError),
        ({"code": None, "message": "x"}, ServerError),
        ("overloaded", ServerError),
        (["overloaded"], ServerError),
    ],
    ids=str,
)
@pytest.mark.parametrize("place", ["body", "choice", "list"])
def test_an_error_inside_a_200_is_the_error_it_names(error, kind, place):
    body = answer(error=error) if place == "choice" else {**answer(), "error": error}
    body = [body] if place == "list" else body

    found = error_of(body)

    assert (type(found), found.status) == (kind, 200)


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ({"object": "error", "message": "m", "code": 400}, BadRequestError, "m"),
        ({"object": "error", "message": "m", "type": "rate_limit_error"}, RateLimitError, "m"),
        (answer(finish_reason="error"), ServerError, "broke off"),
        ({"type": "error", "error": {"type": "overloaded_error"}}, ServerError, "overloaded"),
    ],
    ids=["vLLM", "Mistral", "OpenRouter", "Anthropic"],
)
def test_other_forms_of_an_error_inside_a_200(body, kind, said):
    error = error_of(body)

    assert (type(error), error.status, said in str(error)) == (kind, 200, True)


@pytest.mark.parametrize("nothing", [None, "", {}, []], ids=repr)
def test_an_empty_error_is_none(nothing):
    body = {**answer(error=nothing), "error": nothing}

    assert read(body).text == "4"


@pytest.mark.parametrize(
    "name", ["x-request-id", "x-generation-id", "request-id", "apim-request-id"]
)
def test_a_request_id_is_found_under_any_of_its_names(name):
    assert read(answer(), headers={name: "r" * 300}).request_id == "r" * 200


def escaped(text):
    return text.replace("/", "\\/").encode()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (openai_error(message=f"Incorrect API key provided: {KEY}."), 401),
        (openai_error(message="x", code=KEY), 401),
        (f"<html>{KEY}</html>".encode(), 502),
        (f"no such page: {KEY}".encode(), 200),
        ({"error": KEY}, 400),
        ({"detail": {"headers": f"Bearer {KEY}"}}, 400),
        (b"canary-0123456789%2Fabcdef%2B", 400),
        (b"Y2FuYXJ5LTAxMjM0NTY3ODkvYWJjZGVmKw==", 400),
        (escaped(f'{{"error": "{KEY}"}}'), 400),
        (b"x" * 3_990 + KEY.encode(), 400),
        ((KEY * 200).encode(), 400),
    ],
    ids=[
        "message",
        "code",
        "html",
        "200",
        "string",
        "nested",
        "url",
        "base64",
        "escaped",
        "at the cut",
        "over and over",
    ],
)
def test_a_key_that_is_echoed_is_not_shown(body, status):
    error = error_of(body, status=status, headers={"x-request-id": f"req-{KEY}"})

    shown = f"{error} {vars(error)}"

    assert "canary" not in shown
    assert "Y2FuYXJ5" not in shown


@pytest.mark.parametrize(
    "shown",
    ["sk-abcdef123456", "Bearer abc.def-123", "key-0123456", "gsk_abcd3efgh", "sk-ab***********yz"],
)
def test_what_looks_like_anybodys_key_is_not_shown(shown):
    assert shown not in str(error_of(openai_error(message=f"bad key {shown}!"), status=401))


@pytest.mark.parametrize(
    "words", ["Incorrect API key provided.", "risk-taking", "the x-api-key-header", "Bearer tokens"]
)
def test_ordinary_words_are_left_alone(words):
    assert words in str(error_of(openai_error(message=words), status=400))


def test_excerpts_are_short():
    error = error_of(b"x" * 100_000, status=500)

    assert len(error.body) == MAX_EXCERPT_CHARS
    assert len(str(error)) < MAX_EXCERPT_CHARS + 100


@pytest.mark.parametrize("place", ["message", "detail"])
def test_an_error_of_any_depth_is_typed(place):
    """What was just read may be too deep to be written again, a few frames further in."""
    for depth in [10, *range(850, 1_010, 3), 200_000]:
        said = b"[" * depth + b"1" + b"]" * depth
        error = error_of(b'{"error": {"%s": %s}}' % (place.encode(), said), status=400)

        assert type(error) is BadRequestError
        assert "[[[" in str(error)
