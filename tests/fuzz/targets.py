# SPDX-License-Identifier: MIT
"""Every parser of input that others write, with good inputs to start from."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.cli import identify
from tasks.config import plan, profile, rootfs_rules
from tasks.config.check import CheckFile
from tasks.config.recipe import Recipe
from tasks.formats import (
    archive,
    bzimage,
    compression,
    container_archive,
    cpio,
    elf,
    initramfs_file,
    ktap,
    licence_text,
    magic,
    module_symbols,
    tcz,
)
from tasks.formats.shrinkwrap import read_shrinkwrap
from tasks.image import grub
from tasks.image.bootcodes import Bootcodes
from tasks.kernel import fragments, patches, selftests
from tasks.origins import lock
from tasks.origins.mirrors import parse_md5
from tasks.origins.origin_lock import OriginLock
from tasks.origins.released import parse_sha256
from tasks.provenance import manifest_schema
from tasks.remaster import boot_menus, disks, tce_folder
from tasks.remaster.medium import Budget
from tasks.toolchain import build_root
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.vm import kernel_log, ktap_results, results
from tasks.vm.boots import Media
from tests.support import images, media, oci, smallimage
from tests.unit.vm.test_kernel_log import OOPS

SUM = "sha512-" + base64.b64encode(bytes(range(64))).decode()
DIGEST = "d41d8cd98f00b204e9800998ecf8427e"


@dataclass(frozen=True)
class Target:
    """A parser: seeds are good inputs; `parse` gets one input and the only folder it may write to.

    weight: the share of inputs it gets; those that start a program get less;
    refuses: whether any input is refused at all.
    """

    name: str
    seeds: Sequence[bytes]
    parse: Callable[[bytes, Path], Any]
    weight: float = 1.0
    refuses: bool = True


def on_file(parse: Callable[[Path], Any], name: str = "input") -> Callable[[bytes, Path], Any]:
    """Return a parser of bytes that hands them on as a file."""

    def call(data: bytes, folder: Path) -> Any:
        path = folder / name
        path.write_bytes(data)
        return parse(path)

    return call


def on_text(parse: Callable[[str], Any]) -> Callable[[bytes, Path], Any]:
    """Return a parser of bytes that hands them on as the stages read text from the network."""
    return lambda data, folder: parse(data.decode("utf-8", "replace"))


def toml(kind: type[Any], *paths: str) -> tuple[Sequence[bytes], Callable[[bytes, Path], Any]]:
    """Return the project's own files of a schema as seeds, and its loader."""
    seeds = [path.read_bytes() for pattern in paths for path in sorted(CHECKOUT.root.glob(pattern))]
    assert seeds, f"{paths} match nothing"
    return seeds, on_file(lambda path: toml_schema.load(path, kind), "input.toml")


def _boot_header(data: bytes, folder: Path) -> None:
    bzimage.read_pe(data)
    header = bzimage.read_header(data)
    bzimage.version_string(data, header)
    bzimage.check_header(header)


def _decompress(data: bytes, folder: Path) -> None:
    view = memoryview(data)
    compression.detect(view)
    compression.peek(view, 0, 64)
    compression.decompress_one(view, 0, 1 << 20)


def _cpio_again(data: bytes, folder: Path) -> None:
    members, _ = cpio.read(memoryview(data))
    cpio.write(cpio.share_links(members), mtime=None)


def _core(path: Path) -> None:
    root = initramfs_file.unpacked(initramfs_file.read_core(path))
    cpio.write(root.members().values(), mtime=0)


def _identify(path: Path) -> None:
    verdict = identify.identify(path)
    assert str(verdict).strip()


def _series(data: bytes, folder: Path) -> None:
    tree = folder / "linux"
    tree.mkdir(exist_ok=True)
    (tree / "file.c").write_bytes(b"one\ntwo\nthree\n")
    (folder / "input.patch").write_bytes(data)
    patches.sync(tree, [folder / "input.patch"], folder / "log")


def _tar(**files: bytes) -> bytes:
    return oci.tar({name.replace("__", "/"): content for name, content in files.items()})


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("bin/tool", b"#!/bin/sh\n")
        made.writestr("share/", b"")
    return out.getvalue()


