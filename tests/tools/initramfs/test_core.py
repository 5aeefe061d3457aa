# SPDX-License-Identifier: MIT
"""Core files and other people's programs: GNU cpio, the kernel's gen_init_cpio, the packers."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tasks.formats import cpio, initramfs_file
from tasks.formats.cpio import Member, device, directory, hard_links, regular, symlink
from tasks.formats.initramfs_file import Archive
from tasks.initramfs import core
from tasks.util.errors import UserError
from tests.support.built import compiled
from tests.support.images import I386, PT_LOAD, elf
from tests.support.trees import trees

ROOT = os.geteuid() == 0
EPOCH = 1700000000
FEW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)


def gnu_cpio(*options: str, folder: Path, stdin: bytes) -> bytes:
    done = subprocess.run(["cpio", *options], cwd=folder, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def sane(members: list[Member]) -> list[Member]:
    """Only numbers every file system and GNU cpio's signed arithmetic can hold."""
    limit = (1 << 31) - 1
    return [
        replace(
            m, uid=m.uid & 0xFFFF, gid=m.gid & 0xFFFF, mtime=m.mtime & limit, rdevmajor=m.rdevmajor & 0xFFF
        )
        for m in members
    ]


@FEW
@given(trees())
def test_gnu_cpio_unpacks_what_we_write(tmp_path_factory: pytest.TempPathFactory, tree: list[Member]) -> None:
    """Without root everything but devices and owners, with root those too."""
    members = [m for m in sane(tree) if ROOT or m.kind not in (stat.S_IFCHR, stat.S_IFBLK)]
    if not ROOT:  # a folder without permissions could not be filled
        members = [replace(m, mode=m.mode | 0o700) if m.kind == stat.S_IFDIR else m for m in members]
    folder = tmp_path_factory.mktemp("unpacked")
    gnu_cpio("-idm", "--no-absolute-filenames", folder=folder, stdin=cpio.write(members, mtime=None))
    groups: dict[object, set[int]] = {}
    for member in members:
        path = os.path.join(os.fsencode(folder), cpio.encode(member.name))
        status = os.lstat(path)
        assert stat.S_IFMT(status.st_mode) == member.kind
        if member.kind != stat.S_IFLNK:
            assert status.st_mode == member.mode
        if ROOT:
            assert (status.st_uid, status.st_gid) == (member.uid, member.gid)
        if member.kind == stat.S_IFREG:
            assert Path(os.fsdecode(path)).read_bytes() == member.data
        if member.kind == stat.S_IFLNK:
            assert os.readlink(path) == member.data
        if member.kind in (stat.S_IFCHR, stat.S_IFBLK):
            assert (os.major(status.st_rdev), os.minor(status.st_rdev)) == (
                member.rdevmajor,
                member.rdevminor,
            )
        if member.kind != stat.S_IFDIR:
            groups.setdefault(member.link_key or member.name, set()).add(status.st_ino)
    assert all(len(inodes) == 1 for inodes in groups.values())
    assert len(set.union(set(), *groups.values())) == len(groups)


def test_gnu_cpio_lists_what_we_write(tmp_path: Path) -> None:
    members = [
        *(directory("dev"), device("dev/null", "c", 1, 3, 0o666), device("dev/sda", "b", 8, 0, 0o660, 0, 6)),
        *hard_links(regular("x", b"12345", 0o4755, 1000, 50), ["su", "sudo"], 1),
        symlink("lib", "usr/lib"),
    ]
    archive = cpio.write(members, mtime=EPOCH)
    lines = gnu_cpio("-itvn", folder=tmp_path, stdin=archive).decode().splitlines()
    # Links, owner, group, size or device; the day is left out.
    shown = [re.sub(r"\s+", " ", re.sub(r"Nov 1[45] +2023", "", line)) for line in lines]
    assert shown == [
        "drwxr-xr-x 2 0 0 0 dev",
        "crw-rw-rw- 1 0 0 1, 3 dev/null",
        "brw-rw---- 1 0 6 8, 0 dev/sda",
        "lrwxrwxrwx 1 0 0 7 lib -> usr/lib",
        "-rwsr-xr-x 2 1000 50 0 su",
        "-rwsr-xr-x 2 1000 50 5 sudo",
    ]
    (tmp_path / "core.gz").write_bytes(archive)
    ours = [
        initramfs_file.listing_line(m)
        for a in initramfs_file.read_core(tmp_path / "core.gz")
        for m in a.members
    ]
    assert [re.sub(r"\s+", " ", line.replace("2023-11-14", "")) for line in ours] == shown


