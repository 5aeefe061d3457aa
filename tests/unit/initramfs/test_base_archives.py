# SPDX-License-Identifier: MIT
"""Microcode keeps its place at the start of the core, as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.config.sources import Core
from tasks.formats import compression, cpio, initramfs_file
from tasks.formats.cpio import Member, directory, regular
from tasks.initramfs import base_archives, core
from tasks.initramfs.parts import joined
from tasks.origins.sources.file import FileSource
from tasks.util.errors import UserError
from tests.unit.initramfs.test_core import BASE, RELEASE, make_stage, write_base

BLOB = "kernel/x86/microcode/GenuineIntel.bin"
FOLDERS = [directory("kernel"), directory("kernel/x86"), directory("kernel/x86/microcode")]
MICROCODE = [*FOLDERS, regular(BLOB, b"microcode" * 99)]
PADDED = cpio.write(MICROCODE, mtime=0)
PLAIN = PADDED[: cpio.read(memoryview(PADDED))[1]]  # the zero bytes behind its end are no part of it


@pytest.fixture
def stage(make_settings: Callable[..., Settings]) -> Settings:
    return make_stage(make_settings)


def with_archives(stage: Settings, *archives: Path, **keys: object) -> Settings:
    """Return the stage with archives in its core; with rootfs, the base root comes before them."""
    sources = tuple(FileSource(path=str(path)) for path in archives)
    changed = Core(archives=sources, **keys)  # type: ignore[arg-type]
    return dataclasses.replace(stage, profile=dataclasses.replace(stage.profile, core=changed))


def archive(folder: Path, data: bytes, name: str = "microcode.cpio") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def built(stage: Settings) -> bytes:
    core.build(stage.paths, stage.profile)
    return stage.paths.core.read_bytes()


@pytest.mark.parametrize("recompress", [False, True])
@pytest.mark.parametrize("method", ["gzip", "zstd", "plain"])
@pytest.mark.parametrize("rootfs", [False, True])
def test_microcode_stays_first_and_plain(
    stage: Settings, tmp_path: Path, method: str, recompress: bool, rootfs: bool
) -> None:
    """Behind the root that is made here, too: a profile cannot list anything before that one."""
    root = write_base(stage, BASE)
    given = [archive(tmp_path, PLAIN)] if rootfs else [archive(tmp_path, PLAIN), root]
    made = with_archives(stage, *given, rootfs=rootfs, compression=method, recompress=recompress)
    assert built(made).startswith(PLAIN)
    first, *others = initramfs_file.read_core(made.paths.core)
    assert first.method == "plain"
    assert [member.name for member in first.members] == [member.name for member in MICROCODE]
    assert not any(member.name == BLOB for other in others for member in other.members)
    files = initramfs_file.merged([first, *others])
    assert files[BLOB].data == MICROCODE[-1].data
    assert f"usr/lib/modules/{RELEASE}/modules.dep" in files


def test_it_stays_first_when_the_base_loses_modules(stage: Settings, tmp_path: Path) -> None:
    old = "usr/lib/modules/5.4.3-tinycore64"
    root = write_base(stage, [*BASE, directory("usr/lib/modules"), directory(old)])
    both = archive(tmp_path, joined([PLAIN, root.read_bytes()]), "core.gz")
    assert built(with_archives(stage, both)).startswith(PLAIN)


def test_the_base_keeps_its_bytes_behind_it(stage: Settings, tmp_path: Path) -> None:
    root = write_base(stage, BASE)
    made = with_archives(stage, archive(tmp_path, PLAIN), root)
    assert built(made).startswith(joined([PLAIN, root.read_bytes()]))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (compression.compress(PLAIN, "gzip"), "microcode compressed by gzip"),
        (compression.compress(cpio.write([*MICROCODE, *BASE], mtime=0), "gzip"), "compressed by gzip"),
        (cpio.write([*MICROCODE, regular("etc", b"")], mtime=0), "microcode among other files"),
    ],
)
def test_microcode_that_the_kernel_would_not_find_is_refused(
    stage: Settings, tmp_path: Path, data: bytes, says: str
) -> None:
    made = with_archives(stage, archive(tmp_path, data), rootfs=True)
    with pytest.raises(UserError, match=says):
        core.build(made.paths, made.profile)
    assert not made.paths.core.exists()


def test_a_root_with_a_folder_kernel_is_no_microcode(stage: Settings) -> None:
    """Nor is one with /kernel for something else."""
    write_base(stage, [*BASE, directory("kernel"), regular("kernel/notes", b"")])
    rows, root = base_archives.read_base(stage.paths, stage.profile, RELEASE)
    assert len(rows) == 1
    assert root.find("kernel/notes") is not None


@pytest.mark.parametrize(
    ("members", "early"),
    [
        (MICROCODE, True),
        ([directory("."), regular("early_cpio", b"1\n"), *MICROCODE], True),
        (FOLDERS, False),
        ([*MICROCODE, regular("init", b"")], False),
        ([regular("kernel", b"")], False),
    ],
)
def test_what_an_early_archive_is(members: list[Member], early: bool) -> None:
    assert initramfs_file.is_early(initramfs_file.Archive("plain", tuple(members))) is early
