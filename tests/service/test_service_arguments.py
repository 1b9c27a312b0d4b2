"""What a service takes and what it refuses, before any request."""

from __future__ import annotations

import copy
import inspect
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionlite import Services
from lionlite.exceptions import ConfigError
from lionlite.service import providers
from lionlite.service.address import (
    Heads,
    checked_headers,
    is_local_host,
    merged,
    parse_base_url,
)
from lionlite.service.keys import KeySource
from lionlite.service.secret import NO_SECRET, Secret
from lionlite.service.service import Service
from lionlite.service.transport import connections

pytestmark = pytest.mark.quick

MESSAGES = [{"role": "user", "content": "hi"}]
LOCAL = "http://127.0.0.1:9/v1"
ALL = ["OpenAI", "OpenRouter", "Groq", "Mistral", "DeepSeek", "Ollama", "Compatible"]


def refused(match, **arguments):
    """Assert that these arguments of a service are refused."""
    with pytest.raises(ConfigError, match=match) as caught:
        Services.Compatible(**{"base_url": LOCAL, "api_key": "sk-CANARY1", **arguments})
    assert "CANARY" not in str(caught.value)


def send_refused(match, *, maker=Services.OpenAI, messages=MESSAGES, **params):
    """Assert that these parameters of a call are refused."""
    service = maker(base_url=LOCAL, api_key="k", model="m", max_retries=0)
    with pytest.raises(ConfigError, match=match) as caught:
        service.send(messages, **params)
    assert service.stats().attempts == 0
    return caught.value


@pytest.fixture(autouse=True)
def _no_traffic(monkeypatch):
    """What should be refused must not go anywhere if it is not."""

    def refuse(origin):
        msg = f"a request went out to {origin}"
        raise AssertionError(msg)

    monkeypatch.setattr(connections, "connect", refuse)


# Services ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "base_url"),
    [
        ("OpenAI", "https://api.openai.com/v1"),
        ("OpenRouter", "https://openrouter.ai/api/v1"),
        ("Groq", "https://api.groq.com/openai/v1"),
        ("Mistral", "https://api.mistral.ai/v1"),
        ("DeepSeek", "https://api.deepseek.com"),
        ("Ollama", "http://localhost:11434/v1"),
    ],
)
def test_each_provider_has_its_own_address(name, base_url):
    service = getattr(Services, name)()

    assert service.base_url == base_url
    assert repr(service) == f"<Service {name} at {base_url}>"
    assert (service.provider_name, service.timeout_s) == (name, None)


@pytest.mark.parametrize("name", ALL)
def test_each_maker_shows_the_arguments_of_a_service(name):
    maker = getattr(Services, name)

    assert list(inspect.signature(maker).parameters) == [
        parameter for parameter in inspect.signature(Service).parameters if parameter != "provider"
    ]
    assert maker.__doc__.startswith("Return a service for")


def test_a_compatible_server_needs_an_address():
    with pytest.raises(ConfigError, match="needs base_url=, such as"):
        Services.Compatible()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("argument", "nearest"),
    [("max_request", "max_requests"), ("apikey", "api_key"), ("max_retry", "max_retries")],
)
def test_an_unknown_argument_is_answered_with_the_nearest(name, argument, nearest):
    with pytest.raises(ConfigError, match=rf"has no argument '{argument}': did you .*'{nearest}'"):
        getattr(Services, name)(**{argument: 1})


def test_the_provider_is_no_keyword():
    refused("has no argument 'provider'", provider=providers.OPENAI)


