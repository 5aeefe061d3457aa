# SPDX-License-Identifier: MIT
"""The copy of a kernel tree that somebody edits: what is copied, and what make will see."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.kernel import build, edited_tree, patches, source_tree, tree_copy
from tasks.origins.sources.file import FileSource
from tasks.util import files
from tasks.util.errors import UserError

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
    copy(made)
    return made


def copy(settings: Settings) -> None:
    """Copy, as a new run does that begins when the clock of the files has gone on."""
    edited_tree.SEEN.clear()
    time.sleep(2 * files.FINE_STEP / 1e9)
    source_tree.unpack_linux(settings)


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
    copy(settings)
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
    copy(settings)
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
    copy(settings)
    assert (settings.paths.linux / "fs/file.c").read_text() == "fs/file.c\nmine\n"
    patch.write_text("--- a/fs/file.c\n+++ b/fs/file.c\n@@ -1,2 +1,3 @@\n fs/file.c\n mine\n+patched\n")
    patches.sync(settings.paths.linux, [patch], tmp_path / "log")
    assert (settings.paths.linux / "fs/file.c").read_text() == "fs/file.c\nmine\npatched\n"


def test_a_cut_run_is_made_up_for(origin: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The edit is half copied, then undone in the folder: the copy must not keep it."""

    def cut(origin: Path, copied: Path, path: str) -> str:
        (copied / path).write_text("half")
        raise KeyboardInterrupt

    edit(origin / "fs/dir.c")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(tree_copy, "_copy", cut)
        copy(settings)
    (origin / "fs/dir.c").write_text("fs/dir.c\n")
    os.utime(origin / "fs/dir.c", (OLD, OLD))
    assert not edited_tree.is_current(settings.paths, settings.profile)
    copy(settings)
    assert (settings.paths.linux / "fs/dir.c").read_text() == "fs/dir.c\n"


