"""The files that extensions consist of, as tasks name them."""

from __future__ import annotations

from pathlib import Path

from tasks.config.plan import Plan, module_extensions
from tasks.config.settings import Settings
from tasks.formats import tcz
from tasks.formats.tcz import TCZ_ENDINGS


def module_files(settings: Settings) -> list[Path]:
    """Return the files of all extensions made of the profile's own kernel modules."""
    names = module_extensions(settings.profile)
    return [settings.tcz / f"{name}{ending}" for name in names for ending in TCZ_ENDINGS]


def tcz_files(settings: Settings, plan: Plan, names: list[str]) -> list[Path]:
    """Return the files of extensions and of what they depend on: .tcz and all beside it."""
    found: list[Path] = []
    for name in plan.closure(names):
        kind = plan.nodes[name].kind
        endings = tcz.UPSTREAM_ENDINGS if kind == "upstream" else TCZ_ENDINGS
        # Which other modules it needs is known when the kernel is built.
        own = [settings.tcz / f"{name}{ending}" for ending in endings]
        found += module_files(settings) if kind == "modules" else own
    return list(dict.fromkeys(found))
