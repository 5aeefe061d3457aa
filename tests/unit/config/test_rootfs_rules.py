# SPDX-License-Identifier: MIT
"""rootfs/ of the checkout and of trees, put together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.config import rootfs_rules
from tasks.config.rootfs_rules import Permissions
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(CHECKOUT, "trees", (tmp_path,))
    (tmp_path / "rootfs/files/etc").mkdir(parents=True)
    (tmp_path / "rootfs/files/etc/motd").touch()
    (tmp_path / "rootfs/files/etc/passwd").touch()
    return tmp_path / "rootfs"


def test_rules_of_a_tree_are_merged_onto_those_of_the_checkout(tree: Path) -> None:
    before = rootfs_rules.load()
    (tree / "rootfs.toml").write_text('drop = ["x"]\n[files."etc/motd"]\nmode = 0o600\n')
    rules = rootfs_rules.load()
    assert rules.files == {**before.files, "etc/motd": Permissions(0o600)}
    assert (rules.drop, rules.busybox) == (("x",), before.busybox)
    (tree / "rootfs.toml").write_text("dorp = []\n")
    with pytest.raises(UserError, match="dorp") as caught:
        rootfs_rules.load()
    assert str(tree) in str(caught.value)


def test_a_file_of_a_tree_hides_that_of_the_checkout(tree: Path) -> None:
    (tree / "files/link").symlink_to("etc")
    found = rootfs_rules.inputs()
    assert {tree / "files/etc/motd", tree / "files/etc/passwd", rootfs_rules.RULES} <= {*found}
    assert CHECKOUT.rootfs / "files/etc/group" in found
    assert not {CHECKOUT.rootfs / "files/etc/passwd", tree / "files/link"} & {*found}
    layout = rootfs_rules.layout()()
    assert (layout["rootfs/files/link"], layout["rootfs/files/etc/group"]) == ("-> etc", "a file")
