# SPDX-License-Identifier: MIT
"""rootfs/rootfs.toml: what the base root of a profile is made of, beside packages and rootfs/files/.

A tree's rootfs.toml is merged onto that of the checkout as a profile onto the one that it inherits.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tasks.config import inheritance
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.util.trees import Tree

RULES = CHECKOUT.rootfs / "rootfs.toml"


@dataclass(frozen=True)
class Permissions:
    """Mode and owner.  owner: "user:group", by the names in the root's own etc/passwd and etc/group."""

    mode: int
    owner: str = "root:root"


@dataclass(frozen=True)
class Device:
    """A device node: type (c: character, b: block), numbers, mode and owner."""

    type: Literal["c", "b"]
    major: int
    minor: int
    mode: int
    owner: str = "root:root"


@dataclass(frozen=True)
class Busybox:
    """The rules for BusyBox.

    program: where a package may have put it; suid: the path of its set-uid copy;
    suid_applets: the applets that link to that copy; without: paths of applets that get no link.
    """

    program: tuple[str, ...]
    suid: str
    suid_applets: tuple[str, ...]
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """The content of rootfs.toml.  Paths are relative to the root, without a leading slash.

    libraries: shared libraries that the root has for extensions, whether its own programs need them or
    not.
    """

    drop: tuple[str, ...]
    keep: dict[str, tuple[str, ...]]
    busybox: Busybox
    links: dict[str, str]
    folders: dict[str, Permissions]
    files: dict[str, Permissions]
    devices: dict[str, Device] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a path matches one of the shell patterns, in which `*` also matches `/`."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def is_included(rules: Rules, package: str, name: str) -> bool:
    """Return whether the rules put a package's file into the root."""
    keep = rules.keep.get(package)
    return matches(name, keep) if keep is not None else not matches(name, rules.drop)


def files() -> list[Path]:
    """Return rootfs.toml of the checkout, and of each tree that has one, the last of which wins."""
    return [RULES, *CHECKOUT.in_trees("rootfs", RULES.name)]


def inputs() -> list[Path]:
    """Return all files in rootfs/ that count, without links: doit cannot follow them by content."""
    every = [*CHECKOUT.found("rootfs", "**/*").values(), *files()]
    return sorted({path for path in every if path.is_file() and not path.is_symlink()})


def layout() -> Tree:
    """Return the folders rootfs/, which tell what each file is besides its content."""
    *under, top = [CHECKOUT.rootfs, *CHECKOUT.in_trees("rootfs", "")]
    return Tree(top, under=tuple(under))


def load() -> Rules:
    """Return the rules.  Raises `UserError` if a file is malformed."""
    first, *others = files()
    if not others:
        return toml_schema.load(first, Rules)
    values = functools.reduce(
        inheritance.merged, map(toml_schema.read_toml, others), toml_schema.read_toml(first)
    )
    loaded: Rules = toml_schema.build(values, Rules, str(others[-1]), "")
    return loaded
