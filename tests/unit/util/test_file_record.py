# SPDX-License-Identifier: MIT
"""The record of a folder's files: what it finds, and what it does not read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.util import file_record
from tasks.util.files import remove_tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a recorded program, data, a link and a name that is no UTF-8."""
    top = tmp_path / "t" / "root"
    (top / "usr/bin").mkdir(parents=True)
    (top / "usr/lib").mkdir()
    (top / "usr/bin/gcc").write_bytes(b"gcc")
    (top / "usr/bin/gcc").chmod(0o755)
    (top / "usr/lib/specs").write_bytes(b"abc")
    (top / "lib").symlink_to("usr/lib")
    Path(os.fsdecode(os.fsencode(top) + b"/usr/lib/\xff")).write_bytes(b"")
    file_record.write(top.parent, file_record.found(top))
    return top


def differing(root: Path, *, read_all: bool = False) -> list[str]:
    recorded = file_record.read(root.parent)
    assert recorded is not None
    return file_record.differing(root, recorded, read_all=read_all)[0]


def cut(root: Path) -> str:
    (root / "usr/lib/specs").write_bytes(b"ab")
    return "usr/lib/specs"


def overwrite(root: Path) -> str:
    path = root / "usr/lib/specs"
    times = path.stat()
    path.write_bytes(b"abX")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # size and mtime are as before
    return "usr/lib/specs"


def remove(root: Path) -> str:
    (root / "usr/bin/gcc").unlink()
    return "usr/bin/gcc"


def forbid(root: Path) -> str:
    (root / "usr/bin/gcc").chmod(0o644)
    return "usr/bin/gcc"


def lead_elsewhere(root: Path) -> str:
    (root / "lib").unlink()
    (root / "lib").symlink_to("usr/bin")
    return "lib"


def add(root: Path) -> str:
    (root / "usr/bin/ld").write_bytes(b"another")
    return "usr/bin/ld"


def make_a_file_of_a_folder(root: Path) -> str:
    remove_tree(root / "usr/bin")
    (root / "usr/bin").write_bytes(b"")
    return "usr/bin"


FAULTS = [cut, overwrite, remove, forbid, lead_elsewhere, add, make_a_file_of_a_folder]


def test_a_root_is_what_it_was(root: Path) -> None:
    assert differing(root) == []
    assert differing(root, read_all=True) == []


@pytest.mark.parametrize("damage", FAULTS)
def test_a_fault_is_found_and_put_right(damage: Callable[[Path], str], root: Path) -> None:
    fresh = shutil.copytree(root, root.parent / "fresh", symlinks=True)
    wanted = file_record.found(fresh)
    before = file_record.found(root)
    path = damage(root)
    bad = differing(root)
    assert path in bad
    file_record.replace(root, bad, fresh, wanted)
    after = file_record.found(root)
    assert {path: entry[:2] for path, entry in after.items()} == {p: entry[:2] for p, entry in before.items()}


def test_a_file_with_the_recorded_stamp_is_read_only_if_all_are(root: Path) -> None:
    """The disk may lose bytes without a write."""
    recorded = file_record.found(root)
    path = "usr/lib/specs"
    recorded[path] = recorded[path]._replace(content="0" * 64)
    file_record.write(root.parent, recorded)
    assert differing(root) == []
    assert differing(root, read_all=True) == [path]


def test_a_copy_of_the_cache_is_the_same_root_with_other_stamps(root: Path) -> None:
    recorded = file_record.read(root.parent)
    assert recorded is not None
    copy = shutil.copytree(root, root.parent / "copy", symlinks=True)
    bad, now = file_record.differing(copy, recorded)
    assert bad == []
    assert now != recorded
    assert file_record.differing(copy, now) == ([], now)


def test_a_further_file_may_count_in_some_folders_alone(root: Path) -> None:
    (root / "tmp").mkdir()
    (root / "home/user").mkdir(parents=True)
    (root / "usr/new").touch()
    recorded = file_record.read(root.parent)
    assert recorded is not None
    assert file_record.differing(root, recorded, alone_in=["usr"])[0] == ["usr/new"]
    assert differing(root) == ["home", "home/user", "tmp", "usr/new"]


def test_a_folder_that_only_its_owner_may_look_into_is_no_fault(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may look everywhere, so the refusal is made up."""
    real = os.scandir

    def refusing(path: Path) -> Iterator[os.DirEntry[str]]:
        if path == root / "usr/bin":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert differing(root) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"a": [1, "", [1]]}'])
def test_a_damaged_record_is_none(text: str, tmp_path: Path) -> None:
    assert file_record.read(tmp_path) is None
    (tmp_path / file_record.NAME).write_text(text)
    assert file_record.read(tmp_path) is None


def test_a_mended_folder_is_recorded_anew(root: Path) -> None:
    fresh = root.parent / "fresh"
    shutil.copytree(root, fresh / "root", symlinks=True)
    (root.parent / file_record.NAME).unlink()
    assert file_record.faults(root.parent) == ["."]
    assert "not recorded" in file_record.told(["."])
    path = cut(root)
    file_record.mend(root.parent, fresh)
    assert file_record.faults(root.parent, read_all=True) == []
    cut(root)
    add(root)
    assert file_record.faults(root.parent) == ["usr/bin/ld", path]
    assert file_record.faults(root.parent, alone_in=["etc"]) == [path]


def test_the_record_of_a_copy_is_renewed_where_that_is_allowed(root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(root.parent, tmp_path / "copy", symlinks=True)
    before = file_record.read(copy)
    assert file_record.faults(copy) == []
    assert file_record.read(copy) != before
