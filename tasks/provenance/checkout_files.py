# SPDX-License-Identifier: MIT
"""The files of the checkout and of trees that a manifest lists besides the code and the profile."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks.config import plan, recipe, rootfs_rules, system
from tasks.config.profile import Profile
from tasks.initramfs import consoles
from tasks.kernel import inputs
from tasks.util.checkout import CHECKOUT


def of_profile(profile: Profile, recipes: Iterable[str], *, links: bool) -> list[Path]:
    """Return the files that the profile and its `recipes` read, sorted; no locks.

    links: with the symbolic links among them, which doit cannot follow by content.
    """
    wanted = {*inputs.config_files(profile), *inputs.patch_files(profile)}
    if profile.core.rootfs:
        wanted |= {*CHECKOUT.found("rootfs", "**/*").values(), *rootfs_rules.files()}
    else:
        # The others are code.
        tops = CHECKOUT.folders("rootfs")
        wanted |= {path for path in consoles.scripts().values() if any(map(path.is_relative_to, tops))}
    if mydata := system.mydata_folder(profile.system):
        wanted |= set(mydata.rglob("*"))
    for name in recipes:
        wanted |= {*recipe.files(name), *recipe.own_files(name)}
        wanted |= set(recipe.source_files(plan.recipe_of(profile, name)))
    return sorted(path for path in wanted if (links if path.is_symlink() else path.is_file()))
