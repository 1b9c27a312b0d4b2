"""The key is shown nowhere: not in what is printed, logged, pickled, or in a traceback."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import socket
import traceback
from urllib.parse import quote

import pytest

from lionlite import Services
from lionlite.exceptions import ConfigError, LionError
from lionlite.service.secret import MASK, NO_SECRET, Secret
from lionlite.testing import FakeProvider, Fault

CANARY = "sk-CANARY/7f3a9c51+e8"
FORMS = ("CANARY", base64.b64encode(CANARY.encode()).decode().rstrip("="), quote(CANARY, safe=""))
MESSAGES = [{"role": "user", "content": "hi"}]


def deep_text(value, depth=6):
    """Return the reprs of *value* and of all it holds, as a debugger would show them."""
    if depth == 0 or isinstance(value, (str, bytes, int, float, type(None))):
        return repr(value)
    held = vars(value) if hasattr(value, "__dict__") else {}
    if hasattr(value, "__attrs_attrs__"):
        held = {a.name: getattr(value, a.name) for a in value.__attrs_attrs__}
    if hasattr(value, "__struct_fields__"):
        held = {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, dict):
        held = {str(key): item for key, item in value.items()}
    items = list(value) if isinstance(value, (list, tuple, set)) else []
    return repr(value) + "".join(deep_text(v, depth - 1) for v in [*held.values(), *items])


def traced(error):
    """Return the traceback with all locals of all frames but this module's."""
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    chain, text = [whole], []
    while chain:
        one = chain.pop()
        chain += [other for other in (one.__cause__, one.__context__) if other is not None]
        own = [frame for frame in one.stack if frame.filename != __file__]
        text += [f"{frame.name} {frame.locals}" for frame in own] + list(
            one.format_exception_only()
        )
    return "\n".join(text)


def shown_by(error):
    return f"{error} {error!r} {vars(error)} {traced(error)} {pickle.dumps(error)!r}"


def assert_no_canary(text):
    assert [form for form in FORMS if form in text] == []


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.DEBUG)
    return caplog


def echo_of_the_key(status=401, body=None):
    return Fault.raw(
        status,
        body or json.dumps({"error": {"message": f"Bad key: {CANARY}", "code": CANARY}}).encode(),
        headers={"x-request-id": f"req-{CANARY}"},
    )


@pytest.mark.parametrize(
    "fault",
    [
        echo_of_the_key(),
        echo_of_the_key(500),
        echo_of_the_key(200, CANARY.encode()),
        echo_of_the_key(502, f"<html>{quote(CANARY, safe='')}</html>".encode()),
        Fault.hang(),
        Fault.drop(),
        Fault.cut(5),
        Fault.status(429, headers={"retry-after": "100"}),
        Fault.quota(),
    ],
    ids=["401 echo", "500 echo", "200 echo", "HTML echo", "timeout", "drop", "cut", "429", "quota"],
)
def test_a_call_that_fails_shows_no_key(fault, logged):
    with (
        FakeProvider(lambda body: fault) as provider,
        provider.service(api_key=CANARY, max_retries=1, timeout=1) as service,
    ):
        with pytest.raises(LionError) as caught:
            service.send(MESSAGES)

        assert_no_canary(shown_by(caught.value))
        assert_no_canary(deep_text(service) + repr(service.stats()))
    assert_no_canary(logged.text)


def test_a_call_that_succeeds_shows_no_key(logged):
    with FakeProvider() as provider, provider.service(api_key=CANARY) as service:
        reply = service.send(MESSAGES)

        assert_no_canary(repr(reply) + deep_text(reply) + deep_text(service))
    assert_no_canary(logged.text)


