"""Bootcodes that extensions need: as recipes say, and boot/bootcodes.toml for upstream ones."""

from __future__ import annotations

from dataclasses import dataclass

from tasks import recipe, schema, tce
from tasks.profile import Profile, Settings, load_lock
from tasks.run import ROOT, say
from tasks.tce import Plan


@dataclass(frozen=True)
class Bootcode:
    """A bootcode, what goes wrong without it, and the upstream extensions that need it."""

    name: str
    why: str
    upstream: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bootcodes:
    """boot/bootcodes.toml."""

    bootcode: tuple[Bootcode, ...]


def known() -> dict[str, Bootcode]:
    """Return boot/bootcodes.toml by bootcode.  Raises `UserError` if it is malformed."""
    path = ROOT / "boot" / "bootcodes.toml"
    return {code.name: code for code in schema.load(path, Bootcodes).bootcode}


def lacking(profile: Profile, plan: Plan) -> list[str]:
    """Return a warning for every bootcode that extensions of the profile need and its menu lacks.

    An extension counts wherever it is placed, and when another one depends on it.
    """
    table = known()
    users: dict[str, list[str]] = {}
    for name in plan.closure(tce.placed(profile, "onboot", "copy2fs", "ondemand", "initrd")):
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
            lines.append(f"warning: {who} the bootcode {code}, which boot.bootcodes lacks{why}")
    return lines


def warn(settings: Settings) -> None:
    """Say which bootcodes the profile should have and has not."""
    for line in lacking(settings.profile, tce.plan(settings.profile, load_lock(settings.used_lock))):
        say(line)
