# SPDX-License-Identifier: MIT
"""The tools that tcbuild needs on the machine, as host.toml lists them.  Only this module reads that file.

host.toml maps groups of tools (`build`, `vm`, `test`, ...) to tables: a program, or an
absolute path, and the Debian package that provides it.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).with_name("host.toml")


def groups() -> dict[str, dict[str, str]]:
    """Return the groups of host.toml: group -> program or absolute path -> Debian package."""
    with FILE.open("rb") as stream:
        return tomllib.load(stream)


def package_of(tool: str) -> str:
    """Return the Debian package that provides `tool`; "" if host.toml names none."""
    return next((tools[tool] for tools in groups().values() if tool in tools), "")


def missing_packages(tools: Mapping[str, str], path: str) -> list[str]:
    """Return the Debian packages that provide the missing ones of `tools`, sorted.

    tools: program or absolute path -> Debian package; path: the folders to search, as in $PATH.
    """
    missing = {
        package
        for tool, package in tools.items()
        if not (Path(tool).exists() if tool.startswith("/") else shutil.which(tool, path=path))
    }
    return sorted(missing)
