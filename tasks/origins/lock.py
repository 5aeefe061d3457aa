# SPDX-License-Identifier: MIT
"""Locks: the exact inputs of a profile, and their paths in the cache.

A profile's lock is TOML: the arrays `archive`, `needs`, `package`, `file`, `extension` and
`commit`.  A package, a file and an extension have a sha256, a commit the ids that git gives it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import tomli_w

from tasks.formats.tcz import EXTENSION_NAME
from tasks.util import toml_schema
from tasks.util.errors import UserError

CORE = "core"
"""The user of packages whose entries are those of the base root."""

SHA256 = re.compile(r"[0-9a-f]{64}")

# Debian Policy, 5.6.1 and 5.6.12.  They become the name of a file in the cache.
PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")
PACKAGE_VERSION = re.compile(r"[0-9A-Za-z.+:~-]+")

OBJECT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""The id of an object of git (gitformat-pack(5)): SHA-1 or SHA-256."""

MD5 = re.compile(r"[0-9a-f]{32}")

DATE = "%Y%m%dT%H%M%SZ"
"""A date as snapshot archives write it."""


@dataclass(frozen=True)
class LockedPackage:
    """A Debian package: its exact version, the sha256 of the .deb and where it lies.

    archive: the archive of the distribution that has it, as debian-security; path: of the .deb below
    a mirror of that archive.
    """

    name: str
    version: str
    sha256: str
    archive: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        for key, form in (("name", PACKAGE_NAME), ("version", PACKAGE_VERSION)):
            if not form.fullmatch(getattr(self, key)):
                raise ValueError(f"{key}: expected that of a Debian package, got {getattr(self, key)!r}")
        if not SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256: expected 64 hex digits, got {self.sha256!r}")
        if self.path.startswith("/") or ".." in self.path.split("/"):
            raise ValueError(f"path: expected a path below a mirror, got {self.path!r}")

    def cached_in(self, cache: Path) -> Path:
        """Return the path of the .deb in `cache`; it exists if it was fetched."""
        # An epoch's colon is written %3a in the file name, as apt does.
        name = f"{self.name}_{self.version.replace(':', '%3a')}.deb"
        return cached_path(cache, self.sha256, name)


@dataclass(frozen=True)
class LockedArchive:
    """A part of a suite when it was locked.

    name: of the archive; suite: the folder below its `dists/`; date: of the Release file, as
    20260711T101637Z.  A snapshot archive has the packages of that date.
    """

    name: str
    suite: str
    date: str

    def __post_init__(self) -> None:
        try:
            datetime.strptime(self.date, DATE)
        except ValueError:
            raise ValueError(f"date: expected one like 20260711T101637Z, got {self.date!r}") from None


@dataclass(frozen=True)
class LockedNeeds:
    """The packages that one user of packages needs beside those that it names.

    of: `core`, or the name of an extension; named: the packages that the profile or the recipe names;
    packages: those with the shared libraries that the named ones need.
    takes: a digest of which of their files are taken (tasks/config/taken.py), "" if that was not recorded.
    """

    of: str
    named: tuple[str, ...]
    packages: tuple[str, ...]
    takes: str = ""


@dataclass(frozen=True)
class LockedFile:
    """A file below a mirror: its path there and its sha256.

    vouched: what others publish of it: its `sha256`, its `md5` alone, or `nobody` anything; empty if
    nobody looked.
    published_by: who publishes that hash.
    """

    path: str
    sha256: str
    vouched: Literal["", "sha256", "md5", "nobody"] = ""
    published_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256: expected 64 hex digits, got {self.sha256!r}")

    def cached_in(self, cache: Path) -> Path:
        """Return the path of the file in `cache`; it exists if it was fetched."""
        return cached_path(cache, self.sha256, Path(self.path).name)

    @property
    def trust(self) -> str:
        """What vouches for the file, in words."""
        by = ", ".join(self.published_by)
        words = {
            "sha256": f"its sha256 is published by {by}",
            "md5": f"md5 only, published by {by}",
            "nobody": "nobody publishes a hash of it",
            "": "locked, and nobody looked who publishes its hash",
        }
        return words[self.vouched]


