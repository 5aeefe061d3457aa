# SPDX-License-Identifier: MIT
"""The files of extensions, for the targets and file_dep of tasks."""

from __future__ import annotations

from pathlib import Path

from tasks.config.plan import Plan, module_extensions
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.formats import tcz


def module_files(paths: Paths, profile: Profile) -> list[Path]:
    """Return the files of all extensions with modules of the profile's kernel."""
    names = module_extensions(profile)
    return [paths.tcz / file for name in names for file in tcz.file_names(name)]


def tcz_files(paths: Paths, profile: Profile, plan: Plan, names: list[str]) -> list[Path]:
    """Return the files (.tcz and side files) of the extensions `names` and their dependencies."""
    found: list[Path] = []
    for name in plan.closure(names):
        kind = plan.nodes[name].kind
        if kind == "modules":  # only a built kernel shows which modules it needs: take all
            found += module_files(paths, profile)
        else:
            side_files = tcz.UPSTREAM_SIDE_FILES if kind == "upstream" else tcz.SIDE_FILES
            found += [paths.tcz / file for file in tcz.file_names(name, side_files)]
    return list(dict.fromkeys(found))
