"""The files that extensions consist of, as tasks name them."""

from __future__ import annotations

from pathlib import Path

from tasks.config.plan import Plan, module_extensions
from tasks.config.settings import Settings
from tasks.formats import tcz


def module_files(settings: Settings) -> list[Path]:
    """Return the files of all extensions made of the profile's own kernel modules."""
    names = module_extensions(settings.profile)
    return [settings.tcz / file for name in names for file in tcz.file_names(name)]


def tcz_files(settings: Settings, plan: Plan, names: list[str]) -> list[Path]:
    """Return the files of extensions and of what they depend on: .tcz and all beside it."""
    found: list[Path] = []
    for name in plan.closure(names):
        kind = plan.nodes[name].kind
        if kind == "modules":  # which other modules it needs is known when the kernel is built
            found += module_files(settings)
        else:
            beside = tcz.UPSTREAM_SIDE_FILES if kind == "upstream" else tcz.SIDE_FILES
            found += [settings.tcz / file for file in tcz.file_names(name, beside)]
    return list(dict.fromkeys(found))
