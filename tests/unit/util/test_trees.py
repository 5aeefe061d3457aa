# SPDX-License-Identifier: MIT
"""What a folder holds besides the contents of its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT
from tasks.util.trees import Tree


def test_each_entry_is_named_as_seen_from_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CHECKOUT, "root", tmp_path)
    top = tmp_path / "rootfs"
    (top / "etc/empty").mkdir(parents=True)
    (top / "etc/motd").touch(0o644)
    (top / "init").touch(0o755)
    (top / "link").symlink_to("/nowhere")
    (top / "folder-link").symlink_to("etc")
    found = {
        "rootfs/etc/motd": "a file",
        "rootfs/folder-link": "-> etc",
        "rootfs/init": "executable",
        "rootfs/link": "-> /nowhere",
    }
    assert Tree(top, folders=False)() == found
    assert Tree(top)() == {**found, "rootfs/etc": "a folder", "rootfs/etc/empty": "a folder"}
    assert Tree(tmp_path / "none")() == {}


def test_a_file_that_comes_and_goes_changes_the_stamp_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    before = Tree(tmp_path).stamps()
    assert list(before) == [str(tmp_path), str(tmp_path / "inside")]
    os.utime(tmp_path / "inside", (1, 1))
    (tmp_path / "inside/new").touch()
    (tmp_path / "inside/new").unlink()
    after = Tree(tmp_path).stamps()
    assert [path for path in before if before[path] != after[path]] == [str(tmp_path / "inside")]


def test_a_folder_hides_the_files_of_those_under_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they are is named by the path in the tree, wherever that lies."""
    below, above = tmp_path / "checkout", tmp_path / "tree"
    for top in (below, above):
        (top / "rootfs").mkdir(parents=True)
    (below / "rootfs/init").touch(0o644)
    (below / "rootfs/motd").touch(0o644)
    (above / "rootfs/init").touch(0o755)
    monkeypatch.setattr(CHECKOUT, "root", below)
    monkeypatch.setattr(CHECKOUT, "trees", (above,))
    tree = Tree(above / "rootfs", under=(below / "rootfs",))
    assert tree() == {"rootfs/init": "executable", "rootfs/motd": "a file"}
    assert list(tree.stamps()) == [str(below / "rootfs"), str(above / "rootfs")]