def test_a_new_file_of_a_cut_run_counts_for_the_configuration(
    origin: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run has it among the files that were being copied, and it is new all the same."""

    def cut(*_: object) -> str:
        raise KeyboardInterrupt

    stamp = settings.paths.linux / edited_tree.CONFIGURATION
    before = stamp.read_text()
    (origin / "fs/Kconfig").write_text("config NEW\n")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(tree_copy, "_copy", cut)
        copy(settings)
    copy(settings)
    assert (settings.paths.linux / "fs/Kconfig").read_text() == "config NEW\n"
    assert stamp.read_text() != before


def test_a_run_cut_while_it_records_is_made_up_for(
    origin: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = edited_tree.write_texts

    def cut(path: Path, texts: dict[str, str]) -> None:
        if path.name == "contents":
            raise KeyboardInterrupt
        real(path, texts)

    edit(origin / "fs/dir.c")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(tree_copy, "write_texts", cut)
        copy(settings)
    assert not edited_tree.is_current(settings.paths, settings.profile)
    copy(settings)
    assert edited_tree.is_current(settings.paths, settings.profile)
    contents = edited_tree.read_texts(settings.paths.linux / tree_copy.CONTENTS)
    material = edited_tree.material(settings.paths, origin)
    assert material is not None and material.sha256 == edited_tree.content_digest(contents)
    assert (settings.paths.linux / "fs/dir.c").read_text() == "edited\n"


def test_objects_are_kept_over_edits_but_not_over_another_copy(origin: Path, settings: Settings) -> None:
    build.fresh_build_folder(settings.paths, "gcc")
    made = settings.paths.build / "dir.o"
    made.write_text("object")
    edit(origin / "fs/dir.c")
    copy(settings)
    build.fresh_build_folder(settings.paths, "gcc")
    assert made.exists()
    (settings.paths.linux / ".tcbuild/contents").unlink()  # copied as a whole: the mtimes are old ones
    copy(settings)
    build.fresh_build_folder(settings.paths, "gcc")
    assert not made.exists()


def test_a_touched_file_is_no_edit(origin: Path, settings: Settings) -> None:
    before, stamp = mtimes(settings), (settings.paths.linux / ".tcbuild/source").read_text()
    os.utime(origin / "fs/dir.c")
    assert not edited_tree.is_current(settings.paths, settings.profile)
    copy(settings)
    assert edited_tree.is_current(settings.paths, settings.profile)
    assert mtimes(settings) == before
    assert (settings.paths.linux / ".tcbuild/source").read_text() == stamp


def test_a_tree_at_another_place_with_the_same_content_is_the_same(origin: Path, settings: Settings) -> None:
    """As when a checkout is moved together with the tree beside it."""
    before, stamp = mtimes(settings), (settings.paths.linux / ".tcbuild/source").read_text()
    moved = origin.rename(origin.with_name("moved"))
    kernel = replace(settings.profile.kernel, source=FileSource(path=str(moved)))
    there = replace(settings, profile=replace(settings.profile, kernel=kernel))
    copy(there)
    assert mtimes(there) == before
    assert (there.paths.linux / ".tcbuild/source").read_text() == stamp


def test_empty_folders_vanish(origin: Path, settings: Settings) -> None:
    """For kbuild an empty include/config says that somebody built in the tree."""
    (origin / "drivers/new/deep").mkdir(parents=True)
    (origin / "drivers/new/deep/a.c").write_text("a")
    copy(settings)
    assert (settings.paths.linux / "drivers/new/deep/a.c").exists()
    (origin / "drivers/new/deep/a.c").unlink()
    copy(settings)
    assert not (settings.paths.linux / "drivers").exists()


def test_the_configuration_reads_no_c_file(origin: Path, settings: Settings) -> None:
    """But Kconfig files, those they name, the scripts they run, and the Makefiles that choose flags."""
    (origin / "Kconfig").write_text('source "arch/$(SRCARCH)/Kconfig"\n')
    (origin / "arch/x86/Kconfig").write_text('source "fs/fs.in"\ndef_bool $(success,$(srctree)/fs/test.sh)\n')
    for name in ("fs/fs.in", "fs/test.sh", "scripts/Makefile.compiler"):
        (origin / name).parent.mkdir(exist_ok=True)
        (origin / name).write_text("one\n")
    copy(settings)
    stamp = settings.paths.linux / edited_tree.CONFIGURATION

    def changes(name: str) -> bool:
        before = stamp.read_text()
        edit(origin / name)
        copy(settings)
        return stamp.read_text() != before

    assert not changes("fs/dir.c")
    for name in ("fs/fs.in", "fs/test.sh", "scripts/Makefile.compiler", "arch/x86/Makefile", "Makefile"):
        assert changes(name), name


def test_the_manifest_says_what_was_copied_and_reads_no_file_again(origin: Path, settings: Settings) -> None:
    first = edited_tree.material(settings.paths, origin)
    assert first is not None
    contents = edited_tree.read_texts(settings.paths.linux / tree_copy.CONTENTS)
    assert first.sha256 == edited_tree.content_digest(contents)
    assert first.size == sum((origin / path).stat().st_size for path in contents)
    edit(origin / "fs/dir.c")
    assert edited_tree.material(settings.paths, origin) == first, "not copied yet"
    copy(settings)
    second = edited_tree.material(settings.paths, origin)
    assert second is not None
    assert second.sha256 != first.sha256
    assert second.size == sum((origin / path).stat().st_size for path in contents)


def test_an_edit_during_the_copy_is_found_by_the_next_run(
    origin: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is recorded is what was copied, and the times are those from before."""
    real = tree_copy._content

    def slow(tree: Path, path: str) -> tuple[str, bytes | None]:
        found = real(tree, path)
        (origin / path).write_text("edited again\n")
        return found

    edit(origin / "fs/dir.c")
    with monkeypatch.context() as patched:
        patched.setattr(tree_copy, "_copy", lambda *words: copy_with(slow, *words))
        copy(settings)
    assert (settings.paths.linux / "fs/dir.c").read_text() == "edited\n"
    assert not edited_tree.is_current(settings.paths, settings.profile)
    copy(settings)
    assert (settings.paths.linux / "fs/dir.c").read_text() == "edited again\n"
    assert edited_tree.is_current(settings.paths, settings.profile)


def copy_with(content: Callable[[Path, str], tuple[str, bytes | None]], *words: object) -> str:
    origin, target, path = words
    assert isinstance(origin, Path)
    assert isinstance(target, Path)
    known, data = content(origin, str(path))
    assert data is not None
    (target / str(path)).write_bytes(data)
    return known


def test_a_patch_that_an_edit_does_not_touch_stays_as_it_is(
    origin: Path, settings: Settings, tmp_path: Path
) -> None:
    """Taking it back and applying it again would compile what it touches again."""
    patch = tmp_path / "one.patch"
    patch.write_text("--- a/fs/file.c\n+++ b/fs/file.c\n@@ -1 +1,2 @@\n fs/file.c\n+patched\n")
    patches.sync(settings.paths.linux, [patch], tmp_path / "log")
    before = mtimes(settings)["fs/file.c"]
    edit(origin / "fs/dir.c")
    copy(settings)
    assert mtimes(settings)["fs/file.c"] == before
    assert (settings.paths.linux / "fs/file.c").read_text() == "fs/file.c\npatched\n"


@pytest.mark.parametrize("name", ["Makefile", "Kconfig", "arch"])
def test_a_tree_that_is_none_is_named_in_one_line(origin: Path, settings: Settings, name: str) -> None:
    (origin / name).rename(origin / "gone")
    with pytest.raises(UserError) as caught:
        copy(settings)
    assert str(caught.value).splitlines() == [
        f"the kernel tree {origin} cannot be used: it has no {name}",
        "  hint: name the top folder of a kernel source",
    ]


def test_the_output_folder_is_no_source_nor_in_one(origin: Path, settings: Settings) -> None:
    inside = replace(settings.paths, output=origin / "tcbuild/artifacts/own")
    with pytest.raises(
        UserError, match=rf"^the kernel tree {origin} cannot be used: the output folder .* is"
    ):
        tree_copy.sync(inside, origin)
    with pytest.raises(UserError, match="cannot be used: it is a result of this very profile"):
        tree_copy.sync(settings.paths, settings.paths.linux)


def test_links_that_lead_out_count_as_what_they_lead_to(
    origin: Path, settings: Settings, tmp_path: Path
) -> None:
    """A driver in a folder of its own is linked in; its edits must be seen."""
    driver = tmp_path / "driver"
    (driver / "sub").mkdir(parents=True)
    (driver / "one.c").write_text("one\n")
    (driver / "sub/two.c").write_text("two\n")
    (origin / "drivers").symlink_to(driver)
    (origin / "fs/linked.c").symlink_to("../../driver/one.c")
    (origin / "fs/own.c").symlink_to("dir.c")
    copy(settings)
    linux = settings.paths.linux
    assert not (linux / "drivers").is_symlink() and not (linux / "fs/linked.c").is_symlink()
    assert os.readlink(linux / "fs/own.c") == "dir.c"
    edit(driver / "one.c")
    edit(driver / "sub/two.c")
    copy(settings)
    for path in ("drivers/one.c", "drivers/sub/two.c", "fs/linked.c"):
        assert (linux / path).read_text() == "edited\n", path
    (driver / "again").symlink_to(driver)
    with pytest.raises(UserError, match="drivers/again is a link to a folder that it lies in"):
        copy(settings)
