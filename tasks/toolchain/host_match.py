# SPDX-License-Identifier: MIT
"""Whether this machine's own programs write what the programs of a build root would."""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from tasks.origins.lock import LockedPackage
from tasks.toolchain.build_root import BuildRoot
from tasks.util.errors import ToolMissing
from tasks.util.process import clean_env, run

# +b2: Debian built the same source again.
REBUILD = re.compile(r"\+b\d+$")
LOCAL = ("/usr/local/sbin", "/usr/local/bin")
OWN = ("/usr/sbin", "/usr/bin")
# ld.so(8) of Debian looks for libraries in these first (/etc/ld.so.conf.d/libc.conf).
LOCAL_LIBRARIES = ("/usr/local/lib", "/usr/local/lib/x86_64-linux-gnu")
OWN_LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu")
PYTHON = ("python", "pip", "libpython")
PROGRAM = re.compile(r"(?:/usr)?/s?bin/[^/]+")
FORMAT = "${db:Status-Status} ${Package} ${Architecture} ${Version} ${binary:Package}\\n"


def difference(root: BuildRoot, locked: Iterable[LockedPackage]) -> str:
    """Return why this machine's programs cannot stand in for those of `root`; "" if they can.

    They can if dpkg says that the packages of `root.makers` are installed in the locked versions,
    those of `root.helpers` in any, each program is that of its package, no other program or library
    of the same name comes before them, and no program of `root.unwanted` is there.
    """
    versions = {package.name: package.version for package in locked}
    there = _installed(tuple(sorted(versions)))
    for name in sorted(versions.keys() & set(root.makers)):
        if name not in there:
            return f"{name} is not installed here"
        if not same_version(there[name].version, versions[name]):
            return f"{name} is {there[name].version} here, {versions[name]} in the toolchain"
    if absent := sorted(versions.keys() & set(root.helpers) - there.keys()):
        return f"{absent[0]} is not installed here"
    if other := _replaced(tuple(sorted(one.query for one in there.values()))):
        return f"{other[0]} is not the program of its package"
    path = clean_env()["PATH"]
    for program in root.unwanted:
        if shutil.which(program, path=path):
            return f"this machine has {program}, the toolchain has not"
    if shadowed := shadows():
        return f"{shadowed[0]} hides a file of the distribution"
    return ""


def same_version(installed: str, locked: str) -> bool:
    """Tell whether two versions are of the same source: numbers of a mere rebuild (+b2) do not count."""
    return REBUILD.sub("", installed) == REBUILD.sub("", locked)


def replaced(files: Collection[str]) -> list[str]:
    """Return the programs among `files` that are missing, or a link to none of `files`, sorted.

    files: absolute paths of installed packages.  update-alternatives(1), dpkg-divert(1) or a person
    may have put a link to another program in the place of a package's: /usr/bin/gcc -> gcc-11.
    """
    known = {path.removeprefix("/usr") for path in files}  # of a merged /usr, in either spelling

    def is_right(path: str) -> bool:
        return os.path.exists(path) and os.path.realpath(path).removeprefix("/usr") in known

    return sorted(path for path in files if PROGRAM.fullmatch(path) and not is_right(path))


def shadows() -> list[str]:
    """Return the programs and libraries of /usr/local that come before the distribution's, Python apart."""
    return _hiding(LOCAL, OWN) + [name for name in _hiding(LOCAL_LIBRARIES, OWN_LIBRARIES) if ".so." in name]


def _hiding(first: Sequence[str], later: Sequence[str]) -> list[str]:
    """Return the paths in the folders `first` whose names are in one of `later`, too."""
    local = {name: folder for folder in reversed(first) for name in _names(folder)}
    own = {name for folder in later for name in _names(folder)}
    return [
        f"{folder}/{name}"
        for name, folder in sorted(local.items())
        if name in own and not name.startswith(PYTHON)
    ]


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


@dataclass(frozen=True)
class Installed:
    """A package that dpkg has installed; query: its name as dpkg-query(1) wants it."""

    version: str
    query: str


@functools.cache
def _installed(names: tuple[str, ...]) -> dict[str, Installed]:
    """Return those of `names` that dpkg has installed for this machine."""
    try:
        said = run(["dpkg-query", "--show", "--showformat", FORMAT, *names], check=False).stdout
    except ToolMissing:  # no Debian
        return {}
    rows = [line.split(" ") for line in said.splitlines()]
    return {
        row[1]: Installed(row[3], row[4])
        for row in rows
        if len(row) == 5 and row[0] == "installed" and row[2] in ("amd64", "all")
    }


@functools.cache
def _replaced(packages: tuple[str, ...]) -> list[str]:
    """Return the `replaced` programs of installed packages.  A run asks several times."""
    return replaced(_files(packages))


def _files(packages: tuple[str, ...]) -> frozenset[str]:
    """Return the paths of all files of installed packages."""
    said = run(["dpkg-query", "--listfiles", *packages]).stdout
    return frozenset(line for line in said.splitlines() if line.startswith("/"))
