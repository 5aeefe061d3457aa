# SPDX-License-Identifier: MIT
"""The base classes of all kinds of origins: common keys of a recipe, and the methods of a kind."""

from __future__ import annotations

import fnmatch
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

from tasks.origins.origin_lock import OriginFile
from tasks.util.errors import UserError
from tasks.util.links import is_below
from tasks.util.toml_schema import PATTERN, check_patterns, check_required

# Parts of file names and command lines.
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!_~-]*")
PACKAGE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
ALTERNATIVE = re.compile(r"[a-z0-9][a-z0-9._-]*")

Unpacked = Iterator[tuple[str, Path]]


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


ModuleBuilder = Callable[[Path, Sequence[str], Path, Path], None]
"""Builds the kernel modules in a folder against the profile's kernel, with further variables of make and a
log, and puts them below another folder as they lie below `/`."""


def no_kernel(source: Path, make: Sequence[str], log: Path, into: Path) -> None:
    """Raise `UserError`: a `ModuleBuilder` where there is no kernel."""
    raise UserError("kernel modules are built for an extension alone")


@dataclass(frozen=True)
class Resources:
    """What an origin uses to fetch and unpack its files.

    cache: the folder of downloads; offline: forbids the network; logs: the folder of logs.
    debs: returns the locked .deb of each apt package, by name; it uses no network.
    recipe: returns the locked origins of another extension's recipe, each with its locked files.
    box: returns the words to put before a command that runs with the origin's toolchain
    (`process.run`).  It may write below the scratch folder of `unpack`, and read the folders given.
    kept: a folder of the cache that such a command may write, too: what a compiler keeps for later
    builds with the same toolchain.
    program: returns the words that start a program of a named toolchain outside its build root, where
    it has the network.  It makes the root first, if need be.
    modules: builds kernel modules.
    epoch: the time that all files of the image get, in seconds since 1970.
    """

    cache: Path
    offline: bool
    logs: Path
    debs: Callable[[tuple[str, ...]], Mapping[str, Path]]
    recipe: Callable[[str], list[tuple[LockedOrigin, tuple[OriginFile, ...]]]]
    box: Callable[[Sequence[Path]], list[str]] = lambda shown: []
    kept: Path | None = None
    program: Callable[[str, str], list[str]] = lambda toolchain, program: [program]
    modules: ModuleBuilder = no_kernel
    epoch: int = 0


class PackageName(NamedTuple):
    """The parts of a package URL (package-url.github.io): type, namespace, name, version, qualifiers."""

    type: str
    namespace: str | None
    name: str
    version: str | None
    qualifiers: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Origin(ABC):
    """Where files of an extension come from, and where they go.

    alternative: the name of the alternative that this origin belongs to.  A profile takes one
    alternative of a recipe; origins without a name are always taken.
    keep: shell patterns of the paths to take; `*` matches `/` too.
    drop: shell patterns of the paths to leave out.
    rename: old path = new path, for a file, or for all files below a folder if both end in `/`.
    The longest match counts.
    join: new path = shell pattern.  The matching files, sorted by path, are joined into one file.

    A field without a default must not be empty, and a field with a `PATTERN` must match it.
    """

    kind: str
    alternative: str = field(default="", metadata={PATTERN: ALTERNATIVE})
    keep: tuple[str, ...] = ("*",)
    drop: tuple[str, ...] = ()
    rename: dict[str, str] = field(default_factory=dict)
    join: dict[str, str] = field(default_factory=dict)

    list_command: ClassVar[str]
    """A command that lists the content of its files, for hints."""
    toolchain: ClassVar[str] = ""
    """The toolchain that `unpack` needs, if it is another one than the profile's."""
    architectures: ClassVar[tuple[str, ...]] = ()
    """The architectures of profiles that `unpack` makes programs for; empty if its files say that."""

    def __post_init__(self) -> None:
        check_required(self)
        check_patterns(self)
        for old, new in self.rename.items():
            if old.endswith("/") != new.endswith("/"):
                raise ValueError(f"rename: {old!r} and {new!r} must both end in / (folders) or neither")
        for path in self._target_paths():
            if not is_below(path):
                message = f"rename, join, into: {path!r} must be a path below /, without a leading slash"
                raise ValueError(message)

    def _target_paths(self) -> list[str]:
        """Return the paths below `/` that files go to."""
        return [*self.rename.values(), *self.join]

    def takes(self, path: str) -> bool:
        """Tell whether `keep` and `drop` take a file, by its path without a leading slash."""
        return _matches(path, self.keep) and not _matches(path, self.drop)

    def renaming(self, path: str) -> str:
        """Return the key of `rename` that counts for a path, "" if none does."""
        found = [old for old in self.rename if path == old or (old.endswith("/") and path.startswith(old))]
        return max(found, key=len, default="")

    def renamed(self, path: str) -> str:
        """Return where a file goes, by `rename`."""
        old = self.renaming(path)
        return self.rename[old] + path[len(old) :] if old else path

    @abstractmethod
    def label(self) -> str:
        """Return the name of the origin for messages."""

    @abstractmethod
    def unpack(self, resources: Resources, files: tuple[OriginFile, ...], scratch: Path) -> Unpacked:
        """Unpack below `scratch` and yield (label, folder); uses no network.

        files: its locked files, which lie in the cache; none for kinds that recipes do not lock.
        scratch: a path that does not exist; the caller removes it after each yield.  Raises
        `UserError` if the fetched files do not match the recipe.
        """

    def stated_version(self) -> str:
        """Return the version that the recipe states, "" if it states none."""
        return ""

    def apt_packages(self) -> tuple[str, ...]:
        """Return the apt packages that it takes files from; the profile's lock holds them."""
        return ()

    def source_folder(self) -> Path | None:
        """Return the folder of this machine that it is made of; None for what is fetched."""
        return None

    def log_names(self) -> tuple[str, ...]:
        """Return the names of the logs that `unpack` writes, without .log."""
        return ()


