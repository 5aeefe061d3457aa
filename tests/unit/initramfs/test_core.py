# SPDX-License-Identifier: MIT
"""core.gz: archives one after the other, overlays, modules, and the whole stage."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.config.profile import Extension
from tasks.config.settings import Settings
from tasks.config.sources import Core
from tasks.formats import compression, cpio, initramfs_file
from tasks.formats.cpio import Member, device, directory, hard_links, regular, symlink
from tasks.formats.initramfs_file import Archive
from tasks.initramfs import core
from tasks.initramfs.parts import joined
from tasks.util.errors import UserError
from tests.support.images import elf
from tests.support.trees import trees

METHODS = st.sampled_from(["plain", "gzip", "xz", "zstd"])
RELEASE = "6.12.1-tcbuild"
FAST = {"gzip": 1, "xz": 0, "zstd": 1, "plain": None}
A, B = cpio.write([regular("a", b"1")], mtime=0), cpio.write([regular("b", b"2")], mtime=0)


def packed(data: bytes, method: str) -> bytes:
    return compression.compress(data, method, FAST[method])


def names(archives: list[Archive]) -> list[tuple[str, list[str]]]:
    return [(archive.method, [member.name for member in archive.members]) for archive in archives]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.tuples(METHODS, trees(), st.integers(0, 9)), min_size=1, max_size=4))
def test_archives_one_after_the_other_are_read_back(
    tmp_path: Path, parts: list[tuple[str, list[Member], int]]
) -> None:
    """Every method, every padding the kernel allows (to 4 bytes around plain archives)."""
    file = b""
    for method, members, zeros in parts:
        file += packed(cpio.write(members, mtime=None), method)
        file += bytes(-len(file) % 4 + 4 * zeros)
    (tmp_path / "core.gz").write_bytes(file)
    found = initramfs_file.read_core(tmp_path / "core.gz")
    written = [(method, cpio.write(members, mtime=None)) for method, members, _ in parts]
    assert [(item.method, cpio.write(item.members, mtime=None)) for item in found] == written


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.tuples(METHODS, trees()), min_size=1, max_size=3))
def test_write_core_is_read_back_and_always_the_same(
    tmp_path: Path, parts: list[tuple[str, list[Member]]]
) -> None:
    archives = [Archive(method, tuple(members)) for method, members in parts]
    out = tmp_path / "core.gz"
    core.write_core(archives, out, mtime=7)
    first = out.read_bytes()
    found = initramfs_file.read_core(out)
    assert initramfs_file.merged(found) == initramfs_file.merged(
        Archive(
            "plain", tuple(replace(m, mtime=7) for m in cpio.read(memoryview(cpio.write(ms, mtime=0)))[0])
        )
        for _, ms in parts
    )
    backwards = [Archive(item.method, item.members[::-1]) for item in archives]
    core.write_core(backwards, out, mtime=7)
    assert out.read_bytes() == first


def test_zeros_before_and_odd_gaps_after_compressed_archives(tmp_path: Path) -> None:
    """After a compressed archive the kernel takes another one at any offset, a plain one only at 4n."""
    path = tmp_path / "core.gz"
    start = bytes(5) + packed(A, "gzip")
    path.write_bytes(start + bytes(-len(start) % 4 + 1) + packed(B, "xz") + bytes(3))
    assert names(initramfs_file.read_core(path)) == [("gzip", ["a"]), ("xz", ["b"])]


def test_two_archives_in_one_stream(tmp_path: Path) -> None:
    """`zcat rootfs64.gz modules64.gz | gzip` makes such a file."""
    path = tmp_path / "core.gz"
    path.write_bytes(packed(A + bytes(512) + B, "gzip"))
    assert names(initramfs_file.read_core(path)) == [("gzip", ["a"]), ("gzip", ["b"])]


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (b"", "the file has no cpio archive"),
        (bytes(1000), "the file has no cpio archive"),
        (A + b"junk", f"no compressed stream at offset {len(A)}"),
        (packed(A, "gzip") + b"junk", "no compressed stream at offset"),
        (A + b"\0" + B, f"archive 2 starts at offset {len(A) + 1}, which is no multiple of 4"),
        (
            A + b"\0" + packed(B, "gzip"),
            f"archive 2 starts at offset {len(A) + 1}, which is no multiple of 4",
        ),
        (packed(A + b"\0" + B, "gzip"), "junk in the gzip stream at offset 0, at"),
        (packed(A + b"junk", "gzip"), "no cpio header: found b'junk'"),
        (packed(b"", "xz"), "the xz stream at offset 0 holds no cpio archive"),
        (packed(bytes(64), "xz"), "no cpio header"),
        (b"\xc7\x71" + bytes(90), "old binary format"),
        (b"070707" + bytes(90), "old portable (odc) format"),
        (b"<html>not found</html>", "it is an HTML page"),
        (b"hsqs" + bytes(92), "it is a squashfs file system, as a Tiny Core extension (.tcz) is, not a core"),
    ],
)
def test_what_the_kernel_refuses_is_refused(tmp_path: Path, file: bytes, says: str) -> None:
    path = tmp_path / "core.gz"
    path.write_bytes(file)
    with pytest.raises(UserError) as caught:
        initramfs_file.read_core(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert says in caught.value.message


@pytest.mark.parametrize("method", ["plain", "gzip", "xz", "zstd"])
def test_a_truncated_file_is_detected_or_ends_between_archives(tmp_path: Path, method: str) -> None:
    path = tmp_path / "core.gz"
    one, two = packed(A, "gzip"), packed(B, method)
    one += bytes(-len(one) % 4)
    end = cpio.read(memoryview(B))[1] if method == "plain" else len(two)
    for cut in range(len(one) + 1, len(one) + end, 3):
        path.write_bytes((one + two)[:cut])
        with pytest.raises(UserError, match=r"core\.gz: "):
            initramfs_file.read_core(path)
    path.write_bytes(one + two[:end])
    assert names(initramfs_file.read_core(path)) == [("gzip", ["a"]), (method, ["b"])]


def test_append_leaves_the_base_as_it_is(tmp_path: Path) -> None:
    base, out = tmp_path / "base.gz", tmp_path / "out.gz"
    base.write_bytes(packed(A, "xz") + b"\0")
    core.append(base, [Archive("gzip", (regular("b", b"2"),))], out, mtime=3)
    assert out.read_bytes().startswith(base.read_bytes())
    assert names(initramfs_file.read_core(out)) == [("xz", ["a"]), ("gzip", ["b"])]
    core.append(out, [Archive("plain", (regular("a", b"new"),))], out, mtime=3)
    assert initramfs_file.merged(initramfs_file.read_core(out))["a"].data == b"new"


def test_a_failed_append_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    base = tmp_path / "base.gz"
    base.write_bytes(A)
    with pytest.raises(UserError, match="cannot be stored"):
        core.append(base, [Archive("gzip", (regular("/b", b"2"),))], base)
    assert base.read_bytes() == A
    assert os.listdir(tmp_path) == ["base.gz"]


BASE = [
    *(directory("tmp", 0o1777), directory("usr"), directory("usr/lib", 0o755, 0, 50)),
    *(symlink("lib", "usr/lib"), regular("usr/lib/libc", b"base"), regular("init", b"#!/bin/sh", 0o755)),
    *(symlink("gone", "nowhere"), directory("bin"), regular("bin/sh", elf(), 0o755)),
]
CONFIG = "".join(
    f"CONFIG_{symbol}=y\n"
    for symbol in (
        *("X86_64", "BLK_DEV_INITRD", "BINFMT_ELF", "BINFMT_SCRIPT", "BLK_DEV_LOOP", "SQUASHFS"),
        *("DEVTMPFS", "ISO9660_FS", "EXT4_FS", "SERIAL_8250_CONSOLE"),
    )
)


def test_an_overlay_keeps_existing_paths() -> None:
    root = initramfs_file.unpacked([Archive("plain", tuple(BASE))])
    extra = [
        *(directory("tmp", 0o755), directory("lib"), regular("lib/libc", b"other"), regular("lib/new", b"n")),
        *(regular("opt/a/file", b"f"), directory("opt", 0o700)),
    ]
    added, kept = core.overlay(root, extra, "x.tcz")
    assert [m.name for m in added] == ["opt", "opt/a", "lib/new", "opt/a/file"]
    assert kept == ["lib/libc"]
    view = root.members()
    assert stat.filemode(view["tmp"].mode) == "drwxrwxrwt"
    assert stat.filemode(view["opt"].mode) == "drwx------"
    assert (view["lib"].data, view["usr/lib/new"].data) == (b"usr/lib", b"n")
    # The archive alone, over the base, gives the same in the kernel.
    again = initramfs_file.merged([Archive("plain", tuple(BASE)), Archive("plain", tuple(added))])
    assert again == view


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (directory("init"), "x.tcz has a folder 'init' where a file is"),
        (regular("usr", b""), "x.tcz has a file 'usr' where a folder is"),
        (regular("init/x", b""), "x.tcz has a folder 'init' where a file is"),
        (directory("gone"), "x.tcz has a folder 'gone' where a file is"),
        (regular("gone/x", b""), "x.tcz has a folder 'gone' where a file is"),
    ],
)
def test_a_folder_and_a_file_of_one_path_are_refused(extra: Member, says: str) -> None:
    with pytest.raises(UserError, match=says):
        core.overlay(initramfs_file.unpacked([Archive("plain", tuple(BASE))]), [extra], "x.tcz")


def test_an_overlay_keeps_hard_links() -> None:
    root = initramfs_file.unpacked([Archive("plain", tuple(BASE))])
    extra = hard_links(regular("x", b"data"), ["usr/lib/libc", "usr/x", "usr/y"], 1)
    added, kept = core.overlay(root, extra, "x.tcz")
    assert kept == ["usr/lib/libc"]
    found = initramfs_file.merged([Archive("plain", tuple(BASE)), Archive("plain", tuple(added))])
    assert found["usr/x"].ino == found["usr/y"].ino != found["usr/lib/libc"].ino
    assert found["usr/lib/libc"].data == b"base"


@pytest.fixture
def stage(make_settings: Callable[..., Settings]) -> Settings:
    """Settings of a made-up profile with a kernel's modules and a base root."""
    return make_stage(make_settings)