@pytest.mark.parametrize("name", ["max_requests", "max_tokens"])
@pytest.mark.parametrize("value", [0, -1, math.nan, True, 1.5, "9"], ids=repr)
def test_a_budget_is_a_whole_number_from_one(name, value):
    refused(f"{name}= takes a whole number >= 1, or None for no limit; got", **{name: value})


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, True, "60", None], ids=repr)
def test_an_interval_is_seconds_above_zero(value):
    refused("interval takes seconds, > 0", interval=value)
    refused("interval takes seconds, > 0", max_requests=1, interval=value)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"max_requests": 5}, "limits= and max_requests= say the same twice"),
        ({"max_tokens": 5}, "limits= and max_tokens= say the same twice"),
        ({"max_tokens": 5, "max_requests": 5}, "limits= and max_requests and max_tokens= say"),
    ],
)
def test_limits_and_single_numbers_are_not_mixed(arguments, match):
    refused(match, limits={"requests": "5/minute"}, **arguments)


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        ({"request": "5/minute"}, "limits= knows requests, tokens, input, output; got 'request'"),
        ({"requests": 5}, r"limits\['requests'\] needs an interval"),
        ({"requests": "NaN/minute"}, r"limits\['requests'\] takes words such as"),
        ({"requests": "0/minute"}, "whole number >= 1"),
        ("5/minute", "limits= takes a dict"),
    ],
    ids=["name", "number", "NaN", "zero", "text"],
)
def test_limits_that_say_nothing_are_refused(limits, match):
    refused(match, limits=limits)


def test_limits_may_come_with_none_for_the_others():
    service = Services.Compatible(
        base_url=LOCAL, limits={"requests": "5/minute"}, max_tokens=None, max_requests=None
    )

    assert list(service.stats().budget.dimensions) == ["requests"]


@pytest.mark.parametrize("value", [-1, math.nan, "8", True], ids=repr)
def test_a_timeout_is_seconds(value):
    refused("timeout= takes seconds, a number >= 0", timeout=value)
    send_refused("timeout= takes seconds, a number >= 0", timeout=value)


@pytest.mark.parametrize("value", [-1, 1.5, True, None, "2"], ids=repr)
def test_retries_are_a_whole_number(value):
    refused("max_retries= takes a whole number >= 0", max_retries=value)


@pytest.mark.parametrize("value", [0, -1, True, 1.5], ids=repr)
def test_concurrency_is_a_whole_number_from_one(value):
    refused("max_concurrency takes an int >= 1", max_concurrency=value)


def test_an_unknown_way_of_charging_is_refused():
    refused("charge", charge="later")


@pytest.mark.parametrize("value", ["", 5], ids=repr)
def test_an_encoding_is_named_by_a_text(value):
    refused("token_encoding_name= takes the name", token_encoding_name=value)


def test_a_service_does_not_travel():
    service = Services.OpenAI(api_key="sk-CANARY1")

    for travel in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(ConfigError, match="Make the service in the process that uses it"):
            travel(service)


# Addresses --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "shown"),
    [
        ("https://host/v1/", "https://host/v1"),
        (" https://host ", "https://host"),
        ("HTTPS://HOST:8443/V1", "https://host:8443/V1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("https://münchen.example/ü", "https://xn--mnchen-3ya.example/%C3%BC"),
        ("https://ex_ample.com:443/v1", "https://ex_ample.com/v1"),
    ],
)
def test_an_address_is_read(base_url, shown):
    assert Services.Compatible(base_url=base_url).base_url == shown


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "host/v1",
        "ftp://host",
        "https://",
        "https://ho st/",
        "https://host/v1\r\nX: y",
        5,
        "https://host:99999",
        "https://host:0",
        "http://[::1",
        "http://a%0d%0ab/",
        "https://h;x/",
        "https://host/\x00",
        "https://" + "a" * 70 + ".com",
        "http://[fe80::1%25eth0]/",
        "http://:80",
    ],
    ids=ascii,
)
def test_what_is_no_address_is_refused(base_url):
    refused(r"base_url= takes an address such as 'https://host/v1'", base_url=base_url)


@pytest.mark.parametrize("part", ["user:CANARY@host", "host?key=CANARY", "host#CANARY"])
def test_an_address_takes_nothing_secret(part):
    refused("takes no user, password, query or fragment", base_url=f"https://{part}")


def test_a_password_in_a_broken_address_is_not_shown():
    refused(r"got 'ftp://\*\*\*@host'", base_url="ftp://user:CANARY@host")


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("192.168.1.1", True),
        ("169.254.1.1", True),
        ("::1", True),
        ("fd00::1", True),
        ("localhost", True),
        ("api.localhost", True),
        ("gpu-box", True),
        ("gpu-box.", True),
        ("2130706433", True),
        ("8.8.8.8", False),
        ("134744072", False),
        ("0x08080808", False),
        ("8.8.2056", False),
        ("2606:4700::1", False),
        ("api.openai.com", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("2001:0:808:808::", False),
        ("172.16.0.1", True),
        ("localhost.example.com", False),
        ("mylocalhost.com", False),
    ],
)
def test_local_is_this_machine_a_private_network_or_a_bare_name(host, is_local):
    assert is_local_host(host) == is_local


