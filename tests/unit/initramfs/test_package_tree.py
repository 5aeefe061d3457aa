# SPDX-License-Identifier: MIT
"""A kept folder that is given out as hard links, and filled again when its inputs change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.initramfs.package_tree import link_cached


class Maker:
    """Fills the folder, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> dict[str, str]:
        self.calls += 1
        (folder / "bin").mkdir()
        (folder / "bin/tool").write_text(f"made {self.calls}")
        (folder / "link").symlink_to("bin/tool")
        return {"tool": str(self.calls)}


def test_the_same_inputs_are_made_once(tmp_path: Path) -> None:
    make = Maker()
    for target in ("one", "two"):
        assert link_cached(tmp_path / "kept", {"a": 1}, make, tmp_path / target) == {"tool": "1"}
    assert make.calls == 1
    assert (tmp_path / "one/bin/tool").samefile(tmp_path / "two/bin/tool")
    assert (tmp_path / "two/link").is_symlink()


def test_other_inputs_are_made_again_and_leave_what_was_given_out(tmp_path: Path) -> None:
    make = Maker()
    link_cached(tmp_path / "kept", {"a": 1}, make, tmp_path / "one")
    assert link_cached(tmp_path / "kept", {"a": 2}, make, tmp_path / "two") == {"tool": "2"}
    assert (tmp_path / "one/bin/tool").read_text() == "made 1"
    assert (tmp_path / "two/bin/tool").read_text() == "made 2"


def test_a_failure_keeps_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, str]:
        (folder / "half").write_text("")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        link_cached(tmp_path / "kept", {}, fail, tmp_path / "target")
    assert list(tmp_path.iterdir()) == []