@pytest.mark.parametrize("form", ["newc", "crc"])
def test_we_read_what_gnu_cpio_writes(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "root"
    (folder / "usr/bin").mkdir(parents=True)
    for raw in (b"odd\xff", b"new\nline", b"empty", b"tool"):
        content = b"" if raw == b"empty" else raw * 999
        Path(os.fsdecode(os.fsencode(folder) + b"/usr/bin/" + raw)).write_bytes(content)
    (folder / "usr/bin/tool").chmod(0o4711)
    for link in ("a", "z", "usr/tool"):
        os.link(folder / "usr/bin/tool", folder / link)
    os.link(folder / "usr/bin/empty", folder / "also-empty")
    (folder / "lib").symlink_to("usr/lib")
    os.mkfifo(folder / "fifo", 0o640)
    if ROOT:
        os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    names = b"\0".join(sorted(_all(folder)))
    written = gnu_cpio("-o0", "-H", form, folder=folder, stdin=names + b"\0")
    assert written.startswith(cpio.CRC if form == "crc" else cpio.NEWC)
    (tmp_path / "core.gz").write_bytes(written)
    found = initramfs_file.merged(initramfs_file.read_core(tmp_path / "core.gz"))
    assert len(found) == len(_all(folder)) == (13 if ROOT else 12)
    for name, member in found.items():
        path = os.path.join(os.fsencode(folder), cpio.encode(name))
        status = os.lstat(path)
        assert (member.mode, member.uid, member.gid) == (status.st_mode, status.st_uid, status.st_gid)
        assert member.mtime == int(status.st_mtime)
        assert (member.rdevmajor, member.rdevminor) == (os.major(status.st_rdev), os.minor(status.st_rdev))
        if member.kind == stat.S_IFREG:
            assert member.data == Path(os.fsdecode(path)).read_bytes()
            assert member.nlink == status.st_nlink
    linked = ["a", "usr/bin/tool", "usr/tool", "z"]
    assert len({found[name].ino for name in linked}) == 1
    # And what we make of it is, for GNU cpio, the same again.
    again = cpio.write(found.values(), mtime=None)
    assert initramfs_file.merged([Archive("plain", tuple(cpio.read(memoryview(again))[0]))]) == found
    assert gnu_cpio("-it", "--quiet", folder=tmp_path, stdin=again).count(b"\n") == len(found) + 1


def _all(folder: Path) -> list[bytes]:
    below = os.fsencode(folder)
    return [
        os.path.relpath(os.path.join(top, name), below)
        for top, folders, files in os.walk(below)
        for name in [*folders, *files]
    ]


@pytest.mark.parametrize("form", ["bin", "odc"])
def test_old_formats_are_named(tmp_path: Path, form: str) -> None:
    (tmp_path / "file").write_text("x")
    old = gnu_cpio("-o", "-H", form, folder=tmp_path, stdin=b"file\n")
    (tmp_path / "core.gz").write_bytes(old)
    with pytest.raises(UserError, match=r"in the old (binary|portable \(odc\)) format") as caught:
        initramfs_file.read_core(tmp_path / "core.gz")
    assert "-H newc" in caught.value.hint


def test_the_kernels_own_writer(tmp_path: Path) -> None:
    """gen_init_cpio makes device nodes and hard links in its own way, without root."""
    (tmp_path / "tool").write_bytes(b"#!/bin/sh\n")
    spec = f"""\
dir /dev 0755 0 0
nod /dev/console 0600 0 0 c 5 1
nod /dev/loop0 0660 0 6 b 7 0
slink /lib usr/lib 0777 0 0
pipe /dev/initctl 0600 0 0
sock /dev/log 0666 1 2
dir /bin 0755 0 0
file /bin/a {tmp_path / "tool"} 4755 0 50 /bin/b /bin/c
file /init {tmp_path / "tool"} 0755 0 0
"""
    (tmp_path / "spec").write_text(spec)
    program = compiled().paths.build / "usr/gen_init_cpio"
    made = subprocess.run([program, "-t", "77", tmp_path / "spec"], capture_output=True, check=True).stdout
    (tmp_path / "core.gz").write_bytes(made)
    found = initramfs_file.merged(initramfs_file.read_core(tmp_path / "core.gz"))
    shown = {
        name: (stat.filemode(m.mode), m.uid, m.gid, m.nlink, m.data, m.rdevmajor, m.rdevminor)
        for name, m in found.items()
    }
    script = b"#!/bin/sh\n"
    assert shown == {
        "bin": ("drwxr-xr-x", 0, 0, 2, b"", 0, 0),
        "bin/a": ("-rwsr-xr-x", 0, 50, 3, script, 0, 0),
        "bin/b": ("-rwsr-xr-x", 0, 50, 3, script, 0, 0),
        "bin/c": ("-rwsr-xr-x", 0, 50, 3, script, 0, 0),
        "dev": ("drwxr-xr-x", 0, 0, 2, b"", 0, 0),
        "dev/console": ("crw-------", 0, 0, 1, b"", 5, 1),
        "dev/initctl": ("prw-------", 0, 0, 1, b"", 0, 0),
        "dev/log": ("srw-rw-rw-", 1, 2, 1, b"", 0, 0),
        "dev/loop0": ("brw-rw----", 0, 6, 1, b"", 7, 0),
        "init": ("-rwxr-xr-x", 0, 0, 1, script, 0, 0),
        "lib": ("lrwxrwxrwx", 0, 0, 1, b"usr/lib", 0, 0),
    }


PACKERS = {
    "gzip": ["gzip", "-9", "-c"],
    "xz": ["xz", "--check=crc32", "-c"],
    "zstd": ["zstd", "-q", "-c"],
    "bzip2": ["bzip2", "-c"],
    "lzma": ["xz", "--format=lzma", "-c"],
    "lz4": ["lz4", "-l", "-c", "-q"],
}


def packed_by(method: str, data: bytes) -> bytes:
    return subprocess.run(PACKERS[method], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("last", sorted(PACKERS))
def test_archives_packed_by_the_usual_programs(tmp_path: Path, last: str) -> None:
    file = b""
    expected = []
    for number, method in enumerate([*(name for name in PACKERS if name != "lz4"), last]):
        file += packed_by(method, cpio.write([regular(f"f{number}", b"x" * 5000)], mtime=0))
        file += bytes(-len(file) % 4)
        expected.append((method, f"f{number}"))
    (tmp_path / "core.gz").write_bytes(file)
    found = initramfs_file.read_core(tmp_path / "core.gz")
    assert [(archive.method, archive.members[0].name) for archive in found] == expected


def test_nothing_is_appended_to_lz4(tmp_path: Path) -> None:
    base = tmp_path / "core.lz4"
    base.write_bytes(packed_by("lz4", cpio.write([regular("a", b"1")], mtime=0)))
    with pytest.raises(UserError, match="nothing can be appended"):
        core.append(base, [Archive("gzip", (regular("b", b"2"),))], base)


def test_zcat_and_cpio_take_our_gzip_archives(tmp_path: Path) -> None:
    """What people do by hand: `zcat core.gz | cpio -i`."""
    core.write_core([Archive("gzip", (regular("a", b"text"),))], tmp_path / "core.gz", level=9, mtime=EPOCH)
    unpacked = subprocess.run(["gzip", "-dc", tmp_path / "core.gz"], capture_output=True, check=False)
    gnu_cpio("-id", folder=tmp_path, stdin=unpacked.stdout)
    assert (tmp_path / "a").read_text() == "text"


def elf_of_32_bits() -> bytes:
    return elf(machine=I386, bits=32, entry=0x8048000, segments=[(PT_LOAD, 0x8048000, b"code" * 64)])


def somebody_elses_root(folder: Path) -> None:
    """A root as a 32-bit Tiny Core's: hard links, set-uid, sticky, odd owners, and (as root) devices."""
    for name in ("bin", "lib", "dev/pts", "usr/local/tce.installed", "tmp", "home/tc"):
        (folder / name).mkdir(parents=True)
    (folder / "bin/busybox").write_bytes(elf_of_32_bits())
    (folder / "lib/ld-linux.so.2").write_bytes(elf_of_32_bits())
    for name in ("bin/sh", "bin/ls", "init"):
        os.link(folder / "bin/busybox", folder / name)
    (folder / "bin/busybox.suid").write_bytes(elf_of_32_bits() + b"suid")
    (folder / "linuxrc").symlink_to("bin/busybox")
    (folder / "tmp").chmod(0o1777)
    (folder / "usr/local/tce.installed").chmod(0o2775)
    if ROOT:
        for name, mode, numbers in (
            ("console", stat.S_IFCHR | 0o600, (5, 1)),
            ("sda", stat.S_IFBLK | 0o660, (8, 0)),
            ("big", stat.S_IFBLK | 0o660, (259, 1 << 18)),
        ):
            os.mknod(folder / "dev" / name, mode, os.makedev(*numbers))
        os.chown(folder / "home/tc", 1001, 50)
        os.chown(folder / "bin/busybox", 0, 50)
    (folder / "bin/busybox").chmod(0o755)
    (folder / "bin/busybox.suid").chmod(0o4755)


def states(folder: Path) -> dict[bytes, tuple[object, ...]]:
    """Return what lstat, the content and the hard links say of everything below `folder`."""
    found: dict[bytes, tuple[object, ...]] = {}
    first: dict[int, bytes] = {}
    for name in sorted(_all(folder)):
        path = os.path.join(os.fsencode(folder), name)
        status = os.lstat(path)
        kind = stat.S_IFMT(status.st_mode)
        content: object = None
        if kind == stat.S_IFREG:
            content = Path(os.fsdecode(path)).read_bytes()
        elif kind == stat.S_IFLNK:
            content = os.readlink(path)
        linked = first.setdefault(status.st_ino, name) if kind != stat.S_IFDIR else b""
        time = int(status.st_mtime) if kind == stat.S_IFREG else None  # cpio touches folders again
        found[name] = (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, time, content, linked)
    return found


@pytest.mark.parametrize("padding", [0, 4, 508, 4096], ids=lambda count: f"{count}-zeros")
def test_somebody_elses_core_survives_any_number_of_generations(tmp_path: Path, padding: int) -> None:
    """GNU cpio and gzip made it, in two pieces with zeros between; GNU cpio judges the last of ours."""
    root = tmp_path / "root"
    somebody_elses_root(root)
    names = b"".join(name + b"\0" for name in sorted(_all(root)))
    packed = packed_by("gzip", gnu_cpio("-o0", "-H", "newc", folder=root, stdin=names))
    more = tmp_path / "more"
    (more / "etc").mkdir(parents=True)
    (more / "etc/motd").write_text("added later\n")
    second = packed_by("xz", gnu_cpio("-o", "-H", "newc", folder=more, stdin=b"etc\netc/motd\n"))
    path = tmp_path / "core.gz"
    path.write_bytes(packed + bytes(-len(packed) % 4 + padding) + second + bytes(padding))
    views = []
    for generation in range(4):
        archives = initramfs_file.read_core(path)
        views.append(initramfs_file.merged(archives))
        path = tmp_path / f"core-{generation}.gz"
        if generation % 2:  # unpacked and packed as one
            core.write_core([Archive("gzip", tuple(views[-1].values()))], path)
        else:  # each archive for itself
            core.write_core(archives, path)
    assert all(view == views[0] for view in views)
    assert initramfs_file.merged(initramfs_file.read_core(path)) == views[0]
    (tmp_path / "again").mkdir()
    unpacked = subprocess.run(["gzip", "-dc", path], capture_output=True, check=True).stdout
    gnu_cpio("-idm", "--no-absolute-filenames", folder=tmp_path / "again", stdin=unpacked)
    shutil.copytree(more, root, dirs_exist_ok=True)
    assert states(tmp_path / "again") == states(root)