@pytest.mark.parametrize("shares", [False, True], ids=["alone", "shared"])
@pytest.mark.parametrize("base_url", ["http://api.example.com/v1", "http://134744072/v1"])
def test_a_key_does_not_go_to_the_open_internet_in_clear(base_url, shares, tmp_path):
    store = {"store": f"sqlite:///{tmp_path}/b.db", "max_requests": 9} if shares else {}
    service = Services.Compatible(base_url=base_url, api_key="sk-CANARY1", model="m", **store)

    with pytest.raises(ConfigError, match=r"unencrypted: use https://.* allow_http=True") as caught:
        service.send(MESSAGES)

    assert "CANARY" not in str(caught.value)


# Headers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "CONNECTION",
        "Authorization",
        "Expect",
        "accept-encoding",
        "content-type",
        "te",
        "trailer",
        "upgrade",
    ],
)
def test_headers_of_ours_are_not_overridden(name):
    refused(f"headers= may not set '{name}'", headers={name: "CANARY"})
    send_refused(f"extra_headers= may not set '{name}'", extra_headers={name: "x"})


@pytest.mark.parametrize(
    "value", ["CANARY\r\nX: y", "CANARY\n", "é", b"CANARY", None, 5], ids=ascii
)
def test_a_header_value_is_one_line_of_text(value):
    refused(r"headers=\{'X-A': ...\} needs a text of printable ASCII", headers={"X-A": value})


@pytest.mark.parametrize("name", ["", "X A", "X:", "X\r\n", 5], ids=repr)
def test_a_header_name_is_a_token(name):
    refused("headers= has a header name that is no token", headers={name: "x"})


@pytest.mark.parametrize("headers", ["X-A: 1", [("X-A", "1")], 5, [], 0], ids=repr)
def test_headers_are_a_dict(headers):
    refused("headers= takes a dict of names and values", headers=headers)
    send_refused("extra_headers= takes a dict of names and values", extra_headers=headers)


@pytest.mark.parametrize("allow_http", ["no", 1, None], ids=repr)
def test_whether_a_key_may_go_in_clear_is_true_or_false(allow_http):
    refused("allow_http= takes True or False", allow_http=allow_http)


def test_what_a_store_would_do_needs_one():
    refused("on_store_down= is about a store", on_store_down="share")
    refused("charge= takes", charge="")


def test_an_address_that_is_none_is_not_shown():
    refused("base_url= .* has no http:// or https://", base_url="sk-CANARY")


def test_a_service_does_not_give_all_calls_one_name():
    refused(r"in extra_headers=", headers={"idempotency-key": "CANARY"})


def test_of_headers_that_differ_in_case_the_last_counts():
    assert merged({"User-Agent": "a", "X": "1"}, {"user-agent": "b"}) == {
        "user-agent": "b",
        "X": "1",
    }


def test_a_head_is_what_goes_on_the_wire():
    heads = Heads(parse_base_url("https://host:8443/v1"), {"X-A": "1"})

    head = heads.head_for(Secret("k"), {"user-agent": "mine"})

    assert bytes(head).decode() == (
        "POST /v1/chat/completions HTTP/1.1\r\n"
        "Host: host:8443\r\n"
        "Content-Type: application/json\r\n"
        "Accept-Encoding: identity\r\n"
        "Accept: application/json\r\n"
        "user-agent: mine\r\n"
        "X-A: 1\r\n"
        "Authorization: Bearer k\r\n"
    )


def test_a_head_is_built_once_a_key():
    heads = Heads(parse_base_url("https://host/v1"), {})

    first, again, other = (heads.head_for(Secret(key), {}) for key in ("a", "a", "b"))

    assert (first is again, bytes(other)) == (True, bytes(first).replace(b"er a", b"er b"))
    assert b"Authorization" not in bytes(heads.head_for(NO_SECRET, {}))


