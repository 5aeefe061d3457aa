# SPDX-License-Identifier: MIT
"""What a folder holds besides the contents of its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.util import trees
from tasks.util.checkout import CHECKOUT


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
    assert trees.layout(top, folders=False) == found
    assert trees.layout(top) == {**found, "rootfs/etc": "a folder", "rootfs/etc/empty": "a folder"}
    assert trees.layout(tmp_path / "none") == {}
