"""The built kernel: its release, and the modules for the core."""

from __future__ import annotations

from pathlib import Path

from tasks.config.settings import Settings
from tasks.util.errors import UserError


def kernel_release(settings: Settings) -> str:
    """Return the release of the built kernel, as `uname -r` will print it.

    Raises `UserError` if no kernel is built yet, or if the profile declares another release.
    """
    path = settings.kernel / "release"
    if not path.is_file():
        raise UserError(f"{path} does not exist", "build the kernel first: `doit kernel`")
    release, declared = path.read_text().strip(), settings.profile.kernel.release
    if declared and release != declared:
        raise UserError(
            f"profile {settings.name} declares kernel.release = {declared!r}, but {release!r} was built",
            f"set kernel.release = {release!r} in profiles/{settings.name}.toml",
        )
    return release


def core_modules(settings: Settings) -> Path:
    """Return the folder that holds lib/modules/RELEASE for the core."""
    split = settings.profile.kernel.modules == "split"
    return settings.output / "modules" if split else settings.kernel / "modules"
