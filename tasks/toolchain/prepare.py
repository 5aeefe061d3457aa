# SPDX-License-Identifier: MIT
"""Prepare the profile's toolchain and launcher, before a stage runs the kernel's make.

Only this module installs programs and makes build roots; the others of this package use them.
"""

from __future__ import annotations

from tasks.config.settings import Settings
from tasks.toolchain import build_root, launcher
from tasks.util import host, host_packages
from tasks.util.errors import UserError
from tasks.util.process import clean_env


def prepare(settings: Settings) -> None:
    """Install the launcher's programs, and make the toolchain's build root and the launcher's folder.

    Raises `UserError` if something cannot be installed or made, and if the toolchain cannot use
    the launcher.
    """
    table, toolchain = settings.profile.compiler, settings.profile.kernel.toolchain
    launcher.check_toolchain(table, toolchain)
    for group in dict.fromkeys([table.launcher, table.farm]):
        install_programs(group, offline=settings.network.offline)
    build_root.ensure_root(settings.paths.cache, toolchain, offline=settings.network.offline)
    launcher.of_profile(settings).folder.mkdir(parents=True, exist_ok=True)


def install_programs(group: str, *, offline: bool) -> None:
    """Install the missing programs of host.toml's `group`, if there is such a group.

    Raises `UserError` if some are missing and `offline` is set.
    """
    lacking = host.missing_packages(host.groups().get(group, {}), clean_env()["PATH"])
    if not lacking:
        return
    if offline:
        raise UserError(
            f"launcher {group} needs packages that are missing: {' '.join(lacking)}",
            f"apt-get install {' '.join(lacking)}",
        )
    host_packages.install_packages(lacking)
