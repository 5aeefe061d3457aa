# SPDX-License-Identifier: MIT
"""A folder with a small Tiny Core as its disc has it, to import or to make media of."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tasks.formats import cpio
from tasks.remaster.medium import Volume
from tasks.util.process import PATH, run
from tests.support import images
from tests.support.tinycore import md5_text

MENU = """\
UI menu.c32
PROMPT 0
TIMEOUT 45
DEFAULT other
LABEL tc
KERNEL /boot/vmlinuz64
INITRD /boot/corepure64.gz
APPEND loglevel=3 cde waitusb=5 dyndbg="file ext4 +p"
LABEL base
LINUX /boot/vmlinuz64
APPEND initrd=/boot/corepure64.gz base
MENU DEFAULT
"""
ROOT = (
    cpio.regular("init", b"#!/bin/sh\n", 0o755),
    cpio.directory("etc"),
    cpio.regular("etc/fstab", b"# none\n"),
    *(cpio.directory(name) for name in ("usr", "usr/share", "usr/share/doc", "usr/share/doc/tc")),
    cpio.regular("usr/share/doc/tc/release.txt", b"11.0\n"),
)


def tcz(name: str) -> bytes:
    """Return what is a squashfs by its superblock: gzip, little endian."""
    return b"hsqs" + bytes(16) + b"\1\0" + name.encode() * 300


def core(*more: cpio.Member) -> bytes:
    """Return a core: `ROOT` and further members; one with a name of `ROOT` replaces it."""
    made = {member.name: member for member in (*ROOT, *more)}
    return gzip.compress(cpio.write(made.values(), mtime=1_600_000_000), mtime=0)


def disc(top: Path, *, menu: str = MENU, root: bytes = b"", folder: str = "cde") -> Path:
    """Write a disc to the folder `top`: kernel, core, menu, and the extensions a (needs b), b, c."""
    write(
        top,
        {
            "boot/vmlinuz64": images.bzimage(),
            "boot/corepure64.gz": root or core(),
            "boot/isolinux/isolinux.cfg": menu.encode(),
            f"{folder}/onboot.lst": b"a.tcz\n",
            f"{folder}/optional/a.tcz.dep": b"b.tcz\n",
            **{f"{folder}/optional/{name}.tcz": tcz(name) for name in "abc"},
            **{f"{folder}/optional/{name}.tcz.md5.txt": md5_text(f"{name}.tcz", tcz(name)) for name in "abc"},
        },
    )
    return top


def write(top: Path, files: Mapping[str, bytes]) -> None:
    """Write files below `top`."""
    for name, content in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content)


def disks() -> list[bytes]:
    """Return small disks, each with one file system and a few files: ext2 and FAT."""
    if not (shutil.which("mke2fs", path=PATH) and shutil.which("mformat", path=PATH)):
        return []  # the unit tests need no such tools, and fuzz no disk
    with tempfile.TemporaryDirectory(prefix="tcbuild-media-") as folder:
        top = Path(folder)
        write(top / "tree", {"tce/onboot.lst": b"a.tcz\n", "tce/optional/a.tcz": tcz("a")})
        run(["mke2fs", "-q", "-t", "ext2", "-N", "16", "-d", top / "tree", top / "ext", "64k"])
        env = {"MTOOLSRC": "/dev/null"}
        run(["mformat", "-C", "-i", top / "fat", "-T", "200", "-h", "2", "-s", "10", "::"], env=env)
        run(["mcopy", "-s", "-i", top / "fat", top / "tree/tce", "::/"], env=env)
        return [(top / name).read_bytes() for name in ("ext", "fat")]


class Files(Volume):
    """A file system in memory."""

    def __init__(self, contents: Mapping[str, bytes], name: str = "") -> None:
        super().__init__(name, {path: len(content) for path, content in contents.items()})
        self.contents = dict(contents)

    def copy(self, path: str, target: Path, limit: int) -> None:
        target.write_bytes(self.contents[path][:limit])


def checkout(folder: Path, profiles: Path) -> Path:
    """Copy the profiles of a checkout to `folder`, to import into."""
    shutil.copytree(profiles, folder / "profiles")
    return folder