def _cpio() -> bytes:
    links = cpio.hard_links(cpio.regular("bin/busybox", b"program"), ["bin/busybox", "bin/sh"], 7)
    made = [cpio.directory("bin"), cpio.symlink("bin/ls", "busybox"), cpio.device("null", "c", 1, 3)]
    return cpio.write([*made, *links], mtime=0)


def _shrinkwrap() -> bytes:
    entry = {"version": "1.0.0", "integrity": SUM, "dependencies": {"b": "1"}}
    packages = {"": {"dependencies": {"a": "1"}}, "node_modules/a": entry, "node_modules/b": {**entry}}
    return json.dumps({"lockfileVersion": 3, "packages": packages}).encode()


def _in_image(files: oci.Files, name: str) -> Callable[[bytes, Path], Any]:
    """Return a parser of one file of an image archive; the others stay good."""
    parse = on_file(container_archive.read)
    return lambda data, folder: parse(oci.tar({**files, name: data}), folder)


KTAP = sorted((CHECKOUT.root / "tests/data/ktap").glob("*.txt"))
OCI = oci.oci_image([_tar(a=b"1")])
DOCKER = oci.docker_image([_tar(a=b"1")], "localhost/x:1")
PATCH = b"--- a/file.c\n+++ b/file.c\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"
MODULES = [images.module(), images.shared("libc.so.6", soname="libx.so", interpreter="/lib/ld.so")]
PACKED = [pack(b"content " * 40) for pack in images.PACK.values()]
CORES = [_cpio(), gzip.compress(_cpio(), mtime=0) + bytes(4) + gzip.compress(_cpio(), mtime=0)]
LOCKS = ("profiles/*.lock.toml",)


DISKS = media.disks()


def _boot(name: str) -> bytes:
    return (CHECKOUT.root / "tasks/image/boot" / name).read_bytes()


def _syslinux(text: str) -> None:
    boot_menus.usable([code for entry in boot_menus.parse_syslinux(text).entries for code in entry.codes])


def _grub(text: str) -> None:
    boot_menus.usable([code for entry in boot_menus.parse_grub(text).entries for code in entry.codes])


def _ktap(text: str) -> None:
    ktap_results.of_output(ktap.parse(text.splitlines()))


def _disk(data: bytes, folder: Path) -> None:
    path = folder / "input"
    path.write_bytes(data)
    found = disks.open_medium(path, folder)
    for volume in found.volumes:
        for name in volume.files:
            Budget(found).copy(volume, name, folder / "copy")


