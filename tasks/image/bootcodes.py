"""Bootcodes that extensions need: as recipes say, and tasks/image/bootcodes.toml for upstream ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.config import plan as config_plan
from tasks.config import recipe
from tasks.config.plan import Plan, extensions_at
from tasks.config.profile import Profile
from tasks.config.settings import Settings
from tasks.origins.lock import load_lock
from tasks.util import toml_schema
from tasks.util.log import logger

FILE = Path(__file__).with_name("bootcodes.toml")


@dataclass(frozen=True)
class Bootcode:
    """A bootcode, what goes wrong without it, and the upstream extensions that need it."""

    name: str
    why: str
    upstream: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bootcodes:
    """tasks/image/bootcodes.toml."""

    bootcode: tuple[Bootcode, ...]


def known() -> dict[str, Bootcode]:
    """Return tasks/image/bootcodes.toml by bootcode.  Raises `UserError` if it is malformed."""
    return {code.name: code for code in toml_schema.load(FILE, Bootcodes).bootcode}


def lacking(profile: Profile, plan: Plan) -> list[str]:
    """Return a line for every bootcode that extensions of the profile need and its menu lacks.

    An extension counts wherever it is placed, and when another one depends on it.
    """
    table = known()
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


def warn(settings: Settings) -> None:
    """Say which bootcodes the profile should have and has not."""
    for line in lacking(settings.profile, config_plan.plan(settings.profile, load_lock(settings.used_lock))):
        logger.warning(line)
