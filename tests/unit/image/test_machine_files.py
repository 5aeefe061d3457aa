# SPDX-License-Identifier: MIT
"""What an image takes from this machine's packages, and when another of it counts."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tasks.config import profile
from tasks.image import grub, machine_files
from tasks.toolchain import build_root
from tasks.util import process
from tasks.util.errors import UserError

PC = replace(profile.load("apt"), toolchain=build_root.HOST)
KINDS = [partial(kind, PC) for kind in (machine_files.of_iso, machine_files.of_disk)]
ISO = [
    "isolinux.bin",
    "isohdpfx.bin",
    "xorriso",
    "grub-mkimage",
    "x86_64-efi/normal.mod",
    "i386-efi/moddep.lst",
]
DISK = ["boot.img", "sfdisk", "mke2fs", *ISO[-3:], "i386-pc/moddep.lst"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all loaders and programs of a machine."""
    for name in {*ISO, *DISK}:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("one")
        path.chmod(0o755)
    shipped = grub.loaders()
    isolinux = grub.Isolinux((str(tmp_path / "isolinux.bin"),), str(tmp_path / "isohdpfx.bin"))
    pc = replace(shipped.pc, mbr=str(tmp_path / "boot.img"))
    monkeypatch.setattr(grub, "loaders", lambda: replace(shipped, isolinux=isolinux, pc=pc))
    monkeypatch.setattr(machine_files, "GRUB", tmp_path)
    monkeypatch.setattr(process, "search_path", lambda: str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", sorted({*ISO, *DISK}))
def test_another_file_is_told_apart_where_it_is_used(machine: Path, name: str) -> None:
    before = [identity() for identity in KINDS]
    assert before == [identity() for identity in KINDS]
    os.utime(machine / name, ns=(5, 5))  # as long as before
    changed = [now() != then for now, then in zip(KINDS, before, strict=True)]
    assert changed == [name in ISO, name in DISK]


def test_a_file_is_named_with_size_and_time(machine: Path) -> None:
    os.utime(machine / "isolinux.bin", ns=(5, 7))
    assert machine_files.of_iso(PC)[f"{machine}/isolinux.bin"] == (3, 7)


@pytest.mark.parametrize("identity", KINDS)
def test_a_machine_without_them_has_no_identity(
    machine: Path, identity: Callable[[], dict[str, object]]
) -> None:
    for name in {*ISO, *DISK}:
        (machine / name).unlink()
    assert identity() == {}


@pytest.mark.parametrize("identity", KINDS)
def test_a_malformed_list_of_loaders_stops_no_other_task(
    monkeypatch: pytest.MonkeyPatch, identity: Callable[[], dict[str, object]]
) -> None:
    def malformed() -> grub.Loaders:
        raise UserError("malformed")

    monkeypatch.setattr(grub, "loaders", malformed)
    assert identity() == {}


def test_the_digest_of_a_pinned_toolchain_stands_for_all_files(machine: Path) -> None:
    expected = {"toolchain": build_root.digest("debian12")}
    pinned = replace(PC, toolchain="debian12")
    assert machine_files.of_iso(pinned) == machine_files.of_disk(pinned) == expected
