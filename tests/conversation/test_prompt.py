"""Prompt: a template filled by the fields of a row, as a function to map."""

from __future__ import annotations

import copy
import math
import pickle
from collections import namedtuple
from dataclasses import dataclass
from datetime import date
from enum import Enum
from types import SimpleNamespace

import attrs
import pandas as pd
import pytest

from lionlite import Services, set_default_service
from lionlite.calls.family import lcall
from lionlite.calls.runs.run import run
from lionlite.conversation.prompt import Prompt
from lionlite.exceptions import ConfigError
from lionlite.testing import FakeProvider


@attrs.frozen
class Review:
    text: str
    stars: int = 3


@dataclass
class Note:
    text: str
    stars: int = 3


Row = namedtuple("Row", "text stars")  # noqa: PYI024
Color = Enum("Color", {"RED": "red"})


@pytest.fixture
def provider():
    with FakeProvider(lambda body: body["messages"][-1]["content"].upper()) as provider:
        yield provider


@pytest.fixture
def service(provider):
    with provider.service() as service:
        yield service


@pytest.mark.parametrize(
    "row",
    [
        {"text": "fine", "stars": 3, "more": object()},
        Review("fine"),
        Note("fine"),
        Row("fine", 3),
        pd.Series({"text": "fine", "stars": 3}),
        SimpleNamespace(text="fine", stars=3),
    ],
    ids=["dict", "attrs", "dataclass", "namedtuple", "series", "object"],
)
def test_fields_come_from_the_row_by_name(row):
    assert Prompt("{stars} stars: {text}.").render(row) == "3 stars: fine."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        ("{stars} {{x}}", "{stars} {{x}}"),
        (3, "3"),
        (2.5, "2.5"),
        (True, "true"),
        ([1, "a"], '[1,"a"]'),
        ((1, 2), "[1,2]"),
        (date(2026, 1, 2), "2026-01-02"),
        (Color.RED, "red"),
        ("", ""),
    ],
    ids=repr,
)
def test_text_goes_in_as_it_is_and_the_rest_as_json(value, text):
    assert Prompt("<{x}>").render(value) == f"<{text}>"
    assert Prompt("<{x}> {x}").render({"x": value}) == f"<{text}> {text}"


def test_a_nested_value_goes_in_as_json():
    assert Prompt("<{x}>").render({"x": {"a": [1]}}) == '<{"a":[1]}>'


def test_fields_are_told_in_order_and_once():
    assert Prompt("{b} {a} {b} {review text}").fields == ("b", "a", "review text")


def test_doubled_braces_are_braces():
    assert Prompt('{{"label": {x}}}').render("y") == '{"label": y}'


@pytest.mark.parametrize(
    "template",
    [
        "{text.__class__}",
        "{text[0]}",
        "{0}",
        "{}",
        "{text!r}",
        "{text:>10}",
        "{text:{width}}",
        '{"label": 1}',
        "{ text }",
        "{a:b}",
    ],
)
def test_only_plain_names_are_fields(template):
    with pytest.raises(ConfigError, match="A field of a template is a plain name"):
        Prompt(template)


@pytest.mark.parametrize("template", ["{text", "text}", "}{"])
def test_a_template_that_does_not_parse_says_how_to_write_braces(template):
    with pytest.raises(ConfigError, match=r"does not parse: .* Write \{\{ and \}\} for braces"):
        Prompt(template)


@pytest.mark.parametrize("template", ["Classify.", "", "{{text}}"])
def test_a_template_without_a_field_is_a_mistake(template):
    with pytest.raises(ConfigError, match="no field to fill"):
        Prompt(template)


