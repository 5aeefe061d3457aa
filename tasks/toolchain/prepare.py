# SPDX-License-Identifier: MIT
"""Prepare the profile's toolchains and launcher, before a stage runs their programs.

Only this module installs programs and makes build roots; the others of this package use them.
The packages of a build root are fetched before (tasks/fetch/toolchain.py).
"""

from __future__ import annotations

import os

from tasks.config.profile import Profile
from tasks.config.settings import Settings
from tasks.toolchain import build_root, entry, launcher
from tasks.util import host, host_packages
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import locked, write_if_changed
from tasks.util.log import logger
from tasks.util.process import search_path

# The groups of host.toml whose programs write results.
BUILD = "build"
COMPILE = "compile"


def prepare(settings: Settings) -> None:
    """Prepare the toolchains; install the launcher's programs, and make its folder.

    Raises `UserError` if something cannot be installed or made, and if the toolchain cannot use
    the launcher.
    """
    table = settings.profile.compiler
    _check_compiler(settings.profile.kernel_toolchain)
    launcher.check_toolchain(table, settings.profile.kernel_toolchain)
    for group in dict.fromkeys([table.launcher, table.farm]):
        install_programs(group, offline=settings.network.offline)
    ensure_toolchains(settings)
    launcher.of_profile(settings).folder.mkdir(parents=True, exist_ok=True)


def _check_compiler(toolchain: str) -> None:
    if not build_root.load(toolchain).compiler:
        raise UserError(
            f"toolchain {toolchain} has no compiler, and the profile's kernel is built from its source",
            'kernel.toolchain = "debian12", or a kernel that others built (source.kind = "image")',
        )


def install_host_toolchain(settings: Settings) -> None:
    """Install the programs that write results, if a toolchain of the profile is `host`.

    It runs before tasks are declared: these depend on the programs.  Raises `UserError` as
    `install_programs` does.
    """
    if build_root.HOST in settings.profile.toolchains:
        install_programs(*host_groups(settings.profile), offline=settings.network.offline)


def host_groups(profile: Profile) -> list[str]:
    """Return the groups of host.toml that a toolchain `host` needs: compilers only to build a kernel."""
    return [BUILD] if profile.kernel.image else [BUILD, COMPILE]


def ensure_toolchains(settings: Settings, *, read_all: bool = False) -> None:
    """Make the build roots that the profile needs here, and say and record what runs the toolchains.

    It is said when it is new in this output folder.  read_all: as in `build_root.faults`.
    Raises `UserError` if a root cannot be made or entered.
    """
    said = []
    for name in settings.profile.toolchains:
        if entry.root_needed(name):
            build_root.ensure(settings.paths.cache, name, read_all=read_all)
        said.append(describe(name, entry.of_toolchain(settings.paths.cache, name)))
    if write_if_changed(settings.paths.toolchain_record, "".join(f"{line}\n" for line in said)):
        for line in said:
            logger.info(line)


def tell(settings: Settings) -> None:
    """Prepare the toolchains as `ensure_toolchains` does, and say what runs them in any case.

    Each file of a build root is read, and a damaged one is unpacked again.
    """
    settings.paths.toolchain_record.unlink(missing_ok=True)
    ensure_toolchains(settings, read_all=True)


def describe(name: str, found: entry.Entry) -> str:
    """Return one line on what runs the programs of toolchain `name`, and why."""
    if name == build_root.HOST:
        return "toolchain host: the programs of this machine"
    if found.way == "host":
        return f"toolchain {name}: the programs of this machine ({found.why})"
    return f"toolchain {name}: a build root, entered by {found.way} ({found.why})"


def install_programs(*groups: str, offline: bool) -> None:
    """Install the missing programs of those of `groups` that host.toml has.

    groups: a launcher, or `build` and `compile`.  Raises `UserError` if some are missing, and `offline` is
    set or they cannot be installed.
    """
    known, writes = host.groups(), BUILD in groups
    tools = {tool: package for group in groups for tool, package in known.get(group, {}).items()}
    if not host.missing_packages(tools, search_path()):
        return
    with locked(CHECKOUT.artifacts / ".setup.lock"):  # two tasks may need them at once
        lacking = host.missing_packages(tools, search_path())
        if not lacking:
            return
        user = f"toolchain {build_root.HOST}" if writes else f"launcher {groups[0]}"
        missing, command = f"{user} needs packages that are missing", f"apt-get install {' '.join(lacking)}"
        if offline:
            raise UserError(f"{missing}: {' '.join(lacking)}", command)
        if writes and (os.geteuid() != 0 or host_packages.is_rootless()):
            # A compiler looks for its files at fixed places.
            raise UserError(
                f"{missing}, and cannot be used from another folder: {' '.join(lacking)}",
                f"use a pinned toolchain, which needs no root (toolchain=debian12); or as root: {command}",
            )
        host_packages.install_packages(lacking)
