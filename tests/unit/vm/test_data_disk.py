# SPDX-License-Identifier: MIT
"""What `--disk FILE[:SIZE]` means, and what is refused; qemu-img makes the disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.cli import variables
from tasks.util.errors import UserError
from tasks.vm import data_disk
from tasks.vm.machine import Disk


def test_words(tmp_path: Path) -> None:
    words = ["a.img", "b,c:d.qcow2:64MiB", "e:2G"]
    assert data_disk.parse(words, tmp_path) == {
        tmp_path / "a.img": 1 << 30,
        tmp_path / "b,c:d.qcow2": 64 << 20,
        tmp_path / "e": 2 << 30,
    }
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no/a.img"], "no is no folder"),
        (["folder"], "folder is no file"),
        (["a:3"], "at least 1,048,576 bytes"),
        (["a:1048577"], "in sectors of 512"),
        (["a:3X"], "--disk a:3X: expected a size"),
        (["a", "./a:3M"], "the file is named twice"),
        (["foreign.img"], "its name does not end in .qcow2"),
        (["raw.qcow2"], "it is no qcow2 image"),
        (["odd.img"], "its size is no multiple of 512"),
    ],
)
def test_what_cannot_be_a_disk_is_refused(words: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "foreign.img").write_bytes(b"QFI\xfb".ljust(512, b"\0"))
    (tmp_path / "raw.qcow2").write_bytes(bytes(512))
    (tmp_path / "odd.img").write_bytes(bytes(513))
    with pytest.raises(UserError, match=said):
        data_disk.parse(words, tmp_path)


def test_one_that_is_there_keeps_its_bytes_and_its_size(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(b"x" * 1024)
    found = data_disk.parse(["a.img:5G"], tmp_path)
    assert data_disk.prepare(found, snapshot=True) == (Disk(tmp_path / "a.img", snapshot=True),)
    assert (tmp_path / "a.img").read_bytes() == b"x" * 1024


def test_a_snapshot_needs_a_disk() -> None:
    variables.check_qemu([("--disk", "/tmp/absent.img"), ("--snapshot", "")])
    with pytest.raises(UserError, match="--snapshot is about disks"):
        variables.check_qemu([("--snapshot", "")])
