# SPDX-License-Identifier: MIT
"""JSON Schemas refuse and accept what toml_schema does; they explain keys by the docstrings."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from tasks.util import json_schema, toml_schema
from tasks.util.errors import UserError
from tests.unit.util.test_toml_schema import Outer, Required

WORD = re.compile("[a-z]+|[0-9]+")


@dataclass(frozen=True)
class FromDisk:
    """A file of this machine.

    path: where it lies, as a path
    below the home folder; mode: its permissions.
    from here on, a word and a colon: nothing of the sort is a field.
    """

    kind: Literal["disk"]
    path: str
    mode: int = 0


@dataclass(frozen=True)
class FromNet:
    """A file of another machine."""

    kind: Literal["http", "ftp"] = "http"
    url: str = field(default="", metadata={toml_schema.PATTERN: WORD})


@dataclass(frozen=True)
class Made:
    """A file that a program makes."""

    kind: Literal["made"]
    program: tuple[str, ...]
    """The program and its arguments.

    No shell reads them."""


@dataclass(frozen=True)
class Box:
    """What has a name."""

    name: str = field(metadata={toml_schema.PATTERN: WORD})
    """What it is called."""


@dataclass(frozen=True)
class Files(Box):
    source: FromDisk | FromNet | Made | None = None
    """The main one."""
    more: tuple[FromDisk | FromNet | Made, ...] = ()
    words: tuple[str, ...] = field(default=("x",), metadata={toml_schema.PATTERN: WORD})
    boxes: dict[str, Box] = field(default_factory=dict)
    inherit: str = ""


FILES = json_schema.document(Files, "files.toml")
PARTS = json_schema.document(Files, "files.toml", inherits="inherit")


def accepts(schema: json_schema.Schema, data: object) -> bool:
    return bool(Draft7Validator(schema).is_valid(data))


@pytest.mark.parametrize("schema", [FILES, PARTS, *map(json_schema.of, (Outer, Required))])
def test_the_schemas_are_schemas(schema: json_schema.Schema) -> None:
    Draft7Validator.check_schema(schema)


LEAVES = st.sampled_from(["", "one", "two", "x", 0, 7, True, False, 1.5])
INNER = st.fixed_dictionaries(
    {}, optional={"name": LEAVES, "size": st.sampled_from([0, 3, "3"]), "odd": LEAVES}
)
VALUES = st.one_of(
    LEAVES, INNER, st.lists(st.one_of(LEAVES, INNER), max_size=3), st.dictionaries(st.text(), LEAVES | INNER)
)
GOOD = {
    "text": "x",
    "number": 1,
    "flag": True,
    "mode": "two",
    "items": ["a"],
    "inner": {"name": "n"},
    "either": "e",
    "table": {"a": 1},
}
KEYS = [*GOOD, "many", "named", "class", "odd"]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([Outer, Required]), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3), st.data()
)
def test_schema_and_reader_agree(kind: type[Any], changes: dict[str, object], data: st.DataObject) -> None:
    """On good tables with up to three keys changed and some left out."""
    left_out = data.draw(st.sets(st.sampled_from(KEYS), max_size=2))
    table = {name: value for name, value in (GOOD | changes).items() if name not in left_out}
    if kind is Required:
        table = {name: value for name, value in table.items() if name in (*GOOD, "odd")}
    try:
        toml_schema.build(table, kind, "some.toml", "")
        read = True
    except UserError:
        read = False
    assert accepts(json_schema.of(kind), table) == read


@pytest.mark.parametrize(
    ("source", "good"),
    [
        ({"kind": "disk", "path": "p"}, True),
        ({"kind": "http"}, True),
        ({"kind": "ftp", "url": "abc"}, True),
        ({"kind": "made", "program": ["a", "b"]}, True),
        ({"kind": "disk"}, False),
        ({"kind": "disk", "path": "p", "url": "u"}, False),
        ({"kind": "http", "path": "p"}, False),
        ({"kind": "tape", "path": "p"}, False),
        ({"path": "p"}, False),
        ({"url": "abc"}, False),  # the tag is needed though the class has a default
        ({"kind": "made", "program": "a"}, False),
        ("disk", False),
    ],
)
def test_a_tagged_union_takes_the_keys_of_its_kind(source: object, good: bool) -> None:
    assert accepts(FILES, {"name": "x", "source": source}) == good
    assert accepts(FILES, {"name": "x", "more": [source]}) == good
    assert accepts(PARTS, {"name": "x", "source": source}) == good


def test_kinds_are_told_apart_by_constants() -> None:
    kinds = [kind["properties"]["kind"] for kind in FILES["properties"]["source"]["oneOf"]]
    assert kinds[0]["const"] == "disk"
    assert kinds[1]["enum"] == ["http", "ftp"]


@dataclass(frozen=True)
class Untagged:
    either: Box | FromDisk


@dataclass(frozen=True)
class Odd:
    value: bytes


@pytest.mark.parametrize(
    ("kind", "words"), [(Untagged, "Box, FromDisk: no field"), (Odd, "no JSON Schema is known for .*bytes")]
)
def test_what_no_schema_can_tell_is_refused(kind: type[Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        json_schema.of(kind)


@pytest.mark.parametrize(
    ("table", "good"),
    [
        ({"inherit": "other"}, True),
        ({"inherit": "other", "source": {"path": "p"}}, True),
        ({"inherit": "other", "source": {}}, True),  # of any kind
        ({"inherit": "other", "boxes": {"a": {}}}, True),
        ({"inherit": "other", "source": {"path": 1}}, False),
        ({"inherit": "other", "more": [{"path": "p"}]}, False),  # arrays are not merged
        ({"inherit": "other", "odd": 1}, False),
        ({"inherit": ""}, False),
        ({}, False),
        ({"name": "x"}, True),
        ({"name": "x", "boxes": {"a": {}}}, False),
        ({"name": "x", "boxes": {"a": {"name": "a"}}}, True),
    ],
)
def test_who_inherits_may_leave_out_keys_of_tables(table: dict[str, object], good: bool) -> None:
    assert accepts(PARTS, table) == good


@pytest.mark.parametrize(
    ("table", "good"),
    [
        ({"name": "abc"}, True),
        ({"name": "12"}, True),
        ({"name": "abc1"}, False),
        ({"name": ""}, False),
        ({"name": "a", "words": ["b", "1"]}, True),
        ({"name": "a", "words": ["b", "1-"]}, False),
        ({"name": "a", "source": {"kind": "http", "url": ""}}, True),  # the default, left alone
        ({"name": "a", "source": {"kind": "http", "url": "B"}}, False),
    ],
)
def test_a_pattern_is_that_of_the_whole_string(table: dict[str, object], good: bool) -> None:
    assert accepts(FILES, table) == good


def test_docstrings_become_descriptions() -> None:
    source, name = FILES["properties"]["source"], FILES["properties"]["name"]
    assert source["description"] == "The main one."
    assert name["description"] == "What it is called."
    disk, _, made = source["oneOf"]
    assert disk["description"].startswith("A file of this machine.\n\npath: where")
    assert disk["properties"]["path"]["description"] == "where it lies, as a path\nbelow the home folder"
    assert disk["properties"]["mode"]["description"].startswith("its permissions.")
    assert made["properties"]["program"]["description"].endswith("arguments.\n\nNo shell reads them.")
    assert "description" not in FILES  # dataclasses make themselves a docstring; it says nothing


def test_defaults_are_shown() -> None:
    properties = FILES["properties"]
    assert properties["words"]["default"] == ["x"]
    assert properties["boxes"]["default"] == {}
    assert "default" not in properties["source"]


class Colour(enum.StrEnum):
    RED = "red"
    GREEN = "green"


def test_an_enumeration_is_its_values() -> None:
    assert json_schema.of(Colour) == {"type": "string", "enum": ["red", "green"]}
