# SPDX-License-Identifier: MIT
"""The identity of what an image takes from this machine's packages: boot loaders and programs.

An upgrade of such a package changes the image, so its task is outdated.  The identity stands in
no manifest, because the same loaders may lie on another machine with other times.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tasks.config.profile import Profile
from tasks.image import grub
from tasks.toolchain import build_root, identity
from tasks.util.errors import UserError

GRUB = Path("/usr/lib/grub")  # where grub-mkimage looks for modules: its --directory
EFI_PROGRAMS = ("grub-mkimage", "mformat")  # the programs of mtools are links to one


def of_iso(profile: Profile) -> dict[str, object]:
    """Return the identity of what an ISO is made with, by path; of a pinned toolchain its digest."""
    if profile.toolchain != build_root.HOST:
        return {"toolchain": build_root.digest(profile.toolchain)}
    try:
        loaders, efi = grub.loaders(), grub.efi_loaders(profile.architecture)
    except UserError:  # the build says so; the file is an input of the task
        return {}
    loader_files = identity.files(*loaders.isolinux.files, loaders.isolinux.mbr)
    programs = identity.programs(*EFI_PROGRAMS, "xorriso")
    return _by_path([*loader_files, *programs]) | _modules(*efi.values())


def of_disk(profile: Profile) -> dict[str, object]:
    """Return the identity of what a disk image is made with, as `of_iso` does."""
    if profile.toolchain != build_root.HOST:
        return {"toolchain": build_root.digest(profile.toolchain)}
    try:
        loaders, efi = grub.loaders(), grub.efi_loaders(profile.architecture)
    except UserError:
        return {}
    programs = identity.programs(*EFI_PROGRAMS, "sfdisk", "mke2fs", "debugfs", "qemu-img")
    return _by_path([*identity.files(loaders.pc.mbr), *programs]) | _modules(*efi.values(), loaders.pc)


def _by_path(found: list[identity.Identity]) -> dict[str, object]:
    return {path: (size, mtime) for path, size, mtime in found}


def _modules(*loaders: grub.Grub) -> dict[str, object]:
    """Return for each GRUB platform one digest of the identity of all its files: modules need others."""
    return {folder: digest for loader in loaders for folder, digest in _platform(GRUB / loader.format)}


def _platform(folder: Path) -> list[tuple[str, str]]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    found = identity.files(*(f"{folder}/{name}" for name in names))
    return [(str(folder), hashlib.sha256(repr(found).encode()).hexdigest()[:16])] if found else []
