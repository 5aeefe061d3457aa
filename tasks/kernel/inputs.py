# SPDX-License-Identifier: MIT
"""The files of the checkout and of trees that a profile's kernel is made from."""

from __future__ import annotations

from pathlib import Path

from tasks.config.profile import Profile
from tasks.kernel import patches
from tasks.util.checkout import CHECKOUT


def patch_files(profile: Profile) -> list[Path]:
    """Return the series file and the patches of the profile's patch series; none if it has no series."""
    wanted = patches.series(profile)
    return [wanted[0].parent / "series", *wanted] if wanted else []


def base_config_files(profile: Profile) -> list[Path]:
    """Return the base config if it is a file in kconfig/, else nothing.

    Stage kconfig reports a base config that does not exist.
    """
    base = "" if profile.kernel.image else profile.kernel.base
    path = CHECKOUT.find("kconfig", base) if isinstance(base, str) and base else None
    return [path] if path and path.is_file() else []


def config_files(profile: Profile) -> list[Path]:
    """Return the base config if it is a file in kconfig/, and the fragments in order.

    Fragments that do not exist are left out: stage kconfig reports them.
    """
    names = [name if "/" in name else f"kconfig/{name}.config" for name in profile.kernel.fragments]
    fragments = [path for path in (CHECKOUT.path(name) for name in names) if path.is_file()]
    return [*base_config_files(profile), *fragments]
