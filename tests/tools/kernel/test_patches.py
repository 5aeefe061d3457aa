# SPDX-License-Identifier: MIT
"""Patch series on a tree: applied in order, taken back in reverse, nothing half done."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

import pytest

from tasks.config.kernel_source import CONFIGURATION_SERIES, SERIES
from tasks.kernel import patches
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import sha256_file

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


@pytest.mark.parametrize(
    ("paths", "counts"),
    [
        (["fs/squashfs/file.c"], False),
        (["include/linux/fs.h", "arch/x86/entry/entry_64.S", "Documentation/process/howto.rst"], False),
        (["fs/squashfs/file.c", "fs/squashfs/Kconfig"], True),
        (["fs/Kconfig.binfmt"], True),
        (["scripts/kconfig/conf.c"], True),
        (["fs/squashfs/Makefile"], True),  # most are not read, but some are
        (["init/notes.txt"], True),
    ],
)
def test_only_some_patches_may_change_the_configuration(
    tree: Path, tmp_path: Path, paths: list[str], counts: bool
) -> None:
    for path in paths:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(ORIGINAL)
    new = ORIGINAL.replace("line 3\n", "LINE 3\n")
    parts = [make_patch(tmp_path, "part", path, ORIGINAL, new).read_text() for path in paths]
    patch = tmp_path / "one.patch"
    patch.write_text("".join(parts))
    patches.sync(tree, [patch], tmp_path / "log")
    line = f"{sha256_file(patch)}  one.patch\n"
    assert (tree / SERIES).read_text() == line
    assert (tree / CONFIGURATION_SERIES).read_text() == (line if counts else "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "diff --git a/a.c b/Kconfig\nsimilarity index 100%\nrename from a.c\nrename to Kconfig\n",
        "diff --git a/Kconfig b/Kconfig\nold mode 100644\nnew mode 100755\n",
    ],
    ids=["no file", "a renamed file", "another mode"],
)
def test_what_is_not_known_may_change_the_configuration(tmp_path: Path, text: str) -> None:
    patch = tmp_path / "one.patch"
    patch.write_text(text)
    assert patches.for_configuration([patch]) == [patch]


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
        note.rename(tree / patches.STARTED)
    patches.sync(tree, three, tmp_path / "log")
    assert "LINE 3\nLINE 4\n" in (tree / "a.c").read_text()


def test_fuzz_is_refused(tree: Path, tmp_path: Path) -> None:
    """A patch whose context does not match exactly may land in the wrong place."""
    other = ORIGINAL.replace("line 1\n", "first\n")
    patch = make_patch(tmp_path, "fuzzy.patch", "a.c", other, other.replace("line 3\n", "LINE 3\n"))
    with pytest.raises(UserError, match="does not apply"):
        patches.sync(tree, [patch], tmp_path / "log")


def outcomes(tree: Path) -> list[str]:
    return (tree / patches.OUTCOME).read_text().splitlines()


def of_release(tree: Path, sublevel: int) -> None:
    (tree / "Makefile").write_text(f"VERSION = 5\nPATCHLEVEL = 4\nSUBLEVEL = {sublevel}\n")


@pytest.mark.parametrize(("sublevel", "applied"), [(0, True), (3, True), (95, True), (96, False)])
def test_a_patch_is_for_the_releases_of_its_header(
    tree: Path, three: list[Path], tmp_path: Path, sublevel: int, applied: bool
) -> None:
    of_release(tree, sublevel)
    three[2].write_text("Releases: 5.4 to 5.4.95\n" + three[2].read_text())
    for _ in range(2):
        patches.sync(tree, three, tmp_path / "log")
        assert ("nine" in (tree / "b.c").read_text()) == applied
        said = "applied" if applied else "left out, it is for 5.4 to 5.4.95 and the source is 5.4.96"
        assert outcomes(tree) == ["one.patch: applied", "two.patch: applied", f"three.patch: {said}"]
    patches.sync(tree, [], tmp_path / "log")
    assert [(tree / name).read_text() for name in ("a.c", "b.c")] == [ORIGINAL] * 2


def test_a_tree_that_becomes_a_later_release_loses_the_patch(
    tree: Path, three: list[Path], tmp_path: Path
) -> None:
    three[2].write_text("Releases: 5.4 to 5.4.95\n" + three[2].read_text())
    of_release(tree, 95)
    patches.sync(tree, three, tmp_path / "log")
    assert patches.touched_files(tree) == {"a.c", "b.c", "Makefile"}
    of_release(tree, 96)
    patches.sync(tree, three, tmp_path / "log")
    assert (tree / "b.c").read_text() == ORIGINAL
    assert "LINE 3\nLINE 4\n" in (tree / "a.c").read_text()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("< 5.4.96", "not a range"),
        (f"5.4 to {'9' * 5000}", "not a range"),
        ("6 to 5", "the first release is the later one"),
        ("", "is empty"),
    ],
    ids=["sign", "digits", "reversed", "empty"],
)
def test_a_release_range_that_is_none_is_named(
    tree: Path, three: list[Path], tmp_path: Path, text: str, says: str
) -> None:
    three[0].write_text(f"Releases: {text}\n" + three[0].read_text())
    with pytest.raises(
        UserError, match=rf"one\.patch: Releases: {f'{re.escape(text)}: ' if text else ''}{says}"
    ):
        patches.sync(tree, three, tmp_path / "log")


@pytest.mark.parametrize("word", ["releases:", "  Releases:", "Releases :", "RELEASE:"])
def test_a_release_range_counts_however_it_is_spelt(
    tree: Path, three: list[Path], tmp_path: Path, word: str
) -> None:
    """Else the patch would be one for all releases, without a word."""
    three[0].write_text(f"{word} 5.4 to 5.4.95\r\n" + three[0].read_text())
    of_release(tree, 96)
    patches.sync(tree, three[:1], tmp_path / "log")
    assert (tree / "a.c").read_text() == ORIGINAL


def test_a_patch_that_only_renames_touches_both_names(tree: Path, tmp_path: Path) -> None:
    """Git writes no `---` and `+++` for it, nor for an empty file or a changed mode."""
    patch = tmp_path / "git.patch"
    patch.write_text(
        "Rename\n---\n"
        "diff --git a/a.c b/new/a.c\nsimilarity index 100%\nrename from a.c\nrename to new/a.c\n"
        "diff --git a/b.c b/b.c\nold mode 100644\nnew mode 100755\n"
        "diff --git a/empty.h b/empty.h\nnew file mode 100644\nindex 0000000..e69de29\n"
    )
    patches.sync(tree, [patch], tmp_path / "log")
    assert (tree / "new/a.c").read_text() == ORIGINAL and not (tree / "a.c").exists()
    assert patches.touched_files(tree) == {"a.c", "new/a.c", "b.c", "empty.h"}
    patches.sync(tree, [], tmp_path / "log")
    assert (tree / "a.c").read_text() == ORIGINAL and not (tree / "new").exists()


def test_a_series_of_releases_ends_with_its_last(tree: Path, three: list[Path], tmp_path: Path) -> None:
    three[0].write_text("Releases: 5.3 to 5.4\n" + three[0].read_text())
    of_release(tree, 95)
    patches.sync(tree, three, tmp_path / "log")
    assert "one.patch: applied" in patches.outcome(tree)


def test_what_the_source_has_already_is_left_out(tree: Path, three: list[Path], tmp_path: Path) -> None:
    """Also two patches of the same lines, of which the first alone could not be taken back."""
    scratch = tmp_path / "upstream"
    scratch.mkdir()
    for name in ("a.c", "b.c"):
        (scratch / name).write_text(ORIGINAL)
    patches.sync(scratch, three[:2], tmp_path / "log")
    (tree / "a.c").write_text((scratch / "a.c").read_text())
    before = (tree / "a.c").stat().st_mtime_ns
    for _ in range(2):
        patches.sync(tree, three, tmp_path / "log")
        assert outcomes(tree) == [
            "one.patch: left out, the source has it",
            "two.patch: left out, the source has it",
            "three.patch: applied",
        ]
    assert (tree / "a.c").stat().st_mtime_ns == before
    patches.sync(tree, [], tmp_path / "log")
    assert "LINE 3\nLINE 4\n" in (tree / "a.c").read_text(), "it is the source's own"
    assert (tree / "b.c").read_text() == ORIGINAL


def test_half_of_a_patch_in_the_source_is_a_conflict(tree: Path, tmp_path: Path) -> None:
    both = ORIGINAL.replace("line 3\n", "LINE 3\n").replace("line 15\n", "LINE 15\n")
    patch = make_patch(tmp_path, "both.patch", "a.c", ORIGINAL, both)
    (tree / "a.c").write_text(ORIGINAL.replace("line 3\n", "LINE 3\n"))
    with pytest.raises(UserError, match=r"both\.patch does not apply"):
        patches.sync(tree, [patch], tmp_path / "log")


def test_the_series_of_5_4_says_for_which_releases_each_patch_is() -> None:
    for patch in sorted((CHECKOUT.patches / "linux-5.4").glob("*.patch")):
        assert patches.RANGE.fullmatch(patches._releases(patch)), patch.name
