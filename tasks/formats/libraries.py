# SPDX-License-Identifier: MIT
"""Find the shared libraries that programs need in unpacked packages (ld.so(8))."""

from __future__ import annotations

import fnmatch
import functools
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.formats import cpio, debian_package, elf
from tasks.formats.cpio import Member
from tasks.util import toml_schema
from tasks.util.links import MAX_SYMLINKS

LIBRARY = re.compile(r"\.so($|\.)")
CONFIGURATION = re.compile(r"etc/ld\.so\.conf(\.d/.*)?")

Files = Mapping[str, Path]
"""Absolute path in a root -> file on this machine, as `elf.closure` takes it."""


def complete(
    files: Files,
    below: Files,
    find: Callable[[str, str], Files],
    wanted: Iterable[str] = (),
) -> dict[str, Path]:
    """Return the files that `files` lack to find all their shared libraries, and those of the result.

    below: the roots below, which are searched and do not count as lacking.  find: returns the files
    that provide what the file at a path (second, "" for none) lacks: a library by its name, or paths
    by a shell pattern, which contains a slash; none if nothing provides it.
    wanted: further libraries that the result must have.
    """
    added: dict[str, Path] = {}
    asked: set[str] = set()
    names = dict.fromkeys(posixpath.basename(path) for path in files)
    while True:
        here = {**files, **added}
        lacking = {posixpath.basename(name): path for path, name in elf.closure(here, below).libraries}
        lacking |= {name: "" for name in wanted if name not in names}
        for library, more in companions().items():
            owner = next((path for path in here if posixpath.basename(path) == library), "")
            lacking |= {name: owner for name in more if owner and name not in names}
        new: dict[str, Path] = {}
        # What a file needs comes first: it tells where to search.
        for name, path in sorted(lacking.items(), key=lambda item: (not item[1], item)):
            if name not in asked:
                asked.add(name)
                new.update(find(name, path))
        new = {path: file for path, file in new.items() if path not in here}
        if not new:
            return added
        added |= new
        names |= dict.fromkeys(posixpath.basename(path) for path in new)


@dataclass(frozen=True)
class Companions:
    """The file libraries.toml.

    companions: a library = what it uses beside what it links: libraries by name, or patterns of paths.
    """

    companions: dict[str, tuple[str, ...]]


@functools.cache
def companions() -> Mapping[str, tuple[str, ...]]:
    """Return what libraries use beside what they link.  Raises `UserError` if the file is malformed."""
    return toml_schema.load(Path(__file__).with_name("libraries.toml"), Companions).companions


def provided(tree: Files, name: str) -> dict[str, Path]:
    """Return the files of a package that provide a library, or match a pattern with a slash.

    A link comes with its target.  Libraries count in the folders that ld.so searches; its own file may
    be anywhere.
    """
    if "/" in name:
        found = [path for path in tree if fnmatch.fnmatchcase(path.lstrip("/"), name)]
    else:
        anywhere = name.startswith("ld-linux")
        named = [path for path in tree if posixpath.basename(path) == name]
        found = [path for path in named if anywhere or posixpath.dirname(path) in elf.LIBRARY_DIRS]
    taken: dict[str, Path] = {}
    for path in found:
        for _ in range(MAX_SYMLINKS):
            if path not in tree or path in taken:
                break
            taken[path] = tree[path]
            if not tree[path].is_symlink():
                break
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), os.readlink(tree[path])))
    return taken


def finder(packages: Sequence[Files]) -> Callable[[str, str], dict[str, Path]]:
    """Return `find` of `complete`: it takes the files of the first of unpacked `packages` that has them."""

    def find(name: str, path: str) -> dict[str, Path]:
        return next(filter(None, (provided(tree, name) for tree in packages)), {})

    return find


def unpacked(deb: Path, folder: Path) -> dict[str, Path]:
    """Unpack a .deb into `folder`; return its files.  Raises `UserError` if it is damaged."""
    debian_package.unpack_deb(deb, folder)
    return files_below(folder)


def files_below(folder: Path) -> dict[str, Path]:
    """Return all files and links below `folder` by their absolute paths in the root it holds."""
    found = {}
    for top, folders, names in os.walk(folder):
        linked = [name for name in folders if os.path.islink(os.path.join(top, name))]
        for name in (*names, *linked):
            path = Path(top, name)
            found[f"/{path.relative_to(folder)}"] = path
    return found


def extract(members: Iterable[Member], folder: Path) -> dict[str, Path]:
    """Write the libraries, symlinks and ld.so's configuration among `members` into the new folder `folder`.

    Returns absolute path in the root -> file on this machine, as `elf.closure` takes it.
    """
    folder.mkdir(parents=True)
    found: dict[str, Path] = {}
    for member in members:
        file = folder / str(len(found))
        if member.kind == stat.S_IFLNK:
            file.symlink_to(cpio.decode(member.data))
        elif member.kind == stat.S_IFREG and (
            LIBRARY.search(Path(member.name).name) or CONFIGURATION.fullmatch(member.name)
        ):
            file.write_bytes(member.data)
        else:
            continue
        found[f"/{member.name}"] = file
    return found


def package_name(library: str) -> str:
    """Return the name of a library's Debian package by Debian Policy 8.1.

    `libfoo2` for libfoo.so.2; `libfoo1-2` for libfoo1.so.2 and libfoo1-2.so.
    """
    stem, _, version = library.partition(".so")
    version = version.lstrip(".")
    hyphen = "-" if version and stem[-1:].isdigit() else ""
    return f"{stem}{hyphen}{version}".lower().replace("_", "-")
