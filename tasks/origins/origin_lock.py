# SPDX-License-Identifier: MIT
"""The lock of a recipe's origins: `extensions/NAME/lock.toml`.

TOML: the array `file`, each entry with the identity of its origin, a name, a sha256 and a size.
Packages of origins of kind `apt` are locked in the profile's lock (tasks/origins/lock.py).
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.formats import go_module
from tasks.origins.lock import SHA256, cached_path, toml_arrays
from tasks.util import toml_schema
from tasks.util.errors import UserError, WrongSha256
from tasks.util.files import sha256_file

FILE_NAME = re.compile(r"[A-Za-z0-9@_][A-Za-z0-9@._+!~-]*")


@dataclass(frozen=True)
class OriginFile:
    """One file of an origin (an archive or a wheel is a single file).

    origin: the identity of the origin it belongs to; name: its file name; size: bytes, 0 if it was
    locked by a published sha256 and never fetched.
    h1: of a Go module's zip, the hash of what is in it.  Another zip with the same content will do.
    published_by: who publishes the sha256 that it was locked by, if upstream does not.
    """

    origin: str
    name: str
    sha256: str
    size: int
    h1: str = ""
    published_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.h1 and not go_module.H1.fullmatch(self.h1):
            raise ValueError(f"h1: expected h1: and a sha256 in base64, got {self.h1!r}")
        if not SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256: expected 64 hex digits, got {self.sha256!r}")
        if not FILE_NAME.fullmatch(self.name):
            raise ValueError(f"name: expected a file's name, got {self.name!r}")

    def cached_in(self, cache: Path) -> Path:
        """Return the path of the file in `cache`; it exists if it was fetched."""
        return cached_path(cache, self.sha256, self.name)

    def is_cached_in(self, cache: Path) -> bool:
        """Tell whether `cache` holds the file with the locked sha256, or a zip with the locked h1."""
        path = self.cached_in(cache)
        return path.is_file() and self.is_in(path)

    def is_in(self, path: Path) -> bool:
        """Tell whether the file `path` is the locked one."""
        return sha256_file(path) == self.sha256 or bool(self.h1 and go_module.h1(path) == self.h1)

    def table(self) -> dict[str, Any]:
        """Return the entry as a table of the lock; what does not apply to its kind is left out."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value not in ("", ())}


@dataclass(frozen=True)
class OriginLock:
    """The files of a recipe's origins."""

    file: tuple[OriginFile, ...] = ()

    def of(self, identity: str) -> tuple[OriginFile, ...]:
        """Return the files of one origin, in the lock's order; none if it is not locked."""
        return tuple(file for file in self.file if file.origin == identity)

    def to_toml(self) -> str:
        """Return the lock as TOML, in a stable order."""
        return toml_arrays(
            "# Written by `doit lock:NAME`; what the recipe's origins are, byte for byte.",
            file=[item.table() for item in sorted(self.file, key=lambda item: (item.origin, item.name))],
        )


def load(path: Path) -> OriginLock:
    """Return the lock at `path`, an empty one if the file does not exist.

    Raises `UserError` if it is malformed.
    """
    return toml_schema.load(path, OriginLock) if path.exists() else OriginLock()


def entry_of(identity: str, name: str, found: Path) -> OriginFile:
    """Return the lock entry for the file `found` of the origin `identity`."""
    return OriginFile(identity, name, sha256_file(found), found.stat().st_size)


def store(cache: Path, file: OriginFile, found: Path) -> None:
    """Move `found`, a file on the cache's file system, to its path in `cache`."""
    final = file.cached_in(cache)
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(found, final)


def store_locked(cache: Path, file: OriginFile, found: Path, server: str) -> None:
    """Move `found` into `cache`.  Raises `WrongSha256`, which names `server`, if it is another file."""
    if not file.is_in(found):
        message = f"{file.name}: wrong sha256: expected {file.sha256}, got {sha256_file(found)}"
        raise WrongSha256(message, f"{server} serves another file than the locked one")
    store(cache, file, found)


def missing_files(files: Sequence[OriginFile], cache: Path, *, offline: bool) -> list[OriginFile]:
    """Return those of `files` that `cache` lacks or holds damaged.

    Raises `UserError` if there is one and `offline` is set.
    """
    missing = [file for file in files if not file.is_cached_in(cache)]
    if missing and offline:
        there = missing[0].cached_in(cache).exists()
        what = "in the cache is damaged" if there else "is not in the cache"
        message = f"{missing[0].name} {what}, and offline=1 forbids to fetch it"
        raise UserError(message, "run once without offline=1")
    return missing
