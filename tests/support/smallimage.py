# SPDX-License-Identifier: MIT
"""A small ISO in the layout of tcbuild's, made by the real tools, and its manifest."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.formats import cpio, initramfs_file, iso_layout
from tasks.formats.iso_layout import File
from tasks.initramfs import core
from tasks.provenance import archive_members, manifest_schema
from tasks.provenance.manifest import file_of, path_of
from tasks.provenance.manifest_schema import (
    CheckoutFile,
    Extension,
    Input,
    Kernel,
    Manifest,
    Outputs,
    ProfileUsed,
    Tcbuild,
    Tools,
)
from tests.support.images import RELEASE, bzimage

EPOCH = 1_700_000_000


@dataclass
class SmallImage:
    """The folder it was made from, the ISO, and the manifest beside it."""

    tree: Path
    iso: Path

    @property
    def manifest(self) -> Path:
        return path_of(self.iso)

    def again(self, change: Callable[[Path], None], name: str = "other.iso") -> Path:
        """Return an ISO made of the tree with one change; the manifest stays as it is."""
        other = self.tree.with_name("changed")
        shutil.copytree(self.tree, other, symlinks=True)
        change(other)
        return make_iso(other, self.iso.with_name(name))


def make_iso(tree: Path, iso: Path) -> Path:
    """Write an ISO of `tree`, as tasks/image/iso.py lays one out, but without boot loaders."""
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            os.utime(path, (EPOCH, EPOCH))
    argv = ["xorriso", "-as", "mkisofs", "-quiet", "-V", "SMALL", "-J", "-r", "-o", str(iso), str(tree)]
    argv[3:3] = ["--modification-date=2023111422132000", "--set_all_file_dates", "set_to_mtime"]
    subprocess.run(argv, check=True, capture_output=True)
    return iso


def make_tcz(path: Path, files: dict[str, bytes]) -> Path:
    """Write a .tcz with .list and .md5.txt beside it."""
    top = path.with_name(f"{path.name}.tree")
    for name, content in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content)
    path.unlink(missing_ok=True)
    times = ["-all-time", str(EPOCH), "-mkfs-time", str(EPOCH), "-all-root", "-no-xattrs", "-no-progress"]
    subprocess.run(["mksquashfs", top, path, "-b", "4096", *times], check=True, capture_output=True)
    shutil.rmtree(top)
    path.with_name(f"{path.name}.list").write_text("".join(f"{name}\n" for name in sorted(files)))
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.md5.txt").write_text(f"{digest}  {path.name}\n")
    return path


def write_core(path: Path, motd: bytes = b"hello\n") -> None:
    """Write a core with two archives and each kind of member."""
    base = (
        cpio.directory("etc"),
        cpio.regular("etc/motd", motd),
        cpio.regular("init", b"#!/bin/sh\n", 0o755),
        cpio.symlink("linuxrc", "init"),
        cpio.device("console", "c", 5, 1),
    )
    more = (cpio.directory("lib"), cpio.regular("lib/module.ko", b"\x7fELF" * 99))
    core.write_core(
        [initramfs_file.Archive("gzip", base), initramfs_file.Archive("gzip", more)], path, mtime=EPOCH
    )


def make(folder: Path) -> SmallImage:
    """Make a small image in `folder`, with the manifest that belongs to it."""
    tree = folder / "tree"
    optional = tree / "cde/optional"
    optional.mkdir(parents=True)
    (tree / "boot").mkdir()
    (tree / "boot/vmlinuz64").write_bytes(bzimage())
    write_core(tree / "boot/corepure64.gz")
    tcz = make_tcz(optional / "tool.tcz", {"usr/bin/tool": b"#!/bin/sh\n" * 900, "usr/share/tool": b"x"})
    (tree / "cde/onboot.lst").write_text("tool.tcz\n")
    iso = make_iso(tree, folder / "small.iso")
    layout = iso_layout.read(iso)
    size, digest = tcz.stat().st_size, file_of(tcz).sha256
    outputs = Outputs(
        images=(file_of(iso),),
        kernel=Kernel(RELEASE, File("config", 1, "0" * 64), file_of(tree / "boot/vmlinuz64"), ()),
        core=archive_members.of_core(tree / "boot/corepure64.gz"),
        extensions=(Extension("tool", size, digest, (), archive_members.of_squashfs(tcz)),),
        files=iso_layout.files(iso, layout),
        outside=iso_layout.areas_outside_files(iso, layout),
    )
    manifest_schema.write(path_of(iso), manifest_of(outputs))
    return SmallImage(tree, iso)


WHEEL = "Node_js-1.2-py3-none-any.whl"


def manifest_of(outputs: Outputs | None) -> Manifest:
    """Return a manifest with one input of every kind."""
    inputs = (
        Input(
            *(
                "deb",
                "libc6",
                "1" * 64,
                5,
                "debian: pool/main/g/glibc/libc6_2.36-9_amd64.deb",
                "2.36-9",
                "amd64",
                "main",
                "glibc",
            ),
            used_by=("core", "tool"),
        ),
        Input("mirror", "11.x/rootfs64.gz", "2" * 64, 5, "mirrors: 11.x/rootfs64.gz", used_by=("core",)),
        Input(
            "tcz",
            "attr",
            "3" * 64,
            5,
            "mirrors: tcz/attr.tcz",
            md5="4" * 32,
            deps=("acl",),
            used_by=("attr",),
        ),
        Input("origin", "@a+b@1.2.tgz", "5" * 64, 5, "npm:c@1", used_by=("tool",)),
        Input("origin", WHEEL, "6" * 64, 5, WHEEL, used_by=("tool",)),  # a wheel is locked by its name
        Input("image", "localhost/tool:1", "7" * 64, 5, "a file of the builder's own", used_by=("iso",)),
        Input("local", "linux", "8" * 64, 5, "a file of the builder's own", used_by=("kernel",)),
    )
    return Manifest(
        format=manifest_schema.FORMAT,
        profile=ProfileUsed("small", {"fragments": "a,b"}, {"kernel": {"fragments": ["a", "b"]}}),
        tcbuild=Tcbuild(
            "", True, "9" * 64, (CheckoutFile("doit", "a" * 64, True), CheckoutFile("l", target="x"))
        ),
        inputs=inputs,
        tools=Tools({"gcc": "12"}, {"doit": "1"}, "host, gcc 12"),
        config="b" * 64,
        commands={"iso": ("xorriso -o ${OUTPUT}/small.iso",)},
        outputs=outputs,
    )
