# SPDX-License-Identifier: MIT
"""Bootcodes that extensions need.

A recipe declares its own; tasks/image/bootcodes.toml lists those of upstream extensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.config import plan as config_plan
from tasks.config import recipe
from tasks.config.plan import Plan, extensions_at
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.origins.lock import load_lock
from tasks.util import toml_schema
from tasks.util.log import logger

FILE = Path(__file__).with_name("bootcodes.toml")


@dataclass(frozen=True)
class Bootcode:
    """A bootcode.

    why: what fails without it; upstream: the upstream extensions that need it.
    """

    name: str
    why: str
    upstream: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bootcodes:
    """The content of tasks/image/bootcodes.toml."""

    bootcode: tuple[Bootcode, ...]


def load_table() -> dict[str, Bootcode]:
    """Return the bootcodes of tasks/image/bootcodes.toml by name.  Raises `UserError` if it is malformed."""
    return {code.name: code for code in toml_schema.load(FILE, Bootcodes).bootcode}


def missing(profile: Profile, plan: Plan) -> list[str]:
    """Return one line for each bootcode that extensions need and the profile does not set.

    All extensions of the profile count, in every place, and all their dependencies.
    """
    table = load_table()
    users: dict[str, list[str]] = {}
    for name in plan.closure(extensions_at(profile, "onboot", "copy2fs", "ondemand", "initrd")):
        kind = plan.nodes[name].kind
        codes = recipe.load(name).bootcodes if kind == "recipe" else ()
        if kind == "upstream":
            codes = tuple(code.name for code in table.values() if name in code.upstream)
        for code in codes:
            users.setdefault(code, []).append(name)
    lines = []
    for code, names in users.items():
        if code not in profile.boot.bootcodes:
            why = f": {table[code].why}" if code in table else ""
            who = f"{', '.join(names)} need{'s' if len(names) == 1 else ''}"
            lines.append(f"{who} the bootcode {code}, which boot.bootcodes lacks{why}")
    return lines


def warn(paths: Paths, profile: Profile) -> None:
    """Log a warning for each bootcode that `missing` returns."""
    for line in missing(profile, config_plan.plan(profile, load_lock(paths.used_lock))):
        logger.warning(line)
