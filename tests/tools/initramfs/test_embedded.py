# SPDX-License-Identifier: MIT
"""Extensions made by the real mksquashfs, put into the initramfs."""

from __future__ import annotations

import dataclasses
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.profile import Extension
from tasks.config.settings import Settings
from tasks.config.sources import Core
from tasks.formats import cpio, initramfs_file, squashfs
from tasks.formats.cpio import Member, directory, regular
from tasks.formats.initramfs_file import Archive
from tasks.initramfs import core, embedded
from tasks.util.errors import UserError
from tasks.util.process import run
from tests.support.images import elf

# mksquashfs's pseudo files: owners, devices and set-uid bits without being root.
PSEUDO = """\
usr m 755 0 0
usr/local m 2775 0 50
usr/local/null c 666 0 0 1 3
usr/local/disk b 660 0 6 8 17
usr/local/fifo i 640 7 8 f
usr/local/bin m 755 0 0
usr/local/bin/su m 4755 0 0
usr/local/bin/mine m 640 3000000 4000000
"""


def make_tcz(folder: Path, tcz: Path, *options: str, pseudo: str = PSEUDO) -> Path:
    tcz.parent.mkdir(parents=True, exist_ok=True)
    lines = [word for line in pseudo.splitlines() for word in ("-p", line)]
    run(["mksquashfs", folder, tcz, "-noappend", "-no-progress", *lines, *options])
    return tcz


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Files of every kind one can make without root, names of every kind."""
    folder = tmp_path / "files"
    (folder / "usr/local/bin").mkdir(parents=True)
    deep = folder / "usr/local" / ("d" * 120) / ("e" * 200)
    deep.mkdir(parents=True)
    (deep / "long").write_text("long")
    binary = folder / "usr/local/bin"
    for name in (b"su", b"mine", b"sp ace", b"new\nline", b"back\\slash", b"bad\xff\xfe", "é".encode()):
        Path(os.fsdecode(os.fsencode(binary) + b"/" + name)).write_bytes(name * 3000)
    os.link(binary / "su", binary / "zz")
    (binary / "empty").touch()
    with (binary / "sparse").open("wb") as stream:
        stream.seek(1 << 20)
        stream.write(b"end")
    Path(binary / "link").symlink_to(os.fsdecode(b"../tar\xffget" * 20))
    return folder


@pytest.mark.parametrize("compression", ["gzip", "xz", "lzo", "lz4", "zstd"])
def test_everything_comes_out_as_stored(tmp_path: Path, files: Path, compression: str) -> None:
    tcz = make_tcz(files, tmp_path / "x.tcz", "-comp", compression, "-b", "4096")
    found = {member.name: member for member in squashfs.squashfs_members(tcz)}
    on_disk = {member.name: member for member in cpio.scan_folder(files)}
    nodes = {"usr/local/null", "usr/local/disk", "usr/local/fifo"}
    assert set(found) == set(on_disk) | nodes
    for name, member in on_disk.items():
        assert (found[name].kind, found[name].data) == (member.kind, member.data)
    shown = {
        name: (stat.filemode(m.mode), m.uid, m.gid, m.rdevmajor, m.rdevminor) for name, m in found.items()
    }
    assert shown["usr/local"] == ("drwxrwsr-x", 0, 50, 0, 0)
    assert shown["usr/local/null"] == ("crw-rw-rw-", 0, 0, 1, 3)
    assert shown["usr/local/disk"] == ("brw-rw----", 0, 6, 8, 17)
    assert shown["usr/local/fifo"] == ("prw-r-----", 7, 8, 0, 0)
    assert shown["usr/local/bin/su"] == ("-rwsr-xr-x", 0, 0, 0, 0)
    assert shown["usr/local/bin/mine"] == ("-rw-r-----", 3000000, 4000000, 0, 0)
    assert found["usr/local/bin/su"].link_key == found["usr/local/bin/zz"].link_key is not None
    # The kernel can hold all of it.
    assert initramfs_file.unpacked([Archive("plain", tuple(found.values()))]).lost == []
    assert cpio.write(found.values(), mtime=0)


def test_a_mark_is_added_only_where_the_extension_has_no_script(tmp_path: Path) -> None:
    (tmp_path / "files/usr/local/tce.installed").mkdir(parents=True)
    (tmp_path / "files/a").touch()
    mark = "usr/local/tce.installed/x"
    tcz = make_tcz(tmp_path / "files", tmp_path / "x.tcz", pseudo="")
    assert [m for m in embedded.extension_members(tcz) if m.name == mark] == [regular(mark, b"")]
    (tmp_path / "files" / mark).write_text("#!/bin/sh\n")
    tcz = make_tcz(tmp_path / "files", tmp_path / "x.tcz", pseudo=f"{mark} m 775 1001 50\n")
    (found,) = [m for m in embedded.extension_members(tcz) if m.name == mark]
    assert (found.data, found.uid, found.gid, oct(found.mode)) == (b"#!/bin/sh\n", 1001, 50, "0o100775")


@pytest.mark.parametrize("cut", [0, 50, 2000, -5000])
def test_a_damaged_extension_is_named(tmp_path: Path, files: Path, cut: int) -> None:
    (files / "random").write_bytes(os.urandom(20000))
    tcz = make_tcz(files, tmp_path / "x.tcz")
    tcz.write_bytes(tcz.read_bytes()[:cut])
    with pytest.raises(UserError, match="sqfs2tar failed") as caught:
        squashfs.squashfs_members(tcz)
    assert "x.tcz must be a complete squashfs" in caught.value.hint


def test_sockets_cannot_go_in(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    tcz = make_tcz(tmp_path / "files", tmp_path / "x.tcz", pseudo="sock i 666 0 0 s\n")
    with pytest.raises(UserError, match="sqfs2tar failed") as caught:
        squashfs.squashfs_members(tcz)
    assert "sock: cannot pack socket" in caught.value.detail


@pytest.mark.parametrize(("attribute", "refused"), [("security.capability", True), ("user.note", False)])
def test_file_capabilities_cannot_go_in(tmp_path: Path, attribute: str, refused: bool) -> None:
    plain, tcz = tmp_path / "x.tar", tmp_path / "x.tcz"
    with tarfile.open(plain, "w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("ping")
        entry.pax_headers = {f"SCHILY.xattr.{attribute}": "value"}
        tar.addfile(entry)
    run(["tar2sqfs", "--quiet", tcz], stdin=plain.read_bytes())
    if not refused:
        assert [member.name for member in squashfs.squashfs_members(tcz)] == ["ping"]
        return
    with pytest.raises(UserError, match=r"x\.tcz: 'ping' has the attribute security\.capability") as caught:
        squashfs.squashfs_members(tcz)
    assert "onboot" in caught.value.hint


CONFIG = (
    "".join(
        f"CONFIG_{name}=y\n"
        for name in (
            "X86_64",
            "BINFMT_ELF",
            "BLK_DEV_INITRD",
            "BLK_DEV_LOOP",
            "SQUASHFS",
            "TMPFS",
            "ISO9660_FS",
        )
    )
    + "CONFIG_SERIAL_8250_CONSOLE=y\n"
)
BASE = [
    *map(directory, ["usr", "usr/local", "usr/local/tce.installed", "etc"]),
    *(directory("tmp", 0o1777), regular("init", elf(), 0o755), regular("usr/local/tool", b"base")),
]


def test_build_extracts_initrd_extensions_and_what_they_need(
    tmp_path: Path, make_settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_settings("apt")
    made = dataclasses.replace(
        made,
        profile=dataclasses.replace(
            made.profile,
            core=Core(rootfs=True),
            extensions=(Extension("b", "initrd"), Extension("other", "onboot")),
        ),
    )
    top = made.paths.kernel / "modules/lib/modules/1.0"
    top.mkdir(parents=True)
    (top / "modules.dep").touch()
    (made.paths.kernel / "release").write_text("1.0\n")
    (made.paths.kernel / "initramfs.formats").write_text("gzip\n")
    (made.paths.kernel / "config").write_text(CONFIG)
    epoch = made.profile.source_date_epoch
    core.write_core([Archive("gzip", tuple(BASE))], made.paths.output / "rootfs64.gz", mtime=epoch)
    for name in "ab":
        folder = tmp_path / name / "usr/local/tce.installed"
        folder.mkdir(parents=True)
        (folder / name).write_text(f"#!/bin/sh\necho {name}\n")
        (folder / name).chmod(0o755)
        (folder.parent / "tool").write_text("the same in both")
        (folder.parent / f"only-{name}").write_text(name)
        os.link(folder.parent / f"only-{name}", folder.parent / f"link-{name}")
        (made.paths.tcz / f"{name}.tcz.list").parent.mkdir(exist_ok=True)
        (made.paths.tcz / f"{name}.tcz.list").write_text(
            f"usr/local/link-{name}\nusr/local/only-{name}\nusr/local/tce.installed/{name}\nusr/local/tool\n"
        )
        make_tcz(tmp_path / name, made.paths.tcz / f"{name}.tcz", pseudo="usr/local m 2775 0 50\n")
    (made.paths.tcz / "b.tcz.dep").write_text("a.tcz\n")
    core.build(made.paths, made.profile)
    first = made.paths.core.read_bytes()
    found = initramfs_file.merged(initramfs_file.read_core(made.paths.core))
    assert found["tmp/setup.lst"].data == b"/usr/local/tce.installed/a\n/usr/local/tce.installed/b\n"
    assert stat.filemode(found["tmp"].mode) == "drwxrwxrwt"
    assert stat.filemode(found["usr/local"].mode) == "drwxr-xr-x"  # the base's, not the extension's
    assert found["usr/local/tool"].data == b"base"
    assert "a.tcz: kept the base's usr/local/tool" in capsys.readouterr().out
    assert (found["usr/local/link-a"].data, found["usr/local/link-b"].data) == (b"a", b"b")
    assert _linked(found, "usr/local/link-a", "usr/local/only-a")
    assert not _linked(found, "usr/local/link-a", "usr/local/link-b")
    assert {member.mtime for member in found.values()} == {epoch}
    core.build(made.paths, made.profile)
    assert made.paths.core.read_bytes() == first
    (tmp_path / "b/usr/local/tool").write_text("another")
    make_tcz(tmp_path / "b", made.paths.tcz / "b.tcz")
    with pytest.raises(UserError, match=r"a\.tcz and b\.tcz both contain usr/local/tool\n"):
        core.build(made.paths, made.profile)
    assert made.paths.core.read_bytes() == first


def _linked(found: dict[str, Member], one: str, two: str) -> bool:
    return found[one].ino == found[two].ino
