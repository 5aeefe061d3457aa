# SPDX-License-Identifier: MIT
"""What make is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.config.settings import Paths
from tasks.kernel import build


@pytest.mark.parametrize(
    ("line", "goals"),
    [
        ("CONFIG_GDB_SCRIPTS=y", ["bzImage", "modules", "scripts_gdb"]),
        ("# CONFIG_GDB_SCRIPTS is not set", ["bzImage", "modules"]),
        ("", ["bzImage", "modules"]),
    ],
)
def test_gdbs_scripts_are_made_if_the_kernel_has_them(tmp_path: Path, line: str, goals: list[str]) -> None:
    """`make all` makes them, and tcbuild does not run it."""
    paths = Paths("mine", tmp_path, tmp_path)
    paths.config.parent.mkdir()
    paths.config.write_text(f"{line}\n")
    assert build.goals(paths) == goals


def test_a_further_kernel_of_the_tree_has_no_modules(tmp_path: Path) -> None:
    assert build.goals(Paths("mine", tmp_path, tmp_path, variant="kunit")) == ["bzImage"]
