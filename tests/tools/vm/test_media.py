# SPDX-License-Identifier: MIT
"""The drives that an image boots from, made of the built ISO."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.util.errors import UserError
from tasks.vm.machine import Disk
from tasks.vm.media import FAT_START, SECTOR, drive
from tests.support.built import built
from tests.support.settings import both


def test_the_stick_has_the_bytes_of_the_iso(tmp_path: Path) -> None:
    iso = built().paths.iso
    assert drive(*both(built()), "cd", tmp_path) == Disk(iso, "cdrom")
    assert drive(*both(built()), "stick", tmp_path) == Disk(iso, "usb", snapshot=True)


def test_the_fat_copy_has_the_files_of_the_iso_and_no_label(tmp_path: Path) -> None:
    """As a person copies them; a second boot takes the same copy."""
    made = drive(*both(built()), "fat", tmp_path)
    inside = ["-i", f"{made.path.name}@@{FAT_START * SECTOR}"]
    label = subprocess.run(["mlabel", *inside, "-s", "::"], cwd=tmp_path, capture_output=True, text=True)
    assert "has no label" in label.stdout
    for name in (f"boot/{built().paths.core.name}", "cde/onboot.lst"):
        copy = tmp_path / "copy"
        subprocess.run(["mcopy", "-n", "-o", *inside, f"::{name}", copy], cwd=tmp_path, check=True)
        assert copy.read_bytes() == (tmp_path / "files" / name).read_bytes()
    made.path.write_bytes(b"")
    assert drive(*both(built()), "fat", tmp_path).path.read_bytes() == b""


def test_a_disk_that_was_not_built_is_named(tmp_path: Path) -> None:
    paths, profile = both(built())
    with pytest.raises(UserError, match="does not exist") as caught:
        drive(replace(paths, output=tmp_path), profile, "disk", tmp_path)
    assert "./doit disk" in caught.value.hint