TARGETS = [
    Target("boot header", [images.bzimage(), images.bzimage(efi=False)], _boot_header),
    Target("bzImage", [images.bzimage()], on_file(bzimage.check_bzimage)),
    Target(
        "check FILE",
        [images.bzimage(), images.vmlinux(), *MODULES, *PACKED, *CORES, _zip(), b"#!/bin/sh\n"],
        on_file(_identify),
        refuses=False,
    ),
    Target(
        "file type",
        [images.bzimage(), images.vmlinux(), _zip()],
        lambda data, _: magic.classify(data),
        refuses=False,
    ),
    Target("compression", PACKED, _decompress),
    Target("cpio", [_cpio()], _cpio_again),
    Target("core.gz", CORES, on_file(_core)),
    Target("module", MODULES[:1], on_file(elf.module_facts, "input.ko")),
    Target("symbols of a module", MODULES[:1], on_file(module_symbols.needed, "input.ko")),
    Target(
        "Module.symvers",
        [b"0x12\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n"],
        on_text(lambda text: module_symbols.exported(text, "x")),
    ),
    Target(
        "licence of a tar",
        [_tar(a__LICENSE=b"1", a__b=b"2"), gzip.compress(_tar(COPYING=b"1"), mtime=0)],
        on_file(licence_text.of_tar),
        refuses=False,
    ),
    Target("ELF closure", MODULES, on_file(elf.dynamic)),
    Target(
        "tar",
        [_tar(a=b"1", b__c=b"2"), gzip.compress(_tar(a=b"1"), mtime=0), oci.tar({"a": b""}, {"b": "a"})],
        lambda data, folder: on_file(lambda path: archive.unpack_tar(path, folder / "out"))(data, folder),
        weight=0.3,
    ),
    Target(
        "zip",
        [_zip()],
        lambda data, folder: on_file(lambda path: archive.unpack_zip(path, folder / "out", label="x"))(
            data, folder
        ),
    ),
    Target(
        "image tar",
        [oci.tar(OCI), oci.tar(DOCKER)],
        on_file(container_archive.read),
    ),
    Target("OCI index", [OCI["index.json"]], _in_image(OCI, "index.json")),
    Target("manifest.json of docker save", [DOCKER["manifest.json"]], _in_image(DOCKER, "manifest.json")),
    Target("profile", *toml(profile.Profile, "profiles/apt.toml")),
    Target("recipe", *toml(Recipe, "extensions/*/recipe.toml")),
    Target("lock", *toml(lock.Lock, *LOCKS)),
    Target("lock of origins", *toml(OriginLock, "extensions/nodejs/lock.toml")),
    Target(
        "manifest",
        [manifest_schema.to_json(smallimage.manifest_of(None)).encode()],
        lambda data, _: manifest_schema.parse(data, "x.manifest.json"),
    ),
    Target("bootcodes.toml", *toml(Bootcodes, "tasks/image/bootcodes.toml")),
    Target("checks.toml", *toml(CheckFile, "tasks/config/checks.toml", "extensions/*/checks/*.toml")),
    Target("kernel_log.toml", *toml(kernel_log.Rules, "tasks/vm/kernel_log.toml")),
    Target(
        "record of tests",
        [b'{"started": 1.0, "seconds": 2.0, "results": [{"name": "a", "outcome": "passed"}]}'],
        on_file(results.read),
    ),
    Target("kernel's log", [OOPS.encode()], on_text(kernel_log.result), refuses=False),
    Target("KTAP", [path.read_bytes() for path in KTAP], on_text(_ktap), refuses=False),
    Target("selftests.toml", *toml(selftests.Known, "tasks/kernel/selftests.toml")),
    Target("media.toml", *toml(Media, "tasks/vm/media.toml")),
    Target("boot.toml", *toml(grub.Loaders, "tasks/image/boot/boot.toml")),
    Target("modules.toml", *toml(plan.Sorting, "kconfig/modules.toml")),
    Target("rootfs.toml", *toml(rootfs_rules.Rules, "rootfs/rootfs.toml")),
    Target("toolchain", *toml(build_root.Toolchain, "tasks/toolchain/toolchains/*[!k].toml")),
    Target(
        "fragment",
        [b'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="x"\nCONFIG_D=0x10\n'],
        lambda data, _: fragments.parse_fragment(data, "input.config"),
    ),
    Target(
        ".config", [b"CONFIG_A=y\n# CONFIG_B is not set\n"], on_text(fragments.parse_config), refuses=False
    ),
    Target("patch", [PATCH], _series, weight=0.02),
    Target(".dep", [b"a.tcz\nnet-bridging-KERNEL.tcz\n"], on_text(lambda text: tcz.parse_dep(text, "x"))),
    Target(
        ".md5.txt",
        [DIGEST.encode() + b"  a.tcz\n"],
        on_text(lambda text: parse_md5(text, "a.tcz", "x")),
    ),
    Target(
        "SHA256SUMS",
        [DIGEST.encode() * 2 + b"  a.tar.gz\n"],
        on_text(lambda text: parse_sha256(text, "a.tar.gz", "x")),
    ),
    Target("isolinux.cfg", [media.MENU.encode(), _boot("isolinux.cfg")], on_text(_syslinux), refuses=False),
    Target("grub.cfg", [_boot("grub.cfg")], on_text(_grub), refuses=False),
    Target(
        "onboot.lst",
        [b"a.tcz\n# all\nb.tcz # why\nc d\n"],
        on_text(lambda text: tce_folder.parse_list(text, "onboot.lst")),
        refuses=False,
    ),
    *([Target("disk", DISKS, _disk, weight=0.02)] if DISKS else []),
    Target("npm-shrinkwrap.json", [_shrinkwrap()], lambda data, _: read_shrinkwrap(data, ("b*",), "x")),
]