def make_stage(make_settings: Callable[..., Settings]) -> Settings:
    made = make_settings("apt")
    plain = dataclasses.replace(made.profile, core=Core(rootfs=True), extensions=())
    made = dataclasses.replace(made, profile=plain)
    top = made.paths.kernel / "modules/lib/modules" / RELEASE
    (top / "kernel/fs").mkdir(parents=True)
    (top / "kernel/fs/squashfs.ko.xz").write_bytes(b"module")
    (top / "kernel/fs/squashfs.ko.xz").chmod(0o600)
    (top / "modules.dep").write_text("kernel/fs/squashfs.ko.xz:\n")
    (top / "build").symlink_to("/somewhere/else")
    (top / "source").symlink_to("/somewhere/else")
    (made.paths.kernel / "release").write_text(RELEASE + "\n")
    (made.paths.kernel / "config").write_text(CONFIG)
    (made.paths.kernel / "initramfs.formats").write_text("gzip\nzstd\n")
    write_base(made, BASE)
    return made


def write_base(made: Settings, members: list[Member], mtime: int | None = None) -> Path:
    time = made.profile.source_date_epoch if mtime is None else mtime
    path = made.paths.output / "rootfs64.gz"
    core.write_core([Archive("gzip", tuple(members))], path, mtime=time)
    return path


