"""The names of the package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lionlite

pytestmark = pytest.mark.quick


def test_all_is_sorted_and_short():
    assert lionlite.__all__ == sorted(set(lionlite.__all__))
    assert len(lionlite.__all__) <= 30


@pytest.mark.parametrize("name", lionlite.__all__)
def test_every_name_can_be_had(name):
    value = lionlite.__getattr__(name)

    assert getattr(lionlite, name) is value
    # LionAGI's second names.
    own_name = {"alcall": "lcall", "cd": "CallDecorator"}.get(name, name)
    assert value.__name__.removeprefix("lionlite.") == own_name


def test_a_star_brings_every_name():
    names = {}

    exec("from lionlite import *", names)

    assert set(lionlite.__all__) <= names.keys()


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(lionlite.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))

    seen = {
        alias.asname or alias.name
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert seen == set(lionlite.__all__)


@pytest.mark.parametrize("name", ["Sesion", "_ROOM", "conversations", "__wrapped__"])
def test_an_unknown_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"^module 'lionlite' has no attribute '{name}'$"):
        getattr(lionlite, name)


def test_dir_lists_what_is_public():
    assert dir(lionlite) == sorted([*lionlite.__all__, "__version__"])


def test_the_version_is_that_of_the_release():
    assert lionlite.__version__.count(".") == 2
    assert all(part.isdecimal() for part in lionlite.__version__.split("."))


@pytest.mark.parametrize("name", sorted(set(lionlite.__all__) - {"exceptions", "testing"}))
def test_every_name_says_what_it_is(name):
    first_line = (getattr(lionlite, name).__doc__ or "").split("\n", maxsplit=1)[0]

    assert first_line.endswith(".")
    assert len(first_line) <= 90