def test_a_refused_connection_shows_no_key(logged):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with (
        Services.Compatible(
            base_url=f"http://127.0.0.1:{port}", model="m", api_key=CANARY, max_retries=0
        ) as service,
        pytest.raises(LionError) as caught,
    ):
        service.send(MESSAGES)

    assert_no_canary(shown_by(caught.value) + logged.text)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("OpenAI", {"api_key": CANARY + "\n x"}),
        ("OpenAI", {"api_key": CANARY.encode()}),
        ("OpenAI", {"api_key": CANARY, "max_requests": 0}),
        ("OpenAI", {"api_key": CANARY, "no_such": 1}),
        ("OpenAI", {"api_key": CANARY, "base_url": "https://a b"}),
        ("Compatible", {"api_key": CANARY}),
    ],
    ids=["line break", "bytes", "bad limit", "unknown name", "bad url", "no url"],
)
def test_a_service_that_is_not_made_shows_no_key(name, arguments):
    with pytest.raises(ConfigError) as caught:
        getattr(Services, name)(**arguments)

    assert_no_canary(f"{caught.value} {traced(caught.value)}")


def test_a_key_from_a_function_shows_in_no_frame():
    with pytest.raises(ConfigError) as caught:
        Services.Compatible(
            base_url="http://127.0.0.1:9", api_key=lambda: CANARY + " x", model="m"
        ).send(MESSAGES)

    assert_no_canary(traced(caught.value))


# Secret -----------------------------------------------------------------------


def test_a_secret_shows_itself_only_when_asked():
    secret = Secret(CANARY)

    assert (repr(secret), str(secret), f"{secret:}") == (MASK, MASK, MASK)
    assert secret.reveal() == CANARY
    assert_no_canary(repr([secret]) + repr(secret._reveal))
    with pytest.raises(ConfigError, match="An API key does not pickle: set key_scheme="):
        pickle.dumps(secret)


def test_secrets_compare_by_their_text():
    assert (Secret("a") == Secret("a"), Secret("a") == Secret("b"), Secret("a") == "a") == (
        True,
        False,
        False,
    )
    assert len({Secret("a"), Secret("a")}) == 1


@pytest.mark.parametrize("text", ["", "a", "sk-1/+=~!"])
def test_what_fits_in_a_header_fits(text):
    assert (Secret(text).fits_in_header, Secret(text).is_empty) == (True, text == "")


@pytest.mark.parametrize("text", ["a b", "a\n", "é", "\x7f", "\t"], ids=ascii)
def test_what_breaks_a_header_does_not_fit(text):
    assert not Secret(text).fits_in_header


def test_short_placeholders_are_not_scrubbed_out_of_words():
    assert Secret("none").scrub("none of it") == "none of it"
    assert NO_SECRET.scrub("plain words") == "plain words"


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_retries": -1},
        {"limits": {"nothing": "5/minute"}},
        {"token_encoding_name": 7},
        {"interval": 0},
        {"charge": "nothing"},
        {"headers": 7},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
@pytest.mark.parametrize(
    "address",
    [
        {"proxy": "http://me:CANARY@127.0.0.1:9"},
        {"proxy": "ftp://me:CANARY@127.0.0.1:9"},
        {"store": "redis://me:CANARY@127.0.0.1:9/0", "max_requests": 5},
        {"store": "redis://me:CANARY@127.0.0.1:none/0", "max_requests": 5},
        {"store": "mysql://me:CANARY@127.0.0.1:9/0", "max_requests": 5},
    ],
    ids=["proxy", "bad proxy", "store", "bad store", "other store"],
)
def test_a_service_that_cannot_be_made_shows_no_password(address, wrong):
    with pytest.raises(ConfigError) as caught:
        Services.OpenAI(**{"api_key": CANARY, **address, **wrong})

    assert_no_canary(shown_by(caught.value))


def test_a_wrong_way_to_share_shows_no_password():
    with pytest.raises(ConfigError, match="on_store_down") as caught:
        Services.OpenAI(
            api_key=CANARY, max_requests=5, store="redis://me:CANARY@h/0", on_store_down="panic"
        )

    assert_no_canary(shown_by(caught.value))
