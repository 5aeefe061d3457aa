"""What the origins of a recipe are, byte for byte: `extensions/NAME/lock.toml`.

Origins of kind apt stand in the profile's lock, for apt vouches for them.  Of all others a
recipe's own lock, committed beside it, has the sha256; which of its entries the last
fetch used stands in `artifacts/PROFILE/origins/NAME.toml`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.config import recipe
from tasks.config.recipe import Origin, Recipe
from tasks.config.settings import Settings
from tasks.origins.lock import SHA256, cached_path, toml_arrays
from tasks.util import toml_schema
from tasks.util.errors import UserError, WrongSha256
from tasks.util.files import sha256_file

FILE_NAME = re.compile(r"[A-Za-z0-9@_][A-Za-z0-9@._+!~-]*")


@dataclass(frozen=True)
class LockedFile:
    """One file of an origin (an archive and a wheel are one each).

    origin: `Origin.identity` of what it belongs to; name: its file name; size: bytes.
    """

    origin: str
    name: str
    sha256: str
    size: int

    def __post_init__(self) -> None:
        if not SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256: expected 64 hex digits, got {self.sha256!r}")
        if not FILE_NAME.fullmatch(self.name):
            raise ValueError(f"name: expected a file's name, got {self.name!r}")

    def cached_in(self, cache: Path) -> Path:
        """Return where the file lies in `cache`, if it was fetched."""
        return cached_path(cache, self.sha256, self.name)

    def is_whole_in(self, cache: Path) -> bool:
        """Tell whether the file lies in `cache` and is the locked one."""
        path = self.cached_in(cache)
        return path.is_file() and sha256_file(path) == self.sha256


@dataclass(frozen=True)
class OriginLock:
    """The files of a recipe's origins."""

    file: tuple[LockedFile, ...] = ()

    def of(self, identity: str) -> tuple[LockedFile, ...]:
        """Return the files of one origin, in the lock's order; none if it is not locked."""
        return tuple(file for file in self.file if file.origin == identity)

    def to_toml(self) -> str:
        """Return the lock as TOML, in a stable order."""
        return toml_arrays(
            "# Written by `doit lock:NAME`; what the recipe's origins are, byte for byte.",
            file=sorted(self.file, key=lambda item: (item.origin, item.name)),
        )


def path(name: str) -> Path:
    """Return the committed lock of the recipe `name`, whether it is there or not."""
    return recipe.folder(name) / "lock.toml"


def used_path(settings: Settings, name: str) -> Path:
    """Return where the last fetch of `name` wrote what it used."""
    return settings.output / "origins" / f"{name}.toml"


def load(where: Path) -> OriginLock:
    """Return the lock at `where`, an empty one if there is none."""
    return toml_schema.load(where, OriginLock) if where.exists() else OriginLock()


def to_lock(made: Recipe) -> list[Origin]:
    """Return the origins that the recipe itself must lock."""
    return [origin for origin in made.origin if origin.identity()]


def unlocked(name: str, made: Recipe) -> list[Origin]:
    """Return the origins of `made` that the committed lock of `name` does not know.

    Raises `UserError` if the lock is malformed.
    """
    known = load(path(name))
    return [origin for origin in to_lock(made) if not known.of(origin.identity())]


def is_cached(settings: Settings, name: str) -> bool:
    """Tell whether all that the last fetch of `name` brought still lies in the cache."""
    try:
        used = load(used_path(settings, name))
    except UserError:  # damaged: to be written anew
        return False
    return all(file.cached_in(settings.cache).is_file() for file in used.file)


def to_fetch(settings: Settings, files: Sequence[LockedFile]) -> list[LockedFile]:
    """Return which of `files` are not whole in the cache.

    Raises `UserError` if there is one and `offline` forbids to fetch it.
    """
    missing = [file for file in files if not file.is_whole_in(settings.cache)]
    if missing and settings.offline:
        there = missing[0].cached_in(settings.cache).exists()
        what = "in the cache is damaged" if there else "is not in the cache"
        message = f"{missing[0].name} {what}, and offline=1 forbids to fetch it"
        raise UserError(message, "run once without offline=1")
    return missing


def entry_of(origin: Origin, name: str, found: Path) -> LockedFile:
    """Return what a lock says of a file of `origin`."""
    return LockedFile(origin.identity(), name, sha256_file(found), found.stat().st_size)


def keep(settings: Settings, file: LockedFile, found: Path) -> None:
    """Move a file into the cache."""
    final = file.cached_in(settings.cache)
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(found, final)


def keep_locked(settings: Settings, file: LockedFile, found: Path, server: str) -> None:
    """Move a file into the cache.  Raises `WrongSha256`, naming the `server`, if it is another one."""
    digest = sha256_file(found)
    if digest != file.sha256:
        message = f"{file.name}: wrong sha256: expected {file.sha256}, got {digest}"
        raise WrongSha256(message, f"{server} serves another file than the locked one")
    keep(settings, file, found)
