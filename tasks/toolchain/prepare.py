# SPDX-License-Identifier: MIT
"""Prepare the profile's toolchains and launcher, before a stage runs their programs.

Only this module installs programs and makes build roots; the others of this package use them.
The packages of a build root are fetched before (tasks/fetch/toolchain.py).
"""

from __future__ import annotations

from tasks.config.settings import Settings
from tasks.toolchain import build_root, entry, launcher
from tasks.util import host, host_packages
from tasks.util.errors import UserError
from tasks.util.files import write_if_changed
from tasks.util.log import logger
from tasks.util.process import search_path


def prepare(settings: Settings) -> None:
    """Prepare the toolchains; install the launcher's programs, and make its folder.

    Raises `UserError` if something cannot be installed or made, and if the toolchain cannot use
    the launcher.
    """
    table = settings.profile.compiler
    launcher.check_toolchain(table, settings.profile.kernel_toolchain)
    for group in dict.fromkeys([table.launcher, table.farm]):
        install_programs(group, offline=settings.network.offline)
    ensure_toolchains(settings)
    launcher.of_profile(settings).folder.mkdir(parents=True, exist_ok=True)


def ensure_toolchains(settings: Settings) -> None:
    """Make the build roots that the profile needs here, and say and record what runs the toolchains.

    It is said when it is new in this output folder.  Raises `UserError` if a root cannot be made
    or entered.
    """
    said = []
    for name in settings.profile.toolchains:
        if entry.root_needed(name):
            build_root.ensure(settings.paths.cache, name)
        said.append(describe(name, entry.of_toolchain(settings.paths.cache, name)))
    if write_if_changed(settings.paths.toolchain_record, "".join(f"{line}\n" for line in said)):
        for line in said:
            logger.info(line)


def tell(settings: Settings) -> None:
    """Prepare the toolchains as `ensure_toolchains` does, and say what runs them in any case."""
    settings.paths.toolchain_record.unlink(missing_ok=True)
    ensure_toolchains(settings)


def describe(name: str, found: entry.Entry) -> str:
    """Return one line on what runs the programs of toolchain `name`, and why."""
    if name == build_root.HOST:
        return "toolchain host: the programs of this machine"
    if found.way == "host":
        return f"toolchain {name}: the programs of this machine ({found.why})"
    return f"toolchain {name}: a build root, entered by {found.way} ({found.why})"


def install_programs(group: str, *, offline: bool) -> None:
    """Install the missing programs of host.toml's `group`, if there is such a group.

    Raises `UserError` if some are missing and `offline` is set.
    """
    lacking = host.missing_packages(host.groups().get(group, {}), search_path())
    if not lacking:
        return
    if offline:
        raise UserError(
            f"launcher {group} needs packages that are missing: {' '.join(lacking)}",
            f"apt-get install {' '.join(lacking)}",
        )
    host_packages.install_packages(lacking)
