# SPDX-License-Identifier: MIT
"""The packages whose programs are brought into a running guest, whatever image it has booted.

They are locked and unpacked as the build root `guest-ARCH` is.  Nothing of it gets into a result, and
no command is run in it.
"""

from __future__ import annotations

from pathlib import Path

from tasks.config.settings import Settings
from tasks.fetch import toolchain
from tasks.toolchain import build_root
from tasks.util.errors import UserError


def name(arch: str) -> str:
    """Return the root's name.  Raises `UserError` if guests of that architecture have none."""
    found = f"guest-{arch}"
    if found not in build_root.names():
        raise UserError(f"there are no programs to bring into a guest of {arch}")
    return found


def fetch(settings: Settings, *, ssh: bool, **_: object) -> None:
    """Fetch the packages for the profile's guest, if they are needed: `--ssh` is the one use of them.

    ssh, _: the options of a command.  Raises `UserError` if a package is not in the cache while `offline`
    is set, or is gone.
    """
    if ssh:
        toolchain.fetch_alone(settings, name(settings.profile.arch), "--ssh")


def unpacked(cache: Path, arch: str) -> Path:
    """Return the root's folder, unpacked from the fetched packages if need be."""
    return build_root.ensure(cache, name(arch))
