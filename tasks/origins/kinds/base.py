"""What all kinds of origins have in common: which files are taken, where they go, what a kind can do."""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

from tasks.origins.origin_lock import OriginFile
from tasks.util.toml_schema import PATTERN

# Parts of file names and command lines.
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!_~-]*")
PACKAGE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
ALTERNATIVE = re.compile(r"[a-z0-9][a-z0-9._-]*")

Unpacked = Iterator[tuple[str, Path]]


@dataclass(frozen=True)
class Resources:
    """What an origin may use to fetch and to unpack itself.

    cache: the folder of downloads; offline: the network is forbidden; logs: the folder of logs.
    debs: returns the .deb of each apt package, by name, as the profile's lock has them; no network.
    recipe: returns the origins that another extension's recipe locks, each with its locked files.
    """

    cache: Path
    offline: bool
    logs: Path
    debs: Callable[[tuple[str, ...]], Mapping[str, Path]]
    recipe: Callable[[str], list[tuple[LockedOrigin, tuple[OriginFile, ...]]]]


class PackageName(NamedTuple):
    """The parts of a package URL (package-url.github.io): type, namespace, name, version, qualifiers."""

    type: str
    namespace: str | None
    name: str
    version: str | None
    qualifiers: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Origin(ABC):
    """Where an extension's files come from, and what becomes of them.

    alternative: the name of a choice; of a recipe's alternatives one is taken.
    keep: shell patterns, in which `*` stands for `/` too; what fits none of them is left out.
    drop: shell patterns; what fits one of them is left out.
    rename: puts a file, or all below a folder if both sides end in `/`, elsewhere; the longest
    that fits counts.
    join: path -> pattern; writes the files that fit the pattern one after the other, sorted by
    path, into the file at that path.

    A field without a default must not be empty, and one with a `PATTERN` must fit it.
    """

    kind: str
    alternative: str = field(default="", metadata={PATTERN: ALTERNATIVE})
    keep: tuple[str, ...] = ("*",)
    drop: tuple[str, ...] = ()
    rename: dict[str, str] = field(default_factory=dict)
    join: dict[str, str] = field(default_factory=dict)

    list_command: ClassVar[str]
    """A command that lists what is in its files, for hints."""

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            required = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
            value, form = getattr(self, one.name), one.metadata.get(PATTERN)
            if required and not value:
                raise ValueError(f"{one.name}: needed by kind = {self.kind!r}")
            if form and value and not form.fullmatch(value):
                raise ValueError(f"{one.name}: expected {form.pattern}, got {value!r}")
        for old, new in self.rename.items():
            if old.endswith("/") != new.endswith("/"):
                raise ValueError(f"rename: {old!r} and {new!r} must both end in / (folders) or neither")
        for path in self._target_paths():
            if path.startswith("/") or not path.strip("/") or ".." in Path(path).parts:
                message = f"rename, join, into: {path!r} must be a path below /, without a leading slash"
                raise ValueError(message)

    def _target_paths(self) -> list[str]:
        """Return the paths below `/` that files go to."""
        return [*self.rename.values(), *self.join]

    @abstractmethod
    def label(self) -> str:
        """Return what messages call all of it."""

    @abstractmethod
    def unpack(self, resources: Resources, files: tuple[OriginFile, ...], scratch: Path) -> Unpacked:
        """Yield (label, folder) of what it brings, below `scratch`; no network.

        files: its locked files, which lie in the cache; none for kinds that recipes do not lock.
        scratch: an absent folder, which the caller removes between two.  Raises `UserError` if
        what was fetched is not what the recipe says.
        """

    def stated_version(self) -> str:
        """Return the version that the recipe states, "" if it states none."""
        return ""

    def apt_packages(self) -> tuple[str, ...]:
        """Return the apt packages it takes files from; the profile's lock has them."""
        return ()

    def log_names(self) -> tuple[str, ...]:
        """Return the names of the logs that unpacking it writes, without .log."""
        return ()


@dataclass(frozen=True, kw_only=True)
class LockedOrigin(Origin):
    """An origin whose files the recipe itself locks, in `extensions/NAME/lock.toml`.

    version: upstream's version.
    into: the folder below `/` that it is unpacked into; the paths in `keep`, `drop`, `rename`
    and `join` have that folder in front.
    """

    version: str = field(metadata={PATTERN: VERSION})
    into: str = ""

    def _target_paths(self) -> list[str]:
        return [*super()._target_paths(), *filter(None, [self.into])]

    def label(self) -> str:
        return Path(self.identity()).name

    def stated_version(self) -> str:
        return self.version

    @abstractmethod
    def identity(self) -> str:
        """Return what its entries in a lock are found by: upstream's name for it, with the version."""

    @classmethod
    @abstractmethod
    def owns(cls, identity: str) -> bool:
        """Tell whether `identity` is one of this kind."""

    @abstractmethod
    def pin(self, resources: Resources, scratch: Path) -> tuple[OriginFile, ...]:
        """Bring what nobody has verified yet into the cache, and return its lock entries.

        scratch: a folder on the cache's file system.  Raises `UserError` if it cannot be had,
        or is not what upstream says it is; then nothing is locked.
        """

    @abstractmethod
    def fetch(self, resources: Resources, files: tuple[OriginFile, ...]) -> None:
        """Bring its locked files into the cache; those that are there cost no network.

        Raises `UserError` if one cannot be had or is another, and with `offline` if it is not there.
        """

    @classmethod
    def package_name(cls, identity: str, file_name: str) -> PackageName | None:
        """Return the parts of the package URL of a locked file; None if no registry has it."""
        return None

    @classmethod
    def stated_licence(cls, path: Path) -> str:
        """Return the licence expression that the file at `path` states, "" if it states none."""
        return ""
