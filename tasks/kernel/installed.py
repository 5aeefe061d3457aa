# SPDX-License-Identifier: MIT
"""The built kernel: its release, and the modules for the core."""

from __future__ import annotations

from pathlib import Path

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.util.errors import UserError


def kernel_release(paths: Paths, profile: Profile) -> str:
    """Return the release of the built kernel, as `uname -r` will print it.

    Raises `UserError` if no kernel is built yet, or if the profile declares another release.
    """
    path = paths.kernel / "release"
    if not path.is_file():
        raise UserError(f"{path} does not exist", "build the kernel first: ./doit kernel")
    release, declared = path.read_text().strip(), profile.kernel.release
    if declared and release != declared:
        raise UserError(
            f"profile {paths.name} declares kernel.release = {declared!r}, but {release!r} was built",
            f"set kernel.release = {release!r} in profiles/{paths.name}.toml",
        )
    return release


def core_modules(paths: Paths, profile: Profile) -> Path:
    """Return the folder that holds lib/modules/RELEASE for the core."""
    split = profile.kernel.modules == "split"
    return paths.output / "modules" if split else paths.kernel / "modules"
