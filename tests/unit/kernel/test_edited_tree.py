# SPDX-License-Identifier: MIT
"""A kernel tree that somebody edits: what is noticed, what is copied, what make will see."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.kernel import build, edited_tree, patches, source_tree
from tasks.origins.sources.file import FileSource
from tests.support.settings import both

OLD = 1_000_000_000


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A tree as an archive leaves it: all its files are old."""
    top = tmp_path / "tree"
    for name in ("Makefile", "Kconfig", "arch/x86/Makefile", "fs/dir.c", "fs/file.c", ".git/HEAD"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(f"{name}\n")
        os.utime(top / name, (OLD, OLD))
    return top


@pytest.fixture
def settings(origin: Path, make_settings: Callable[..., Settings]) -> Settings:
    made = make_settings()
    linux = replace(made.profile.kernel, source=FileSource(path=str(origin)))
    made = replace(made, profile=replace(made.profile, kernel=linux))
    source_tree.unpack_linux(made)
    return made


def mtimes(settings: Settings) -> dict[str, int]:
    tree = settings.paths.linux
    paths = [path for path in tree.rglob("*") if path.is_file() and ".tcbuild" not in path.parts]
    return {str(path.relative_to(tree)): path.stat().st_mtime_ns for path in paths}


def edit(path: Path) -> None:
    path.write_text("edited\n")


def edit_back_in_time(path: Path) -> None:
    """As `cp -p` of an older file does: make would think the object is newer."""
    path.write_text("edited\n")
    os.utime(path, (OLD - 1, OLD - 1))


@pytest.mark.parametrize("change", [edit, edit_back_in_time])
def test_an_edit_is_all_that_make_will_see(
    change: Callable[[Path], None], origin: Path, settings: Settings
) -> None:
    before = mtimes(settings)
    assert edited_tree.is_current(settings.paths, settings.profile)
    change(origin / "fs/dir.c")
    assert not edited_tree.is_current(settings.paths, settings.profile)
    source_tree.unpack_linux(settings)
    after = mtimes(settings)
    assert (settings.paths.linux / "fs/dir.c").read_text() == "edited\n"
    assert {name for name in after if after[name] != before[name]} == {"fs/dir.c"}
    assert after["fs/dir.c"] > before["fs/dir.c"]
    assert edited_tree.is_current(settings.paths, settings.profile)


def test_files_come_and_go(origin: Path, settings: Settings) -> None:
    (origin / "fs/dir.c").unlink()
    (origin / "fs/file.c").unlink()
    (origin / "fs/file.c").mkdir()
    (origin / "fs/file.c/new.c").write_text("new\n")
    (origin / "fs/link").symlink_to("../Makefile")
    source_tree.unpack_linux(settings)
    assert sorted(path.name for path in (settings.paths.linux / "fs").rglob("*")) == [
        "file.c",
        "link",
        "new.c",
    ]
    assert (settings.paths.linux / "fs/link").readlink() == Path("../Makefile")
    assert (settings.paths.linux / "fs/file.c/new.c").read_text() == "new\n"


def test_its_git_is_neither_copied_nor_looked_at(origin: Path, settings: Settings) -> None:
    edit(origin / ".git/HEAD")
    assert edited_tree.is_current(settings.paths, settings.profile)
    assert not (settings.paths.linux / ".git").exists()


def test_patches_stay_on_top_of_edits(origin: Path, settings: Settings, tmp_path: Path) -> None:
    patch = tmp_path / "one.patch"
    patch.write_text("--- a/fs/file.c\n+++ b/fs/file.c\n@@ -1 +1,2 @@\n fs/file.c\n+patched\n")
    patches.sync(settings.paths.linux, [patch], tmp_path / "log")
    (origin / "fs/file.c").write_text("fs/file.c\nmine\n")
    source_tree.unpack_linux(settings)
    assert (settings.paths.linux / "fs/file.c").read_text() == "fs/file.c\nmine\n"
    patch.write_text("--- a/fs/file.c\n+++ b/fs/file.c\n@@ -1,2 +1,3 @@\n fs/file.c\n mine\n+patched\n")
    patches.sync(settings.paths.linux, [patch], tmp_path / "log")
    assert (settings.paths.linux / "fs/file.c").read_text() == "fs/file.c\nmine\npatched\n"


def test_a_cut_run_is_made_up_for(origin: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The edit is half copied, then undone in the folder: the copy must not keep it."""

    def cut(source: Path, target: Path) -> None:
        target.write_text("half")
        raise KeyboardInterrupt

    edit(origin / "fs/dir.c")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(edited_tree, "_copy", cut)
        source_tree.unpack_linux(settings)
    (origin / "fs/dir.c").write_text("fs/dir.c\n")
    os.utime(origin / "fs/dir.c", (OLD, OLD))
    assert not edited_tree.is_current(settings.paths, settings.profile)
    source_tree.unpack_linux(settings)
    assert (settings.paths.linux / "fs/dir.c").read_text() == "fs/dir.c\n"


def test_objects_are_kept_over_edits_but_not_over_another_copy(origin: Path, settings: Settings) -> None:
    build.fresh_build_folder(settings.paths, "gcc")
    made = settings.paths.build / "dir.o"
    made.write_text("object")
    edit(origin / "fs/dir.c")
    source_tree.unpack_linux(settings)
    build.fresh_build_folder(settings.paths, "gcc")
    assert made.exists()
    (settings.paths.linux / ".tcbuild/files").unlink()  # copied as a whole: the mtimes are old ones
    source_tree.unpack_linux(settings)
    build.fresh_build_folder(settings.paths, "gcc")
    assert not made.exists()


def test_a_folder_is_compared_for_such_sources_alone(make_settings: Callable[..., Settings]) -> None:
    assert edited_tree.is_current(*both(make_settings()))
