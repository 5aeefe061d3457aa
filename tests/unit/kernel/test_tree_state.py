# SPDX-License-Identifier: MIT
"""Whether a tree is as it was when its state was recorded.

What the task `linux` does with it is asked in tests/tools/kernel/test_source_tree.py.
"""

from __future__ import annotations

from pathlib import Path

from tasks.kernel import tree_state
from tasks.util.process import run


def test_a_tree_is_as_unpacked_from_its_record_to_the_first_edit(tmp_path: Path) -> None:
    tree = tmp_path / "linux"
    (tree / "fs/ext4").mkdir(parents=True)
    (tree / "fs/ext4/super.c").write_text("int a;\n")
    (tree / "Documentation").symlink_to("fs")
    (tree / ".tcbuild").mkdir()
    assert not tree_state.is_as_unpacked(tree), "nothing is recorded"
    tree_state.record(tree)
    assert tree_state.is_as_unpacked(tree)
    copy = tmp_path / "copy"
    run(["cp", "--archive", tree, copy])
    assert tree_state.is_as_unpacked(copy), "a copy that keeps the times is the same"
    (copy / "Documentation").unlink()
    (copy / "Documentation").symlink_to("fs/ext4")
    assert not tree_state.is_as_unpacked(copy)
    tree_state.forget(tree)
    assert not tree_state.is_as_unpacked(tree)
    assert not tree_state.is_as_unpacked(tmp_path / "none")