@given(st.text(max_size=30), st.dictionaries(st.text(max_size=10), st.text(max_size=10)))
def test_no_address_or_header_breaks_out_of_its_line(path, headers):
    try:
        address = parse_base_url(f"https://host/{path}")
        head = Heads(address, checked_headers(headers, name="headers")).head_for(NO_SECRET, {})
    except ConfigError:
        return

    text = bytes(head).decode("ascii")
    assert text.count("\r\n") == 6 + len(merged({"accept": "", "user-agent": ""}, headers)) - 2
    assert text.count("\n") == text.count("\r")
    assert text.split("\r\n")[0].count(" ") == 2


# Keys -------------------------------------------------------------------------


def key_of(provider=providers.OPENAI, api_key=None, key_scheme=None):
    return KeySource(provider, api_key, key_scheme).key()


def test_a_given_key_comes_before_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "from-env")

    assert key_of(api_key=" given\n") == Secret("given")
    assert key_of() == Secret("from-env")


def test_an_empty_key_does_not_stand_for_the_environments(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "of-another-host")

    with pytest.raises(ConfigError, match="api_key= is empty"):
        key_of(api_key=" ")
    assert key_of(providers.COMPATIBLE, api_key="") == NO_SECRET


def test_another_variable_may_be_named(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "usual")
    monkeypatch.setenv("TEAM_KEY", " other ")

    assert key_of(key_scheme="TEAM_KEY") == Secret("other")
    assert key_of(providers.COMPATIBLE, key_scheme="TEAM_KEY") == Secret("other")


def test_a_function_is_asked_at_each_need():
    keys = KeySource(providers.OPENAI, iter(["a", "b"]).__next__, None)

    assert (keys.key(), keys.key()) == (Secret("a"), Secret("b"))


def test_an_error_of_the_users_function_is_its_own():
    def fail():
        raise LookupError("vault is sealed")

    with pytest.raises(LookupError, match="vault is sealed"):
        key_of(api_key=fail)


@pytest.mark.parametrize("provider", [providers.COMPATIBLE, providers.OLLAMA])
def test_a_server_that_needs_no_key_gets_none(monkeypatch, provider):
    monkeypatch.setenv("OPENAI_API_KEY", "not-for-you")

    assert key_of(provider) == NO_SECRET


@pytest.mark.parametrize(
    ("provider", "key_scheme", "variable"),
    [
        (providers.OPENAI, None, "OPENAI_API_KEY"),
        (providers.OPENROUTER, None, "OPENROUTER_API_KEY"),
        (providers.GROQ, None, "GROQ_API_KEY"),
        (providers.MISTRAL, None, "MISTRAL_API_KEY"),
        (providers.DEEPSEEK, None, "DEEPSEEK_API_KEY"),
        (providers.OPENAI, "TEAM_KEY_UNSET", "TEAM_KEY_UNSET"),
        (providers.COMPATIBLE, "TEAM_KEY_UNSET", "TEAM_KEY_UNSET"),
    ],
)
def test_a_missing_key_names_its_variable(provider, key_scheme, variable):
    with pytest.raises(
        ConfigError, match=rf"No API key for .*: pass api_key=... or set {variable}"
    ):
        key_of(provider, key_scheme=key_scheme)


@pytest.mark.parametrize(
    "key", ["CANARY\nX: y", "CANARY CANARY", "CANARYé", "\x00CANARY"], ids=ascii
)
def test_a_key_that_breaks_a_header_is_refused_unseen(monkeypatch, key):
    monkeypatch.setenv("ODD_KEY", key.replace("\x00", "é"))
    match = "has a blank, a line break or a non-ASCII letter inside: copy the key again"

    refused(f"^api_key= {match}", api_key=key)
    for source in ({"api_key": lambda: key}, {"key_scheme": "ODD_KEY"}):
        with pytest.raises(ConfigError, match=match) as caught:
            key_of(**source)
        assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("key", [5, b"CANARY", ["CANARY"]], ids=repr)
def test_a_key_is_a_text(key):
    refused("^api_key= is not a text: a key is a str", api_key=key)
    with pytest.raises(ConfigError, match=r"The result of api_key\(\) is not a text"):
        key_of(api_key=lambda: key)


