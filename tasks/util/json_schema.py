# SPDX-License-Identifier: MIT
"""JSON Schemas of the dataclasses that tasks/util/toml_schema.py checks TOML files against.

An editor with Taplo (in VS Code the extension Even Better TOML) reads such a schema and
completes keys, explains them and underlines mistakes while a file is written.

The draft is 07 (https://json-schema.org/draft-07).  Taplo documents full support of draft 04
only and validates draft 07 too; from 07 the schemas take `const`, `if` and `else`.  No
schema holds a `$ref`: Taplo ignores whatever stands beside one, a description for example.

A schema says what a value looks like.  It does not contain the rules that a
dataclass checks in `__post_init__`, except the regular expressions in the metadata of its fields
(`field(metadata={"pattern": re.Pattern})`).
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Hashable, Iterable
from typing import Any

from tasks.util.toml_schema import PATTERN

DRAFT = "http://json-schema.org/draft-07/schema#"
OTHERS_TOO = {"additionalProperties": True}
"""The default of a schema.  It is written out because Tombi warns of every other key without it."""
TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}

Schema = dict[str, Any]


def document(
    schema: Any, title: str, inherits: str = "", giver: str = "", given: tuple[str, ...] = ()
) -> Schema:
    """Return the JSON Schema of a file that is checked against the dataclass `schema`, or a union of some.

    inherits: the key, if there is one, that names another file whose tables this file is merged
    into, key by key.  A file with that key may leave out any key of its tables; the items of
    its arrays must be whole.
    giver: a further key, if there is one, that gives a file the keys `given`, as `table.key`.
    Raises `TypeError` for an annotation without a JSON Schema.
    """
    head = {"$schema": DRAFT, "title": title}
    if not inherits:
        return head | of(schema)
    demands = _demands(of(schema))
    if giver:
        demands = {"if": _names(giver), "then": _without(demands, given), "else": demands}
    return head | of(schema, partial=True) | {"if": _names(inherits), "else": demands}


def _names(key: str) -> Schema:
    """Return the schema of a file that has a text at `key`."""
    return {"required": [key], "properties": {key: {"minLength": 1}}} | OTHERS_TOO


def _without(demands: Schema, keys: Iterable[str]) -> Schema:
    """Return what `_demands` returned, but nothing that it demands of `keys` (as `table.key`)."""
    names = {key for key in keys if "." not in key}
    tables = {}
    for name, table in demands.get("properties", {}).items():
        if name not in names:
            below = [key.removeprefix(f"{name}.") for key in keys if key.startswith(f"{name}.")]
            tables[name] = _without(table, below) if below else table
    required = [name for name in demands.get("required", []) if name not in names]
    return demands | {"required": required, "properties": tables}


def of(schema: Any, partial: bool = False) -> Schema:
    """Return the JSON Schema of the annotation `schema`.

    partial: whether tables may lack keys that another file has.
    Raises `TypeError` for an annotation without a JSON Schema.
    """
    if dataclasses.is_dataclass(schema) and isinstance(schema, type):
        return _table(schema, partial)
    origin, args = typing.get_origin(schema), typing.get_args(schema)
    if origin is typing.Literal:
        kinds = {TYPES[type(arg)] for arg in args}
        kind = {"type": kinds.pop()} if len(kinds) == 1 else {}
        return kind | ({"const": args[0]} if len(args) == 1 else {"enum": list(args)})
    if origin is tuple:
        return {"type": "array", "items": of(args[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": of(args[1], partial)}
    if origin in (typing.Union, types.UnionType):
        return _union([arg for arg in args if arg is not type(None)], partial)
    if schema in TYPES:
        return {"type": TYPES[schema]}
    if isinstance(schema, type) and issubclass(schema, enum.StrEnum):
        return {"type": "string", "enum": [str(one) for one in schema]}
    raise TypeError(f"no JSON Schema is known for {schema!r}")


def _table(schema: type[Any], partial: bool, tag: str = "") -> Schema:
    hints = typing.get_type_hints(schema)
    class_text, notes = _docstrings(schema)  # type: ignore[arg-type]  # classes are hashable
    properties, required = {}, []
    for field in dataclasses.fields(schema):
        name = field.name.rstrip("_")
        found = of(hints[field.name], partial) | _default(field)
        if PATTERN in field.metadata:
            strings = found.get("items", found)
            strings["pattern"] = _anchored(field.metadata[PATTERN], optional=field.default == "")
        if field.name in notes:
            found["description"] = notes[field.name]
        properties[name] = found
        if name == tag or not _has_default(field):
            required.append(name)
    result: Schema = {"description": class_text} if class_text else {}
    result |= {"type": "object", "properties": properties, "additionalProperties": False}
    return result if partial or not required else result | {"required": required}


def _union(kinds: list[Any], partial: bool) -> Schema:
    """Return the schema of a value of one of `kinds`; dataclasses are told apart by their tag.

    The tag is the field that all of them have with a `Literal` of different values.
    """
    if len(kinds) == 1:
        return of(kinds[0], partial)
    tables = [kind for kind in kinds if dataclasses.is_dataclass(kind)]
    tag = _tag(tables) if len(tables) > 1 else ""
    found = [_table(kind, partial, tag) if kind in tables else of(kind, partial) for kind in kinds]
    # A partial table may lack its tag, so it may fit several kinds.
    return {"anyOf" if partial else "oneOf": found}


def _tag(tables: list[Any]) -> str:
    hints = [typing.get_type_hints(table) for table in tables]
    for field in dataclasses.fields(tables[0]):
        found = [hint.get(field.name) for hint in hints]
        values = [value for hint in found for value in typing.get_args(hint)]
        literal = all(typing.get_origin(hint) is typing.Literal for hint in found)
        if literal and len(set(values)) == len(values):
            return field.name
    names = ", ".join(table.__name__ for table in tables)
    raise TypeError(f"{names}: no field with a Literal of its own tells them apart")


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return not (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)


def _default(field: dataclasses.Field[Any]) -> Schema:
    """Return the default of a field as JSON; {} if there is none, or if it is no JSON value."""
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if isinstance(value, tuple):
        value = list(value)
    return {"default": value} if isinstance(value, str | int | float | list | dict) else {}


def _anchored(pattern: re.Pattern[str], optional: bool) -> str:
    # A schema's pattern is searched for; a dataclass checks by fullmatch.
    return f"^(?:{pattern.pattern}){'?' if optional else ''}$"


def _demands(schema: Schema) -> Schema:
    """Return the required keys of `schema` at all levels, for a file that inherits nothing."""
    if "oneOf" in schema:
        return schema
    tables = {name: found for name, part in schema.get("properties", {}).items() if (found := _demands(part))}
    result = {"required": schema["required"]} if "required" in schema else {}
    result |= {"properties": tables} if tables else {}
    others = schema.get("additionalProperties")
    more = _demands(others) if isinstance(others, dict) else {}
    if more:
        return result | {"additionalProperties": more}
    return result | OTHERS_TOO if result else {}


@functools.cache
def _docstrings(schema: Hashable) -> tuple[str, dict[str, str]]:
    """Return the docstring of a dataclass, and what it says of its fields, by their names.

    A field is described by a string literal after it, or in the class's docstring where a line
    (or a clause, after a semicolon) begins with its name and a colon; several names have commas
    between.  Fields of a base class are described in the base class.
    """
    assert isinstance(schema, type)
    notes: dict[str, str] = {}
    text = ""
    for base in reversed([base for base in schema.__mro__ if dataclasses.is_dataclass(base)]):
        node = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(node, ast.ClassDef)
        text = ast.get_docstring(node) or ""
        names = {field.name for field in dataclasses.fields(base)}
        notes |= dict(_described_in(text, names)) | dict(_described_after(node))
    return text, notes


def _described_after(node: ast.ClassDef) -> Iterable[tuple[str, str]]:
    """Yield the fields of a class that a string literal follows, and the literal."""
    for field, after in zip(node.body, node.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            yield field.target.id, inspect.cleandoc(str(after.value.value))


def _described_in(text: str, names: set[str]) -> Iterable[tuple[str, str]]:
    """Yield the fields of `names` that lines of a docstring begin with, and what follows."""
    any_name = "|".join(sorted(names, key=len, reverse=True))
    for paragraph in text.split("\n\n"):
        parts = re.split(rf"(?:^|\n|(?<=; ))((?:{any_name})(?:, (?:{any_name}))*): ", paragraph)
        for listed, said in zip(parts[1::2], parts[2::2], strict=True):
            yield from ((name, said.rstrip().removesuffix(";")) for name in listed.split(", "))
