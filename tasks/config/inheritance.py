# SPDX-License-Identifier: MIT
"""Inheritance of profiles: `inherit = "NAME"` at the top of a profile.

Tables are merged key by key, but a table that says its `kind` replaces the inherited one.  A value
of the profile replaces the inherited value.  `extensions` and `check` are the exceptions: their entries
are added to the inherited ones, and an entry with the name of an inherited one replaces it in its place.
Below them all lies what the profile's `release` gives (tasks/config/release.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tasks.config import architecture, release
from tasks.util.errors import UserError
from tasks.util.toml_schema import KIND, build, read_toml

T = TypeVar("T")
KEY = "inherit"
EXTENSIONS, CHECKS = "extensions", "check"
ADDED = (EXTENSIONS, CHECKS)
OFF = "off"


def file_of(folders: Sequence[Path], name: str) -> Path:
    """Return the file of the profile `name` in the first of `folders` that has it; it may not exist."""
    there = (folder / f"{name}.toml" for folder in folders)
    return next((path for path in there if path.is_file()), folders[-1] / f"{name}.toml")


def lineage(folders: Sequence[Path], name: str) -> list[Path]:
    """Return the file of the profile `name` and the files it inherits from, nearest first.

    folders: where profiles are looked up, in this order.  A profile that inherits its own name inherits
    that of a later folder.
    Raises `UserError` if a file does not exist or is not TOML, and for a circle of profiles.
    """
    files: list[Path] = []
    while True:
        hides = bool(files) and files[-1].stem == name
        below = folders[folders.index(files[-1].parent) + 1 :] if hides else []
        path = file_of(below or folders, name)
        if path in files:
            circle = " -> ".join(file.stem for file in [*files[files.index(path) :], path])
            raise UserError(f"{files[-1]}: inherit: profiles inherit from each other in a circle: {circle}")
        if files and not path.is_file():
            every = (file for folder in folders for file in folder.glob("*.toml"))
            there = sorted({file.stem for file in every if ".lock" not in file.suffixes})
            message = f"{files[-1]}: inherit: there is no profile {name!r}"
            raise UserError(message, f"profiles: {', '.join(there)}")
        files.append(path)
        above = read_toml(path).get(KEY, "")
        if not isinstance(above, str):
            raise UserError(f"{path}: inherit: expected a string, got {above!r}")
        if not above:
            return files
        name = above


def load(folders: Sequence[Path], name: str, schema: type[T]) -> T:
    """Return the profile `name`, merged with what it inherits, as an instance of the dataclass `schema`.

    Raises `UserError` as `lineage` does, and for a malformed file, which the message names.
    """
    for path, table in layers(folders, name):
        loaded: T = build(completed(table, str(path)), schema, str(path), "")
    return loaded


def layers(folders: Sequence[Path], name: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each file of the profile `name`, its own last, with the tables of it and those below it merged.

    Raises `UserError` as `lineage` does.
    """
    result: dict[str, Any] = {}
    for path in reversed(lineage(folders, name)):
        own = read_toml(path)
        _refuse_twins(own, path)
        result = merged(result, own)
        yield path, result


def _refuse_twins(table: Mapping[str, Any], path: Path) -> None:
    """Raise `UserError` if a profile names an extension or a check twice: one of them would be lost."""
    for key in ADDED:
        items = table.get(key, [])
        seen: set[str] = set()
        for number, name in enumerate(map(_name, items) if isinstance(items, list) else ()):
            if name in seen:
                raise UserError(f"{path}: {key}[{number}]: {name!r} is named twice", "remove one of them")
            seen.add(name)


def completed(table: Mapping[str, Any], file: str) -> dict[str, Any]:
    """Return the tables of a profile with what its release gives.  Raises `UserError` as `release.values`.

    A source of the same kind as the release's leaves to it what it does not say, such as a version.
    """
    return merged(release.values(table, file), table, join_kinds=True)


def merged(below: Mapping[str, Any], above: Mapping[str, Any], *, join_kinds: bool = False) -> dict[str, Any]:
    """Return the tables `below`, overridden by `above` as the module's docstring says.

    join_kinds: tables of the same kind are merged, too.
    """
    result = _tables(below, above, join_kinds)
    for key in ADDED:
        old, new = below.get(key, []), above.get(key, [])
        if isinstance(old, list) and isinstance(new, list) and (old or new):  # else the schema reports it
            again = {_name(item): item for item in new}
            kept = [_replaced(item, again.pop(_name(item), item)) for item in old]
            result[key] = kept + [item for item in new if _name(item) in again]
    return result


def _replaced(old: Any, new: Any) -> Any:
    """Return the entry that replaces `old`; one that is off keeps what `old` says, or it could not be told
    from one that switches off what is not there."""
    off = isinstance(old, Mapping) and isinstance(new, Mapping) and new.get(OFF) is True
    return {**old, **new} if off else new


def file_with(files: Sequence[Path], key: str, name: str) -> Path:
    """Return the first of the `files` of a profile, nearest first, that has the entry `name` in `key`.

    key: one of `ADDED`.
    """
    for path in files:
        items = read_toml(path).get(key, [])
        if isinstance(items, list) and any(_name(item) == name for item in items):
            return path
    return files[0] if files else Path("profiles")


def _tables(below: Mapping[str, Any], above: Mapping[str, Any], join_kinds: bool) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        old = below.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        # Another kind has other keys (toml_schema's unions), and a kernel of kind image one of several forms.
        same = both and (KIND not in value or (join_kinds and value[KIND] == old.get(KIND)))  # type: ignore[union-attr]
        result[key] = _tables(old, value, join_kinds) if same else value  # type: ignore[arg-type]
    return result


def _name(item: Any) -> str:
    return str(item.get("name", item)) if isinstance(item, Mapping) else str(item)


def pinned_lock(folders: Sequence[Path], name: str) -> Path:
    """Return the lock of the profile `name`: its own if it exists, else the nearest inherited one.

    A lock lies beside its profile.  A profile of another architecture has other packages, so its lock is
    not inherited.
    """
    file = file_of(folders, name)
    own = lock_of(file)
    if own.exists() or not file.is_file():
        return own
    files = lineage(folders, name)
    same = [file for number, file in enumerate(files) if _arch(files[number:]) == _arch(files)]
    return next((lock for lock in map(lock_of, same) if lock.exists()), own)


def lock_of(file: Path) -> Path:
    """Return the lock beside the file of a profile."""
    return file.with_suffix(".lock.toml")


def _arch(files: Sequence[Path]) -> Any:
    """Return the architecture of the first of the `files` of a profile, nearest first."""
    return next(filter(None, (read_toml(file).get("arch") for file in files)), architecture.DEFAULT)
