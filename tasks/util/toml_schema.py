# SPDX-License-Identifier: MIT
"""TOML files checked against frozen dataclasses, with errors that name file, key and expectation.

A dataclass is the schema: its fields are the allowed keys, their annotations the
expected types, and fields without a default are required.  In a union of
dataclasses, each has a field `kind`, a Literal; the `kind` of a table chooses its schema.
"""

from __future__ import annotations

import dataclasses
import functools
import stat
import tomllib
import types
import typing
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tasks.util.errors import UserError, from_os_error
from tasks.util.files import Stamp, is_settled, stamp
from tasks.util.text import did_you_mean

T = TypeVar("T")

PATTERN = "pattern"
"""Key of a field's metadata: the `re.Pattern` that its strings must match as a whole.

The dataclass checks it in `__post_init__` (`check_patterns`).  tasks/util/json_schema.py writes it for
editors.
"""
SECRET = "secret"
"""Key of a field's metadata: true if nobody may read its value, as that of a password's hash."""
KIND = "kind"
"""The field that distinguishes the dataclasses of a union."""

NAMES = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "an array",
    tuple: "an array",
}


def check_required(one: Any) -> None:
    """Raise `ValueError`, which names the key, if a field without a default is empty; `one` has a `kind`."""
    for field in dataclasses.fields(one):
        if _is_required(field) and not getattr(one, field.name):
            raise ValueError(f"{field.name}: needed by kind = {one.kind!r}")


def check_patterns(one: Any) -> None:
    """Raise `ValueError`, which names the key, if the string of a field does not match its `PATTERN`."""
    for field in dataclasses.fields(one):
        value, form = getattr(one, field.name), field.metadata.get(PATTERN)
        if form and value and not form.fullmatch(value):
            raise ValueError(f"{field.name}: expected {form.pattern}, got {value!r}")


read_stamps: dict[str, Stamp | None] = {}
"""Path -> stamp at the first reading, of every TOML file that this process has read."""


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file's content.  Raises `UserError` if it is absent, unreadable or not TOML.

    A file that has not changed since is not read again: the caller must not change what it gets.
    """
    found = _settled(path)
    read_stamps.setdefault(str(path), stamp(path))
    return _parsed(path, found) if found else _parse(path)


def _settled(path: Path) -> Stamp | None:
    """Return the stamp of a file if a later edit must change it, else None."""
    found = stamp(path)
    return found if found and is_settled(found.ctime) else None


@functools.cache
def _parsed(path: Path, state: Stamp) -> dict[str, Any]:
    return _parse(path)


def _parse(path: Path) -> dict[str, Any]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # the reading of a pipe would wait for ever
            raise UserError(f"{path}: not a regular file", "a TOML file must stand there")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise from_os_error(error) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}", "the file must be valid TOML") from None
    except ValueError:  # Python converts no more digits (sys.set_int_max_str_digits)
        raise UserError(
            f"{path}: an integer in it has too many digits", "TOML's integers have 64 bits"
        ) from None
    except RecursionError:  # tomllib calls itself for every bracket
        raise UserError(f"{path}: nested too deeply", "the file must be valid TOML") from None


def load(path: Path, schema: type[T]) -> T:
    """Read `path` and return it as an instance of the dataclass `schema`, as `read_toml` does.

    Raises `UserError` naming the file, the key and what was expected.
    """
    found = _settled(path)
    loaded: T = _loaded(path, schema, found) if found else build(read_toml(path), schema, str(path), "")  # type: ignore[arg-type]  # classes are hashable
    return loaded


@functools.cache
def _loaded(path: Path, schema: Hashable, state: Stamp) -> Any:
    return build(read_toml(path), schema, str(path), "")


def build(data: Any, schema: Any, file: str, key: str) -> Any:
    """Check `data` found at `key` of `file` against `schema` and return the typed value."""
    if dataclasses.is_dataclass(schema) and isinstance(schema, type):
        return _table(data, schema, file, key)
    origin, args = typing.get_origin(schema), typing.get_args(schema)
    if origin is typing.Literal:
        if data not in args:
            raise _wrong(file, key, _kind_name(schema), data)
        return data
    if origin is tuple:
        if not isinstance(data, list):
            raise _wrong(file, key, "an array", data)
        return tuple(build(item, args[0], file, f"{key}[{n}]") for n, item in enumerate(data))
    if origin is dict:
        if not isinstance(data, dict):
            raise _wrong(file, key, "a table", data)
        return {name: build(item, args[1], file, _join(key, name)) for name, item in data.items()}
    if origin in (typing.Union, types.UnionType):
        members = [arg for arg in args if arg is not type(None)]
        if len(members) == 1:
            return build(data, members[0], file, key)
        fitting = [member for member in members if _fits(data, member)]
        if not fitting:
            raise _wrong(file, key, _kind_name(schema), data)
        if len(fitting) > 1 and isinstance(data, Mapping):
            return _tagged(data, fitting, file, key)
        return build(data, fitting[0], file, key)
    # bool is a subclass of int, and `epoch = true` is a mistake.
    if not isinstance(data, schema) or (schema is int and isinstance(data, bool)):
        raise _wrong(file, key, NAMES.get(schema, str(schema)), data)
    return data


def kinds(schemas: Sequence[type[Any]]) -> dict[str, type[Any]]:
    """Return the dataclasses of a union by the values of their field `kind`, in the union's order."""
    hints = {schema: _hints(schema) for schema in schemas}  # type: ignore[arg-type]  # classes are hashable
    return {kind: schema for schema in schemas for kind in typing.get_args(hints[schema][KIND])}