@pytest.mark.parametrize("name", ["sk-CANARY", "", "A B", 5], ids=repr)
def test_a_key_scheme_is_the_name_of_a_variable(name):
    refused("key_scheme= takes the name of an environment variable", key_scheme=name)


# Requests ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages", [[], (), "hi", None, {"role": "user"}, ["hi"], [MESSAGES]], ids=repr
)
def test_messages_are_a_list_of_dicts(messages):
    send_refused(r"send\(\) takes a list of at least one message, such as", messages=messages)


@pytest.mark.parametrize(
    ("name", "misspelt", "nearest"),
    [
        ("OpenAI", "temprature", "temperature"),
        ("OpenAI", "reasoning_efort", "reasoning_effort"),
        ("OpenRouter", "transform", "transforms"),
        ("Groq", "reasoning_fromat", "reasoning_format"),
        ("Mistral", "randomseed", "random_seed"),
        ("DeepSeek", "thinkin", "thinking"),
        ("Ollama", "top_q", "top_p"),
    ],
)
def test_a_misspelt_parameter_is_answered_with_the_nearest(name, misspelt, nearest):
    error = send_refused(
        f"^{name} has no parameter '{misspelt}': did you mean '{nearest}'",
        maker=getattr(Services, name),
        **{misspelt: 1},
    )

    assert "extra_body={...}" in str(error)


@pytest.mark.parametrize("name", ["stream", "stream_options"])
def test_what_the_library_decides_is_no_parameter(name):
    send_refused(f"llmconfig has no place for '{name}'", maker=Services.Compatible, **{name: True})


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "9"], ids=repr)
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_cap_on_an_answer_is_a_whole_number_from_one(name, value):
    send_refused(f"llmconfig {name} takes a number of tokens >= 1; got", **{name: value})


def test_one_cap_is_given_once():
    send_refused("both max_tokens and max_completion_tokens", max_tokens=1, max_completion_tokens=1)


@pytest.mark.parametrize("model", ["", " ", 5, ["m"]], ids=repr)
def test_a_model_is_a_name(model):
    send_refused("model= takes a name such as 'gpt-4o-mini'; got", model=model)


@pytest.mark.parametrize("name", ["Groq", "Ollama", "Compatible"])
def test_a_call_without_a_model_says_where_to_name_one(name):
    service = getattr(Services, name)(base_url=LOCAL, api_key="k")

    with pytest.raises(ConfigError, match=r"^No model for .*: pass model=\.\.\., or llmconfig="):
        service.send(MESSAGES)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"temperature": math.nan}, r"^nan is not JSON.* at llmconfig\['temperature'\]\.$"),
        ({"stop": [b"x"]}, r"^bytes are not text.* at llmconfig\['stop'\]\[0\]\.$"),
        ({"extra_body": {"x": math.inf}}, r"^inf is not JSON.* at extra_body\['x'\]\.$"),
        ({"extra_body": "x"}, "extra_body= takes a dict of keys"),
        ({"extra_body": [("a", 1)]}, "extra_body= takes a dict of keys"),
        ({"stop": "\ud800"}, r"^The request is not JSON: a lone surrogate .* at \['stop'\]\.$"),
        ({"extra_headers": "X"}, "extra_headers= takes a dict"),
    ],
    ids=["NaN", "bytes", "inf", "text", "pairs", "surrogate", "headers"],
)
def test_what_cannot_be_sent_is_refused_with_its_path(params, match):
    send_refused(match, **params)


def test_half_a_character_in_a_message_is_refused_with_its_path():
    send_refused(
        r"a lone surrogate .* at \['messages'\]\[0\]\['content'\]\.$",
        messages=[{"role": "user", "content": "\ud800"}],
    )


def test_a_missing_key_costs_no_budget_and_no_request():
    service = Services.OpenAI(model="m", base_url=LOCAL, max_requests=1)

    with pytest.raises(ConfigError, match="set OPENAI_API_KEY"):
        service.send(MESSAGES)

    stats = service.stats()
    assert (stats.calls, stats.attempts, stats.budget.dimensions["requests"].used) == (0, 0, 0)
