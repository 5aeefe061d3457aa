# SPDX-License-Identifier: MIT
"""Patch series on a tree: applied in order, taken back in reverse, nothing half done."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import pytest

from tasks.kernel import patches
from tasks.util.errors import UserError

ORIGINAL = "".join(f"line {number}\n" for number in range(1, 21))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of two old files."""
    root = tmp_path / "linux"
    root.mkdir()
    for name in ("a.c", "b.c"):
        (root / name).write_text(ORIGINAL)
        os.utime(root / name, (1000, 1000))
    return root


def make_patch(folder: Path, name: str, target: str, before: str, after: str) -> Path:
    """Write a patch as `diff -u` would."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{target}", f"b/{target}"
    )
    path = folder / name
    path.write_text("Why: a test\n---\n" + "".join(lines))
    return path


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Two patches on a.c, the second on top of the first, and one on b.c."""
    one = ORIGINAL.replace("line 3\n", "LINE 3\n")
    two = one.replace("line 4\n", "LINE 4\n")
    return [
        make_patch(tmp_path, "one.patch", "a.c", ORIGINAL, one),
        make_patch(tmp_path, "two.patch", "a.c", one, two),
        make_patch(tmp_path, "three.patch", "b.c", ORIGINAL, ORIGINAL.replace("line 9\n", "nine\n")),
    ]


def test_applies_in_order_and_again_does_nothing(tree: Path, three: list[Path], tmp_path: Path) -> None:
    patches.sync(tree, three, tmp_path / "log")
    assert "LINE 3\nLINE 4\n" in (tree / "a.c").read_text()
    assert "nine" in (tree / "b.c").read_text()
    os.utime(tree / "a.c", (2000, 2000))
    patches.sync(tree, three, tmp_path / "log")
    assert (tree / "a.c").stat().st_mtime == 2000


def test_a_changed_series_touches_only_what_differs(tree: Path, three: list[Path], tmp_path: Path) -> None:
    patches.sync(tree, three, tmp_path / "log")
    for name in ("a.c", "b.c"):
        os.utime(tree / name, (2000, 2000))
    patches.sync(tree, three[:2], tmp_path / "log")
    assert (tree / "b.c").read_text() == ORIGINAL
    assert (tree / "b.c").stat().st_mtime > 2000, "make must see that b.c changed"
    assert (tree / "a.c").stat().st_mtime == 2000
    patches.sync(tree, [], tmp_path / "log")
    assert (tree / "a.c").read_text() == ORIGINAL
    assert not list(tree.glob("*.orig"))


def test_a_patch_in_the_middle_is_replaced(tree: Path, three: list[Path], tmp_path: Path) -> None:
    patches.sync(tree, three, tmp_path / "log")
    patches.sync(tree, [three[0], three[2]], tmp_path / "log")
    assert "LINE 3\nline 4\n" in (tree / "a.c").read_text()
    assert "nine" in (tree / "b.c").read_text()


def test_one_that_does_not_apply_is_named_and_the_next_run_goes_on(
    tree: Path, three: list[Path], tmp_path: Path
) -> None:
    bad = make_patch(tmp_path, "bad.patch", "b.c", "other\nfile\n", "other\nthing\n")
    with pytest.raises(UserError, match=r"bad\.patch does not apply") as caught:
        patches.sync(tree, [three[0], bad], tmp_path / "log")
    assert "b.c" in caught.value.detail
    assert "LINE 3" in (tree / "a.c").read_text()
    assert (tree / "b.c").read_text() == ORIGINAL
    assert not list(tree.rglob("*.rej"))
    patches.sync(tree, three, tmp_path / "log")
    assert "LINE 4" in (tree / "a.c").read_text()


def test_a_run_killed_between_patching_and_noting_it_down(
    tree: Path, three: list[Path], tmp_path: Path
) -> None:
    patches.sync(tree, three[:1], tmp_path / "log")
    for note in (tree / patches.APPLIED).iterdir():
        note.unlink()
    patches.sync(tree, three, tmp_path / "log")
    assert "LINE 3\nLINE 4\n" in (tree / "a.c").read_text()


def test_fuzz_is_refused(tree: Path, tmp_path: Path) -> None:
    """A patch whose context does not match exactly may land in the wrong place."""
    other = ORIGINAL.replace("line 1\n", "first\n")
    patch = make_patch(tmp_path, "fuzzy.patch", "a.c", other, other.replace("line 3\n", "LINE 3\n"))
    with pytest.raises(UserError, match="does not apply"):
        patches.sync(tree, [patch], tmp_path / "log")
