# SPDX-License-Identifier: MIT
"""The disks that qemu-img makes, and what a guest's QEMU leaves in them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tasks.vm import data_disk
from tasks.vm.guest import Guest
from tasks.vm.machine import Machine


@pytest.mark.parametrize(("name", "kind"), [("a,b.img", "raw"), ("a.qcow2", "qcow2")])
def test_a_disk_is_made_once(name: str, kind: str, tmp_path: Path) -> None:
    """QEMU takes it; it grows with what is written."""
    found = data_disk.parse([f"{name}:64MiB"], tmp_path)
    (disk,) = data_disk.prepare(found, snapshot=False)
    told = subprocess.run(["qemu-img", "info", "--output=json", disk.path], check=True, capture_output=True)
    info = json.loads(told.stdout)
    assert (info["format"], info["virtual-size"]) == (kind, 64 << 20)
    assert disk.path.stat().st_blocks * 512 < 1 << 20
    disk.path.write_bytes(before := disk.path.read_bytes()[:-1] + b"x")
    assert data_disk.prepare(found, snapshot=False) == (disk,)
    assert disk.path.read_bytes() == before
    with Guest(Machine("bios", disks=(disk,)), tmp_path / "log") as guest:
        guest.screenshot(tmp_path / "a.png")