def view(made: Settings) -> dict[str, Member]:
    return initramfs_file.merged(initramfs_file.read_core(made.paths.core))


def test_modules_belong_to_root_and_link_to_those_of_extensions(stage: Settings) -> None:
    members = {m.name: m for m in core.modules_archive(stage.paths.kernel / "modules", RELEASE)}
    top = f"lib/modules/{RELEASE}"
    assert members[f"{top}/kernel/fs/squashfs.ko.xz"] == regular(
        f"{top}/kernel/fs/squashfs.ko.xz", b"module", 0o644
    )
    assert members[f"{top}/kernel.tclocal"].data == f"/usr/local/{top}/kernel".encode()
    assert f"usr/local/{top}/kernel" in members
    assert not {f"{top}/build", f"{top}/source"} & set(members)


@pytest.mark.parametrize(
    ("remove", "says"),
    [
        (f"lib/modules/{RELEASE}/modules.dep", "modules.dep is missing"),
        (f"lib/modules/{RELEASE}", "has no lib/"),
    ],
)
def test_modules_that_cannot_be_loaded_are_refused(stage: Settings, remove: str, says: str) -> None:
    path = stage.paths.kernel / "modules" / remove
    path.rename(path.with_name("away"))
    with pytest.raises(UserError, match=says):
        core.build(stage.paths, stage.profile)
    assert not stage.paths.core.exists()


def test_build_puts_base_and_modules_together(stage: Settings) -> None:
    core.build(stage.paths, stage.profile)
    base, modules = (
        (stage.paths.output / "rootfs64.gz").read_bytes(),
        (stage.paths.output / "modules64.gz").read_bytes(),
    )
    assert stage.paths.core.read_bytes() == joined([base, modules])
    found = view(stage)
    # The base's lib is a symlink: the modules lie where it leads, and it is still there.
    assert found["lib"].data == b"usr/lib"
    assert found[f"usr/lib/modules/{RELEASE}/kernel/fs/squashfs.ko.xz"].data == b"module"
    assert found["usr/lib"].gid == 50
    assert {m.mtime for a in initramfs_file.read_core(stage.paths.core) for m in a.members} == {1700000000}