def _tagged(data: Mapping[str, Any], schemas: Sequence[type[Any]], file: str, key: str) -> Any:
    """Return the table `data` as an instance of that one of `schemas` which its `kind` names."""
    known = kinds(schemas)
    expected = "one of " + ", ".join(map(repr, known))
    where = _join(key, KIND)
    if KIND not in data:
        raise UserError(f"{file}: missing key {where!r}", f"expected {expected}")
    kind = data[KIND]
    if not isinstance(kind, str) or kind not in known:
        raise _wrong(file, where, expected, kind)
    fields_of = {other: _fields(schema) for other, schema in known.items()}  # type: ignore[arg-type]
    fields = fields_of[kind]
    having = {name: [other for other in known if name in fields_of[other]] for name in data}
    _refuse_unknown([name for name in data if not having[name]], fields, file, key)
    for name, field in fields.items():
        if name not in data and _is_required(field):
            hint = f"expected {_kind_name(_hints(known[kind])[field.name])}"  # type: ignore[arg-type]
            raise UserError(f"{file}: {_join(key, name)}: needed by kind = {kind!r}", hint)
    for name in data:
        if name not in fields:
            hint = (
                f"kind = {' or '.join(map(repr, having[name]))} has it; expected one of: {', '.join(fields)}"
            )
            raise UserError(f"{file}: {_join(key, name)}: not known to kind = {kind!r}", hint)
    return _table(data, known[kind], file, key)


def _refuse_unknown(names: Iterable[str], fields: Mapping[str, Any], file: str, key: str) -> None:
    """Raise `UserError` for the first of `names` that is not in `fields`."""
    for name in names:
        if name not in fields:
            hint = did_you_mean(name, fields) or f"expected one of: {', '.join(fields)}"
            raise UserError(f"{file}: unknown key {_join(key, name)!r}", hint)


@functools.cache
def _fields(schema: Hashable) -> dict[str, dataclasses.Field[Any]]:
    """Return the fields of a dataclass by their keys in TOML."""
    return {field.name.rstrip("_"): field for field in dataclasses.fields(schema)}  # type: ignore[arg-type]


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _table(data: Any, schema: type[Any], file: str, key: str) -> Any:
    if not isinstance(data, Mapping):
        raise _wrong(file, key, "a table", data)
    hints = _hints(schema)  # type: ignore[arg-type]  # classes are hashable
    fields = _fields(schema)  # type: ignore[arg-type]
    _refuse_unknown(data, fields, file, key)
    values = {}
    for name, field in fields.items():
        if name in data:
            values[field.name] = build(data[name], hints[field.name], file, _join(key, name))
        elif _is_required(field):
            expected = f"expected {_kind_name(hints[field.name])}"
            raise UserError(f"{file}: missing key {_join(key, name)!r}", expected)
    try:
        return schema(**values)
    except ValueError as error:  # a dataclass's own __post_init__ check
        raise UserError(f"{file}: {_join(key, str(error))}") from None


@functools.cache
def _hints(schema: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(schema)  # reads the annotations' text each time


def _fits(data: Any, kind: Any) -> bool:
    if dataclasses.is_dataclass(kind):
        return isinstance(data, Mapping)
    return isinstance(data, typing.get_origin(kind) or kind)


def _kind_name(kind: Any) -> str:
    """Say in words what a value of the annotation `kind` looks like in TOML."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, args))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind_name(arg) for arg in args if arg is not type(None)))
    return NAMES.get(origin or kind, "a table")


def _wrong(file: str, key: str, expected: str, data: Any) -> UserError:
    return UserError(f"{file}: {key or 'the file'}: expected {expected}, got {data!r}")


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
