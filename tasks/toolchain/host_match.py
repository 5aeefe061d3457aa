# SPDX-License-Identifier: MIT
"""Whether this machine's own programs write what the programs of a build root would."""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Iterable

from tasks.origins.lock import LockedPackage
from tasks.toolchain.build_root import BuildRoot
from tasks.util.errors import ToolMissing
from tasks.util.process import clean_env, run

# +b2: Debian built the same source again.
REBUILD = re.compile(r"\+b\d+$")
LOCAL = ("/usr/local/sbin", "/usr/local/bin")
OWN = ("/usr/sbin", "/usr/bin")
FORMAT = "${db:Status-Status} ${Package} ${Architecture} ${Version}\\n"


def difference(root: BuildRoot, locked: Iterable[LockedPackage]) -> str:
    """Return why this machine's programs cannot stand in for those of `root`; "" if they can.

    They can if dpkg says that the packages of `root.makers` are installed in the locked versions,
    no other program of the same name comes before them, and no program of `root.unwanted` is there.
    """
    wanted = {package.name: package.version for package in locked if package.name in root.makers}
    there = _installed(tuple(sorted(wanted)))
    for name, version in sorted(wanted.items()):
        if name not in there:
            return f"{name} is not installed here"
        if not same_version(there[name], version):
            return f"{name} is {there[name]} here, {version} in the toolchain"
    path = clean_env()["PATH"]
    for program in root.unwanted:
        if shutil.which(program, path=path):
            return f"this machine has {program}, the toolchain has not"
    if shadowed := shadows():
        return f"{shadowed[0]} hides a program of the distribution"
    return ""


def same_version(installed: str, locked: str) -> bool:
    """Tell whether two versions are of the same source: numbers of a mere rebuild (+b2) do not count."""
    return REBUILD.sub("", installed) == REBUILD.sub("", locked)


def shadows() -> list[str]:
    """Return the programs of /usr/local that come before ones of the distribution, python and pip apart."""
    local = {name: folder for folder in reversed(LOCAL) for name in _names(folder)}
    own = {name for folder in OWN for name in _names(folder)}
    return [
        f"{folder}/{name}"
        for name, folder in sorted(local.items())
        if name in own and not name.startswith(("python", "pip"))
    ]


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


@functools.cache
def _installed(names: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of those of `names` that dpkg has installed for this machine."""
    try:
        said = run(["dpkg-query", "--show", "--showformat", FORMAT, *names], check=False).stdout
    except ToolMissing:  # no Debian
        return {}
    rows = [line.split(" ") for line in said.splitlines()]
    return {
        row[1]: row[3]
        for row in rows
        if len(row) == 4 and row[0] == "installed" and row[2] in ("amd64", "all")
    }
