# SPDX-License-Identifier: MIT
"""The committed schemas: up to date, named by every TOML file, and as strict as the reader."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from tasks.config.recipe import Recipe
from tasks.report import schemas
from tasks.report.schemas import SCHEMAS, TomlKind
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.profiles import MINIMAL
from tests.unit.config.test_profile import MISTAKES

FILES = [(kind, path) for kind in SCHEMAS for path in kind.toml_files()]
RECIPE = """
deps = ["attr"]
[info]
title = "t"
description = "d"
[[origin]]
kind = "apt"
packages = ["p"]
"""


def validator(name: str) -> Draft7Validator:
    """Return a validator of the committed schema `name`."""
    path = next(kind.path for kind in SCHEMAS if kind.name == name)
    return Draft7Validator(json.loads(path.read_text()))


def accepts(name: str, text: str) -> bool:
    return bool(validator(name).is_valid(tomllib.loads(text)))


@pytest.mark.parametrize("kind", SCHEMAS, ids=lambda kind: kind.name)
def test_the_committed_schemas_are_up_to_date(kind: TomlKind) -> None:
    assert kind.path.read_text() == kind.text(), "run ./doit docs"
    Draft7Validator.check_schema(kind.schema())
    assert kind.toml_files()


def test_no_other_schema_is_committed() -> None:
    assert set(schemas.FOLDER.iterdir()) == {schemas.EVENTS, *(kind.path for kind in SCHEMAS)}


def test_the_committed_schema_of_events_is_up_to_date() -> None:
    assert schemas.EVENTS.read_text() == schemas.events_text(), "run ./doit docs"
    Draft7Validator.check_schema(json.loads(schemas.events_text()))


@pytest.mark.parametrize(
    ("kind", "path"), FILES, ids=[str(path.relative_to(CHECKOUT.root)) for _, path in FILES]
)
def test_every_file_names_its_schema_and_fits_it(kind: TomlKind, path: Path) -> None:
    text = path.read_text()
    first = text.splitlines()[0]
    assert first == schemas.directive(kind, path)
    assert (path.parent / first.removeprefix("#:schema ")).resolve() == kind.path
    errors = validator(kind.name).iter_errors(tomllib.loads(text))
    assert [error.message for error in errors] == []


@pytest.mark.parametrize("old, new, expected", MISTAKES)
def test_mistakes_in_a_profile_are_refused(old: str, new: str, expected: str) -> None:
    assert accepts("profile", MINIMAL)
    assert not accepts("profile", MINIMAL.replace(old, new)), expected


@pytest.mark.parametrize(
    ("table", "good"),
    [
        ('[[system.users]]\nname = "ann"\nuid = 1\n', True),
        ('[[system.users]]\nname = "Ann"\n', False),
        ('[[system.users]]\nname = "ann"\npassword = "secret"\n', False),
        ('[system]\nhostname = ""\n', True),
        ('[system]\nhostname = "a b"\n', False),
        ('[[extensions]]\nname = "attr"\n', True),
        ('[[extensions]]\nname = "../attr"\n', False),
        ('[compiler]\nlauncher = "distccc"\n', False),
    ],
)
def test_names_in_a_profile_have_their_form(table: str, good: bool) -> None:
    assert accepts("profile", MINIMAL + table) == good


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("deps =", "dep =", "unknown key 'dep'"),
        ('["attr"]', '"attr"', "deps: expected an array"),
        ('["attr"]', "[1]", "deps[0]: expected a string"),
        ('title = "t"', "", "missing key 'info.title'"),
        ('title = "t"', "title = 1", "info.title: expected a string"),
        ('title = "t"', 'title = "t"\nsize = "1M"', "unknown key 'info.size'"),
        ("[info]", "[about]", "unknown key 'about'"),
        ("[[origin]]", "[origin]", "origin: expected an array"),
        ('"apt"', '"disk"', "origin[0].kind: expected one of"),
        ('kind = "apt"', "", "missing key 'origin[0].kind'"),
        ('["p"]', '"p"', "origin[0].packages: expected an array"),
        ('packages = ["p"]', "", "origin[0].packages: needed by kind = 'apt'"),
        ('["p"]', '["p"]\nversion = "1"', "origin[0].version: not known to kind = 'apt'"),
        ('["p"]', '["p"]\nalternative = "A"', "origin[0].alternative: expected"),
        ('["p"]', '["p"]\npackage_list = []', "unknown key 'origin[0].package_list'"),
        ('["p"]', '["p"]\nrename = { a = 1 }', "origin[0].rename.a: expected a string"),
        ('["p"]', '["p"]\nkeep = "*"', "origin[0].keep: expected an array"),
    ],
)
def test_mistakes_in_a_recipe_are_refused_by_reader_and_schema(old: str, new: str, expected: str) -> None:
    assert accepts("recipe", RECIPE)
    assert old in RECIPE
    text = RECIPE.replace(old, new)
    with pytest.raises(UserError, match=re.escape(f"recipe.toml: {expected}")):
        toml_schema.build(tomllib.loads(text), Recipe, "recipe.toml", "")
    assert not accepts("recipe", text)