def test_a_template_is_a_text():
    with pytest.raises(ConfigError, match="The template is a text"):
        Prompt(b"{text}")


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"txet": "a"}, "no field 'text': did you mean 'txet'"),
        ({"a": 1, "b": 2}, "no field 'text': known: a, b"),
        (Review, "'text' cannot be said in the prompt"),
        ({"text": None}, "'text' is missing"),
        ({"text": math.nan}, "'text' is missing"),
        ({"text": pd.NA}, "'text' is missing"),
        (None, "'text' is missing"),
        (math.nan, "'text' is missing"),
        ({"text": [1, math.nan]}, "'text' cannot be said in the prompt"),
        ({"text": object()}, "'text' cannot be said in the prompt"),
    ],
    ids=repr,
)
def test_a_row_that_does_not_fill_it_is_named(row, match):
    with pytest.raises(ConfigError, match=match):
        Prompt("Classify: {text}").render(row)


@pytest.mark.parametrize("row", ["text", 5, (1, 2)], ids=repr)
def test_several_fields_need_a_row_with_names(row):
    with pytest.raises(ConfigError, match=r"2 fields \(a, b\), so it takes rows with names"):
        Prompt("{a} {b}").render(row)


def test_each_row_is_a_session_of_its_own(provider, service):
    prompt = Prompt("Say {text}", service=service, system="Be terse.", temperature=0, model="m")

    answers = lcall([{"text": "a"}, {"text": "b"}], prompt, max_workers=1)

    assert answers == ["SAY A", "SAY B"]
    assert [request.body for request in provider.requests] == [
        {
            "model": "m",
            "temperature": 0,
            "messages": [
                {"role": "system", "content": "Be terse."},
                {"role": "user", "content": f"Say {text}"},
            ],
        }
        for text in "ab"
    ]


def test_a_prompt_maps_a_column_in_many_threads(provider, service):
    prompt = Prompt("Say {text}", service=service)
    texts = pd.Series([f"t{n}" for n in range(64)])

    result = run(texts, prompt, max_workers=16)

    assert result.to_pandas()["value"].tolist() == [f"SAY T{n}" for n in range(64)]


def test_rows_that_lack_a_field_are_skipped_when_asked(provider, service):
    frame = pd.DataFrame({"text": ["a", None, "c"], "n": [1, 2, 3]})

    result = run(frame, Prompt("Say {text}", service=service), skip_missing=True)

    assert (result.results, result[1].is_skipped) == (["SAY A", None, "SAY C"], True)
    assert len(provider.requests) == 2


def test_without_a_service_it_asks_the_default_one_and_pickles(provider, service):
    prompt = Prompt("Say {text}", system="s", timeout=20, extra_body={"x": 1}, seed=0)

    copied = pickle.loads(pickle.dumps(prompt))
    set_default_service(service)
    try:
        answer = copied("hi")
    finally:
        set_default_service(None)

    assert (answer, copied.fields, repr(copied)) == ("SAY HI", prompt.fields, repr(prompt))
    body = provider.requests[0].body
    assert (body["x"], body["seed"], body["messages"][0]["content"]) == (1, 0, "s")


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_with_a_service_it_does_not_pickle_and_says_the_cure(service, copied):
    with pytest.raises(ConfigError, match=r"service= does not pickle.*set_default_service\(\)"):
        copied(Prompt("{text}", service=service))


def test_a_misspelt_parameter_is_found_at_the_call(provider):
    with Services.OpenAI(base_url=provider.base_url, api_key="k", model="m") as service:
        prompt = Prompt("{text}", service=service, temperatur=0)

        with pytest.raises(ConfigError, match="did you mean 'temperature'"):
            prompt("fine")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"service": "OpenAI"}, "service= takes a Service"),
        ({"system": ""}, "system= takes a text"),
        ({"timeout": -1}, "timeout"),
        ({"extra_headers": {}}, "llmconfig has no place for 'extra_headers'"),
    ],
    ids=["service", "system", "timeout", "extra_headers"],
)
def test_wrong_arguments_are_found_at_once(options, match):
    with pytest.raises(ConfigError, match=match):
        Prompt("{text}", **options)


def test_a_prompt_shows_its_template_and_model_only(service):
    prompt = Prompt("Say {text}", service=service, model="m", system="secret")

    assert repr(prompt) == "Prompt('Say {text}', model='m')"
