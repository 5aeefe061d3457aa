# SPDX-License-Identifier: MIT
"""What the kernel stage writes beside vmlinuz64 and modules/, for the stages that follow."""

from __future__ import annotations

from pathlib import Path

from tasks.formats import compression, squashfs_superblock
from tasks.util.files import sha256_file, write_atomic


def write(folder: Path, release: str, config: str) -> None:
    """Write release, config, modules.sha256 and the lists of formats that the kernel can read.

    folder: has modules/.  config: the kernel's .config.  "" if nobody knows it: then the lists have
    every format, and the file config is empty.
    """
    write_atomic(folder / "release", release + "\n")
    write_atomic(folder / "config", config)
    write_atomic(folder / "modules.sha256", _digests(folder / "modules"))
    for name, known in (("initramfs.formats", compression), ("squashfs.formats", squashfs_superblock)):
        formats = known.kernel_formats(config) if config else sorted(known.KERNEL_OPTIONS)
        write_atomic(folder / name, "".join(f"{method}\n" for method in formats))


def _digests(root: Path) -> str:
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return "".join(f"{sha256_file(path)}  {path.relative_to(root)}\n" for path in files)
