# SPDX-License-Identifier: MIT
"""The built kernel: its release, the extensions it can read, and the modules for the core."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.formats import compression, squashfs_superblock
from tasks.origins.sources.base import Material
from tasks.util.errors import UserError
from tasks.util.files import sha256_file, write_atomic

GZIP_LEVEL = 9


def kernel_release(paths: Paths, profile: Profile) -> str:
    """Return the release of the built kernel, as `uname -r` will print it.

    Raises `UserError` if no kernel is built yet, or if the profile declares another release.
    """
    path = paths.kernel / "release"
    if not path.is_file():
        raise UserError(f"{path} does not exist", "build the kernel first: ./doit kernel")
    release = path.read_text().strip()
    check_release(paths, profile, release)
    return release


def check_release(paths: Paths, profile: Profile, release: str) -> None:
    """Raise `UserError` if the profile declares another release than that of the kernel."""
    declared = profile.kernel.release
    if declared and release != declared:
        raise UserError(
            f"profile {paths.name} declares kernel.release = {declared!r}, but the kernel's is {release!r}",
            f"set kernel.release = {release!r} in profiles/{paths.name}.toml",
        )


def material(paths: Paths, folder: Path) -> Material | None:
    """Return what a manifest says of a folder with a kernel that others built; None before it was taken.

    The digest is that of a list: the sha256 of the kernel, then modules.sha256.
    """
    listed = paths.kernel / "modules.sha256"
    if not listed.is_file() or not paths.vmlinuz.is_file():
        return None
    text = f"{sha256_file(paths.vmlinuz)}  {paths.vmlinuz.name}\n{listed.read_text()}"
    files = [paths.vmlinuz, *(path for path in (paths.kernel / "modules").rglob("*") if path.is_file())]
    size = sum(path.stat().st_size for path in files)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Material("local", folder.name, digest, size, "a kernel of the builder's own")


def check_readable(paths: Paths, extension: Path) -> None:
    """Raise `UserError` if the built kernel cannot mount a .tcz: it lacks the compressor.

    The kernel stage writes the compressors that its squashfs can read to `squashfs.formats`.
    """
    formats = (paths.kernel / "squashfs.formats").read_text().split()
    method = squashfs_superblock.compressor(extension)
    if method in formats:
        return
    option = f"CONFIG_{squashfs_superblock.KERNEL_OPTIONS.get(method, '')}"
    if not formats:
        option = "CONFIG_SQUASHFS"
    elif method not in squashfs_superblock.KERNEL_OPTIONS:
        hint = f"compress it again by one of: {', '.join(formats)}"
        raise UserError(f"{extension.name} is compressed by {method}, which no kernel can read", hint)
    raise UserError(
        f"{extension.name} is compressed by {method}, but the kernel has no {option} to read it",
        f"add {option}=y to a fragment (kconfig/NAME.config)"
        + (f", or compress it by one of: {', '.join(formats)}" if formats else ""),
    )


def core_modules(paths: Paths, profile: Profile) -> Path:
    """Return the folder that holds lib/modules/RELEASE for the core."""
    divided = profile.kernel.modules != "core"
    return paths.output / "modules" if divided else paths.kernel / "modules"


def compress_module(path: Path) -> None:
    """Replace the module NAME.ko by NAME.ko.gz, which BusyBox's modprobe reads."""
    packed = compression.compress(path.read_bytes(), "gzip", GZIP_LEVEL)
    path.with_name(f"{path.name}.gz").write_bytes(packed)
    path.unlink()


def write_record(folder: Path, release: str, config: str) -> None:
    """Write release, config, modules.sha256 and the lists of formats that the kernel can read.

    folder: has modules/.  config: the kernel's .config.  "" if nobody knows it: then the lists have
    every format, and the file config is empty.
    """
    write_atomic(folder / "release", release + "\n")
    write_atomic(folder / "config", config)
    write_atomic(folder / "modules.sha256", digests(folder / "modules"))
    for name, known in (("initramfs.formats", compression), ("squashfs.formats", squashfs_superblock)):
        formats = known.kernel_formats(config) if config else sorted(known.KERNEL_OPTIONS)
        write_atomic(folder / name, "".join(f"{method}\n" for method in formats))


def digests(root: Path) -> str:
    """Return the sha256 of all files in the folder `root`, in the form of sha256sum(1)."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return "".join(f"{sha256_file(path)}  {path.relative_to(root)}\n" for path in files)
