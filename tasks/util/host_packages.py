# SPDX-License-Identifier: MIT
"""Install packages of this machine's distribution by apt: on it, or without root in the cache folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tasks.util import host
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir, remove_tree, write_atomic
from tasks.util.log import logger
from tasks.util.process import run

ROOTLESS_VARIABLE = "TCBUILD_ROOTLESS"
PROGRAM_FOLDERS = ("usr/bin", "usr/sbin", "bin", "sbin")
LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib", "lib")
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
# How long another apt may take, such as unattended-upgrades on a machine that has just started.
LOCK_SECONDS = 600
# Starts a program of the folder with its libraries.  Only that program sees them.
STARTER = """#!/bin/sh
root=${{0%/*}}/..
LD_LIBRARY_PATH="{libraries}" exec "$root/{program}" "$@"
"""


def is_rootless() -> bool:
    """Tell whether the user asks to leave the machine's own packages alone: TCBUILD_ROOTLESS=1."""
    return os.environ.get(ROOTLESS_VARIABLE, "") == "1"


def install_packages(packages: Sequence[str]) -> None:
    """Install packages by apt; with TCBUILD_ROOTLESS=1, unpack them in the cache folder instead.

    Waits for another apt up to `LOCK_SECONDS`.
    Raises `UserError`, which lists all of them, if apt is missing, or if the user is not root and does
    not ask for the cache folder.
    """
    listed = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise UserError(
            f"missing, and this machine has no apt: {listed} (Debian's names)",
            "install them by the package manager of this machine",
        )
    if is_rootless():
        unpack_packages(packages, host.added_folder())
        return
    command = f"apt-get install --no-install-recommends {listed}"
    hint = f"{ROOTLESS_VARIABLE}=1 ./doit ... unpacks them in the cache folder; as root: {command}"
    if os.geteuid() != 0:
        raise UserError(f"missing: {listed}", hint)
    logger.info(f"installing: {listed}")
    log = CHECKOUT.artifacts / "logs" / "setup.log"
    run(["apt-get", "update"], log=log, hint="apt's sources cannot be reached")
    options = [f"-oDPkg::Lock::Timeout={LOCK_SECONDS}", "-y", "--no-install-recommends"]
    run(["apt-get", "install", *options, *packages], log=log, hint=hint)


def unpack_packages(packages: Sequence[str], folder: Path) -> None:
    """Fetch packages and what they need by apt, and unpack them into `folder`, without root.

    apt works with the machine's sources and keys, and with folders of its own for lists and packages.
    It leaves out what the machine has.  No maintainer script runs.  Its folder `start` gets a starter of
    every program.  Packages of an earlier call stay.  Raises `UserError` if apt cannot fetch the packages.
    """
    logger.info(f"unpacking in {folder}: {' '.join(packages)}")
    log = CHECKOUT.artifacts / "logs" / "setup.log"
    record = folder / "packages"
    earlier = record.read_text().split() if record.is_file() else []
    wanted = sorted({*earlier, *packages})
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_dir(folder) as partial:
        apt = ["apt-get", *_apt_options(partial / "apt")]
        run([*apt, "update"], log=log, hint="apt's sources cannot be reached")
        fetch = ["install", "-y", "--no-install-recommends", "--download-only"]
        run([*apt, *fetch, *wanted], log=log)
        for package in sorted((partial / "apt/cache/archives").glob("*.deb")):
            run(["dpkg-deb", "--extract", package, partial], log=log)
        remove_tree(partial / "apt")
        _write_starters(partial)
        _write_certificates(partial)
        write_atomic(partial / "packages", "".join(f"{name}\n" for name in wanted))


def _apt_options(folder: Path) -> list[str]:
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    return [
        f"-oDir::State={folder}/state",
        "-oDir::State::status=/var/lib/dpkg/status",  # what the machine has
        f"-oDir::Cache={folder}/cache",
        "-oDebug::NoLocking=1",  # the lock of dpkg needs root
        "-oAPT::Sandbox::User=",
    ]


def _write_starters(folder: Path) -> None:
    libraries = ":".join(f"$root/{place}" for place in LIBRARY_FOLDERS if (folder / place).is_dir())
    starters = folder / host.STARTERS
    starters.mkdir()
    for place in PROGRAM_FOLDERS:
        for program in sorted((folder / place).glob("*")):
            if program.is_file():  # not a link to what the machine has
                starter = starters / program.name
                starter.write_text(STARTER.format(libraries=libraries, program=f"{place}/{program.name}"))
                starter.chmod(0o755)


def _write_certificates(folder: Path) -> None:
    """Write what update-ca-certificates(8) would: the certificates of package ca-certificates in one file."""
    if found := sorted((folder / "usr/share/ca-certificates").rglob("*.crt")):
        bundle = folder / CERTIFICATES
        bundle.parent.mkdir(parents=True, exist_ok=True)
        bundle.write_bytes(b"".join(path.read_bytes() for path in found))