@dataclass(frozen=True, kw_only=True)
class LockedOrigin(Origin):
    """An origin whose files are locked in the recipe's own lock, `extensions/NAME/lock.toml`.

    version: upstream's version.
    into: the folder below `/` to unpack into, without a leading slash.  The paths in `keep`,
    `drop`, `rename` and `join` begin with this folder.
    """

    version: str = field(metadata={PATTERN: VERSION})
    into: str = ""

    def _target_paths(self) -> list[str]:
        return [*super()._target_paths(), *filter(None, [self.into])]

    def label(self) -> str:
        return Path(self.identity()).name

    def stated_version(self) -> str:
        return self.version

    @property
    def is_locked(self) -> bool:
        """Whether the recipe's lock has its files: not those of a folder that may be edited."""
        return True

    @abstractmethod
    def identity(self) -> str:
        """Return the key of its lock entries: upstream's name for it, with the version."""

    def locked_by(self) -> tuple[object, ...]:
        """Return the other keys that decide which files it is locked with."""
        return ()

    @classmethod
    @abstractmethod
    def owns(cls, identity: str) -> bool:
        """Tell whether `identity` belongs to an origin of this kind."""

    @abstractmethod
    def pin(self, resources: Resources, scratch: Path) -> tuple[OriginFile, ...]:
        """Download files that are not locked yet into the cache, and return their lock entries.

        scratch: a folder on the cache's file system.  Raises `UserError` if a file is not
        available or does not match upstream's checksum.
        """

    @abstractmethod
    def newest(self, resources: Resources, files: tuple[OriginFile, ...]) -> str:
        """Return the newest version that upstream offers, its own if none is newer; "" if nothing lists them.

        files: its locked files.  Raises `UserError` if upstream cannot be asked.
        """

    @abstractmethod
    def fetch(self, resources: Resources, files: tuple[OriginFile, ...]) -> None:
        """Fetch its locked files into the cache; files that are there need no network.

        Raises `UserError` if a file is not available, is not the locked one, or is missing from
        the cache while `offline` is set.
        """

    @classmethod
    def package_name(cls, identity: str, file_name: str) -> PackageName | None:
        """Return the parts of the package URL of a locked file; None if it is from no registry."""
        return None

    @classmethod
    def address(cls, identity: str) -> str:
        """Return the address in an identity that its file is fetched from, "" if it names none."""
        return identity if identity.startswith("http") else ""

    @classmethod
    def stated_licence(cls, path: Path) -> str:
        """Return the licence expression that the file at `path` states, "" if it states none."""
        return ""
