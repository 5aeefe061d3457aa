# SPDX-License-Identifier: MIT
"""The tools that tcbuild needs on the machine, as host.toml lists them.  Only this module reads that file.

host.toml maps groups of tools (`build`, `vm`, `test`, ...) to tables: a program, or an
absolute path, and the Debian package that provides it.  Its table `names` says what other
distributions call these packages.
"""

from __future__ import annotations

import functools
import platform
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.util.checkout import cache_folder

FILE = Path(__file__).with_name("host.toml")
NAMES = "names"
STARTERS = "start"  # the folder of an added folder whose programs can be started from anywhere


def _table() -> dict[str, Any]:
    with FILE.open("rb") as stream:
        return tomllib.load(stream)


def groups() -> dict[str, dict[str, str]]:
    """Return the groups of host.toml: group -> program or absolute path -> Debian package."""
    return {name: tools for name, tools in _table().items() if name != NAMES}


@functools.cache
def os_release() -> dict[str, str]:
    """Return the fields of os-release(5): ID, VERSION_CODENAME, PRETTY_NAME ...; {} without that file."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def added_folder() -> Path:
    """Return the folder of the cache for packages that a user without root adds to this system."""
    release = os_release()
    version = release.get("VERSION_CODENAME") or release.get("VERSION_ID", "")
    return cache_folder() / "host" / "-".join(filter(None, [release.get("ID", "linux"), version]))


def name_here(package: str) -> str:
    """Return what this machine's distribution calls a Debian package; "" if it has none."""
    known, release = _table().get(NAMES, {}), os_release()
    for system in (release.get("VERSION_CODENAME", ""), release.get("ID", "")):
        if package in known.get(system, {}):
            return str(known[system][package])
    return package


def package_of(tool: str) -> str:
    """Return the package of this distribution that provides `tool`; "" if host.toml names none."""
    package = next((tools[tool] for tools in groups().values() if tool in tools), "")
    return name_here(package) if package else ""


def missing_tools(tools: Mapping[str, str], path: str) -> list[str]:
    """Return the missing ones of `tools`: programs, sought in the folders `path`, and absolute paths."""
    return [
        tool
        for tool in tools
        if not (Path(tool).exists() if tool.startswith("/") else shutil.which(tool, path=path))
    ]


def missing_packages(tools: Mapping[str, str], path: str) -> list[str]:
    """Return the packages of this distribution that provide the missing ones of `tools`, sorted.

    tools: program or absolute path -> Debian package; path: the folders to search, as in $PATH.
    A tool of which the distribution has no package is left out.
    """
    return sorted({name_here(tools[tool]) for tool in missing_tools(tools, path)} - {""})