def test_build_gives_the_same_bytes_again(stage: Settings) -> None:
    core.build(stage.paths, stage.profile)
    first = stage.paths.core.read_bytes()
    for path in (stage.paths.kernel / "modules").rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
        if path.is_file() and not path.is_symlink():
            path.chmod(0o640)
    core.build(stage.paths, stage.profile)
    assert stage.paths.core.read_bytes() == first


def test_a_base_with_other_modules_is_rewritten(stage: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    old = "usr/lib/modules/5.4.3-tinycore64"
    nodes = [
        directory("dev"),
        device("dev/null", "c", 1, 3, 0o666),
        device("dev/sda", "b", 8, 0, 0o660, 0, 6),
    ]
    suid = hard_links(regular("x", b"sudo", 0o4755), ["usr/su", "usr/sudo"], 1)
    base = [*BASE, *nodes, *suid, directory("usr/lib/modules"), directory(old), regular(f"{old}/x.ko", b"")]
    write_base(stage, base)
    core.build(stage.paths, stage.profile)
    said = capsys.readouterr().out
    assert f"dropped lib/modules/5.4.3-tinycore64 of the base, the kernel built here is {RELEASE}" in said
    found = view(stage)
    assert not [name for name in found if "5.4.3" in name]
    assert f"usr/lib/modules/{RELEASE}/modules.dep" in found
    assert {m.mtime for m in found.values()} == {1700000000}
    for member in [*BASE, *nodes, *suid]:
        same = found[member.name]
        assert (same.mode, same.uid, same.gid, same.data) == (
            member.mode,
            member.uid,
            member.gid,
            member.data,
        )
        assert (same.rdevmajor, same.rdevminor) == (member.rdevmajor, member.rdevminor)
    assert found["usr/su"].ino == found["usr/sudo"].ino


def test_modules_of_the_same_release_are_dropped_too(stage: Settings) -> None:
    old = f"usr/lib/modules/{RELEASE}"
    write_base(stage, [*BASE, directory("usr/lib/modules"), directory(old), regular(f"{old}/stale.ko", b"")])
    core.build(stage.paths, stage.profile)
    assert not [name for name in view(stage) if name.endswith("stale.ko")]


@pytest.mark.parametrize("bootcodes", [("quiet",), ("quiet", "rdinit=/sbin/none")])
def test_a_core_that_cannot_start_is_refused(stage: Settings, bootcodes: tuple[str, ...]) -> None:
    init = regular("init", b"#!/bin/sh", 0o755 if len(bootcodes) > 1 else 0o644)
    write_base(stage, [init if m.name == "init" else m for m in BASE])
    boot = dataclasses.replace(stage.profile.boot, bootcodes=bootcodes)
    stage = dataclasses.replace(stage, profile=dataclasses.replace(stage.profile, boot=boot))
    with pytest.raises(UserError, match=r"the core has no executable /(init|sbin/none)"):
        core.build(stage.paths, stage.profile)
    assert not stage.paths.core.exists()


def test_lost_files_of_a_base_are_reported(stage: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    write_base(stage, [*BASE, *[regular(f"no/{n}", b"") for n in range(7)]])
    core.build(stage.paths, stage.profile)
    said = capsys.readouterr().out
    assert "the kernel loses 7 members of the base" in said
    assert "'no/0': its folder does not exist" in said
    assert "and 2 more" in said


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda made: (made.paths.kernel / "release").unlink(), "release does not exist"),
        (
            lambda made: (made.paths.output / "rootfs64.gz").write_bytes(b"<html>"),
            r"rootfs64\.gz: it is an HTML page",
        ),
        (
            lambda made: (made.paths.output / "rootfs64.gz").write_bytes(A[:50]),
            "rootfs64.gz: cpio archive is cut",
        ),
    ],
)
def test_missing_or_damaged_parts_are_named(
    stage: Settings, change: Callable[[Settings], None], says: str
) -> None:
    change(stage)
    with pytest.raises(UserError, match=says):
        core.build(stage.paths, stage.profile)


def test_a_profile_without_a_base_is_refused(stage: Settings) -> None:
    stage = dataclasses.replace(stage, profile=dataclasses.replace(stage.profile, core=Core()))
    with pytest.raises(UserError, match="has no base for its core"):
        core.build(stage.paths, stage.profile)


def test_a_missing_extension_is_refused(stage: Settings) -> None:
    extensions = (Extension("nowhere", "initrd"),)
    stage = dataclasses.replace(stage, profile=dataclasses.replace(stage.profile, extensions=extensions))
    with pytest.raises(UserError, match=r"nowhere\.tcz does not exist"):
        core.build(stage.paths, stage.profile)
    assert not stage.paths.core.exists()