@dataclass(frozen=True)
class LockedExtension:
    """An upstream extension: its .tcz and its .dep when it was locked.

    name: without .tcz, `-KERNEL` replaced; sha256, md5, size: of the .tcz, size in bytes; deps:
    the names in its .dep, without .tcz, `-KERNEL` not replaced.
    """

    name: str
    sha256: str
    md5: str
    size: int
    deps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.name, *self.deps):
            if not EXTENSION_NAME.fullmatch(name):
                raise ValueError(f"name: expected an extension's name, got {name!r}")
        for key, form in (("sha256", SHA256), ("md5", MD5)):
            if not form.fullmatch(getattr(self, key)):
                raise ValueError(f"{key}: expected hex digits, got {getattr(self, key)!r}")

    def cached_in(self, cache: Path) -> Path:
        """Return the path of the .tcz in `cache`; it exists if it was fetched."""
        return cached_path(cache, self.sha256, f"{self.name}.tcz")


@dataclass(frozen=True)
class LockedCommit:
    """A commit of a git repository.

    url: of the repository; ref: the tag, branch or commit that was asked for; commit, tree: the ids of the
    commit and of its files (40 hex digits of SHA-1, or 64 of SHA-256).
    signed_by: the fingerprint of the key whose signature of the tag was verified, "" for none.
    """

    url: str
    ref: str
    commit: str
    tree: str
    signed_by: str = ""

    def __post_init__(self) -> None:
        for key in ("commit", "tree"):
            if not OBJECT.fullmatch(getattr(self, key)):
                raise ValueError(f"{key}: expected the id of an object of git, got {getattr(self, key)!r}")


def cached_path(cache: Path, sha256: str, name: str) -> Path:
    """Return the path in `cache` of a file with that sha256 and name."""
    # The hash in the path separates files with the same name (the corepure64.gz of
    # two releases).
    return cache / "downloads" / sha256[:16] / name


@dataclass(frozen=True)
class Lock:
    """The exact inputs of a profile."""

    package: tuple[LockedPackage, ...] = ()
    file: tuple[LockedFile, ...] = ()
    extension: tuple[LockedExtension, ...] = ()
    archive: tuple[LockedArchive, ...] = ()
    needs: tuple[LockedNeeds, ...] = ()
    commit: tuple[LockedCommit, ...] = ()

    def find_commit(self, url: str, ref: str) -> LockedCommit | None:
        """Return the entry of a ref of a git repository, None if there is none."""
        return next((entry for entry in self.commit if (entry.url, entry.ref) == (url, ref)), None)

    def find_file(self, path: str) -> LockedFile | None:
        """Return the entry of a file of the mirrors or of this machine, None if there is none."""
        return next((file for file in self.file if file.path == path), None)

    def needs_of(self, user: str) -> LockedNeeds | None:
        """Return what `core` or an extension needs beside what it names, None if it is not locked."""
        return next((entry for entry in self.needs if entry.of == user), None)

    def to_toml(self) -> str:
        """Return the lock as TOML, in a stable order."""
        return toml_arrays(
            "# Written by `doit lock`; every input of the profile, byte for byte.",
            archive=sorted(self.archive, key=lambda item: (item.name, item.suite)),
            needs=sorted(self.needs, key=lambda item: item.of),
            package=sorted(self.package, key=lambda item: item.name),
            file=sorted(self.file, key=lambda item: item.path),
            extension=sorted(self.extension, key=lambda item: item.name),
            commit=sorted(self.commit, key=lambda item: (item.url, item.ref)),
        )


def toml_arrays(comment: str, **arrays: Iterable[Any]) -> str:
    """Return a comment and arrays of tables as TOML: a table for each item.

    An item is a table, or the instance of a dataclass, whose fields become keys.
    """
    # Table by table, because in a whole array tomli-w writes short tables inline.
    tables = [
        f"[[{name}]]\n{tomli_w.dumps(item if isinstance(item, dict) else dataclasses.asdict(item))}"
        for name, items in arrays.items()
        for item in items
    ]
    return "\n".join([f"{comment}\n", *tables])


def load_lock(path: Path, remedy: str = "") -> Lock:
    """Return the lock at `path`, an empty one if the file does not exist.

    remedy: the hint for a malformed one, which a `UserError` names.
    """
    try:
        return toml_schema.load(path, Lock) if path.exists() else Lock()
    except UserError as error:
        raise error.reworded(error.message, remedy or error.hint) from None


def readable_lock(path: Path) -> Lock:
    """Return the lock at `path`, an empty one also if it is malformed.

    This is for what must work then: the tasks that write a lock.  Task `fetch` refuses a malformed one.
    """
    try:
        return load_lock(path)
    except UserError:
        return Lock()
