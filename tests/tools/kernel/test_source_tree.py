# SPDX-License-Identifier: MIT
"""The kernel tree with a shared cache: stamps at once, the tree when somebody needs it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config import kernel_source
from tasks.config.kernel_source import BUILD_STAMP, CONFIGURATION_SERIES, DEFERRED, SERIES, STAMP
from tasks.config.settings import Settings
from tasks.kernel import finished_builds, kunit, patches, source_tree, tree_state
from tasks.origins.sources.file import FileSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.settings import with_values
from tests.tools.kernel.test_patches import ORIGINAL, make_patch

CHANGED = ORIGINAL.replace("line 3\n", "LINE 3\n")


@pytest.fixture
def settings(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """A kernel of four files as a tar archive, a series of one patch, and a shared cache."""
    monkeypatch.setattr(CHECKOUT, "patches", tmp_path / "patches")
    series = tmp_path / "patches" / "trial"
    series.mkdir(parents=True)
    make_patch(series, "one.patch", "a.c", ORIGINAL, CHANGED)
    (series / "series").write_text("one.patch\n")
    pack(tmp_path, "Makefile of one\n")
    made = make_settings()
    source = FileSource(path=str(tmp_path / "linux.tar.xz"))
    kernel = dataclasses.replace(made.profile.kernel, source=source, patches="trial")
    profile = dataclasses.replace(made.profile, kernel=kernel)
    return with_values(made, profile=profile, shared_cache=str(tmp_path / "store"))


def pack(folder: Path, makefile: str) -> None:
    tree = folder / "linux-6.1"
    (tree / "arch").mkdir(parents=True, exist_ok=True)
    for name, text in (("Makefile", makefile), ("Kconfig", ""), ("arch/Kconfig", ""), ("a.c", ORIGINAL)):
        (tree / name).write_text(text)
    with tarfile.open(folder / "linux.tar.xz", "w:xz") as tar:
        tar.add(tree, "linux-6.1")


def files(settings: Settings) -> set[str]:
    found = (
        path.relative_to(settings.paths.linux) for path in settings.paths.linux.rglob("*") if path.is_file()
    )
    return {str(path) for path in found}


STAMPS = (STAMP, SERIES, CONFIGURATION_SERIES)
STUB = {*STAMPS, DEFERRED}


def stamps(settings: Settings) -> list[str]:
    return [(settings.paths.linux / name).read_text() for name in STAMPS]


def test_without_a_shared_cache_the_tree_is_made_at_once(settings: Settings) -> None:
    source_tree.prepare(with_values(settings, shared_cache=""))
    assert (settings.paths.linux / "a.c").read_text() == CHANGED
    assert not (settings.paths.linux / DEFERRED).exists()


def test_with_one_the_stamps_are_the_same_and_the_tree_comes_when_it_is_needed(settings: Settings) -> None:
    plain = with_values(settings, shared_cache="", output=settings.paths.output.parent / "plain")
    source_tree.prepare(plain)
    source_tree.prepare(settings)
    assert files(settings) == STUB
    assert stamps(settings) == stamps(plain)
    (settings.paths.build).mkdir()
    (settings.paths.build / BUILD_STAMP).write_text("of the same source, with other patches")
    source_tree.ensure(settings)
    assert files(settings) == files(plain)
    assert (settings.paths.linux / "a.c").read_text() == CHANGED
    assert stamps(settings) == stamps(plain)
    assert list(settings.paths.build.iterdir()) == [], "its objects may be of another patch series"
    (settings.paths.build / BUILD_STAMP).write_text("of this tree")
    source_tree.ensure(settings)
    assert (settings.paths.build / BUILD_STAMP).exists()


def test_a_tree_that_is_there_is_patched_where_it_stands(settings: Settings, tmp_path: Path) -> None:
    source_tree.prepare(with_values(settings, shared_cache=""))
    (tmp_path / "patches/trial/series").write_text("")
    source_tree.prepare(settings)
    assert (settings.paths.linux / "a.c").read_text() == ORIGINAL
    assert not (settings.paths.linux / DEFERRED).exists()


def test_another_source_is_put_off_again(settings: Settings, tmp_path: Path) -> None:
    source_tree.prepare(with_values(settings, shared_cache=""))
    pack(tmp_path, "Makefile of two\n")
    source_tree.prepare(settings)
    assert files(settings) == STUB
    source_tree.ensure(settings)
    assert (settings.paths.linux / "Makefile").read_text() == "Makefile of two\n"


def test_code_that_unpacks_otherwise_makes_the_tree_again_and_make_compiles_what_differs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = with_values(settings, shared_cache="")
    source_tree.prepare(plain)
    linux = settings.paths.linux
    (linux / "Makefile").write_text("as the former code unpacked it\n")
    for name in ("a.c", "Makefile"):
        os.utime(linux / name, (1, 1))
    source_tree.prepare(plain)
    assert (linux / "Makefile").read_text() == "as the former code unpacked it\n"
    for module in (source_tree, kernel_source):
        monkeypatch.setattr(module, "unpacking_code", lambda: "other code\n")
    source_tree.prepare(settings)  # a shared cache puts off no tree that is there
    assert (linux / "Makefile").read_text() == "Makefile of one\n"
    assert (linux / "Makefile").stat().st_mtime > 1
    assert (linux / "a.c").read_text() == CHANGED
    assert (linux / "a.c").stat().st_mtime == 1
    inode = linux.stat().st_ino
    source_tree.prepare(plain)
    assert linux.stat().st_ino == inode, "it is not unpacked again"


def test_a_tree_that_was_removed_leaves_no_objects(settings: Settings) -> None:
    """They may be of a file that somebody had edited in the tree; the unpacked one is older."""
    plain = with_values(settings, shared_cache="")
    source_tree.prepare(plain)
    stamps = [paths.build / BUILD_STAMP for paths in (settings.paths, kunit.paths_of(settings.paths))]
    for stamp in stamps:
        stamp.parent.mkdir()
        stamp.touch()
    source_tree.prepare(plain)
    assert all(stamp.exists() for stamp in stamps), "nothing was unpacked"
    shutil.rmtree(settings.paths.linux)
    source_tree.prepare(plain)
    assert not any(stamp.exists() for stamp in stamps)


def test_a_tree_begins_as_a_copy_of_the_one_beside_a_finished_build(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the same archive with the same patches, which nobody has edited in place."""
    monkeypatch.setattr(CHECKOUT, "artifacts", tmp_path / "artifacts")
    plain = with_values(settings, shared_cache="", own_cache=True)
    source_tree.prepare(plain)
    plain.paths.build.mkdir()
    finished_builds.finish(plain, "made from this\n")
    os.utime(plain.paths.linux / "a.c", (1, 1))
    tree_state.record(plain.paths.linux)

    def begun(name: str, settings: Settings = plain) -> bool:
        mine = with_values(settings, output=tmp_path / name)
        mine.paths.build.mkdir(parents=True)
        (mine.paths.build / BUILD_STAMP).touch()
        source_tree.prepare(mine)
        assert not (mine.paths.build / BUILD_STAMP).exists(), "objects that are there are of another tree"
        assert tree_state.is_as_unpacked(mine.paths.linux)
        return "linux: begins with the files of" in capsys.readouterr().out

    assert begun("same")
    assert (tmp_path / "same/linux/a.c").read_text() == CHANGED
    assert (tmp_path / "same/linux/a.c").stat().st_mtime == 1, "objects of it are newer"
    assert (tmp_path / "same/linux/a.c").stat().st_ino != (plain.paths.linux / "a.c").stat().st_ino
    assert not begun("alone", with_values(plain, own_cache=False))
    (tmp_path / "patches/trial/series").write_text("")
    assert not begun("other-patches")
    assert (tmp_path / "other-patches/linux/a.c").read_text() == ORIGINAL
    (tmp_path / "patches/trial/series").write_text("one.patch\n")
    (plain.paths.linux / "Kconfig").write_text("edited\n")
    assert not begun("edited")
    assert (tmp_path / "edited/linux/Kconfig").read_text() == ""
    pack(tmp_path, "Makefile of two\n")
    assert not begun("other-source")


def edit(path: Path) -> None:
    path.write_text(path.read_text().replace("line 7", "LINE 7"))


@pytest.mark.parametrize(
    "change",
    [
        lambda linux: edit(linux / "a.c"),
        lambda linux: (linux / "localversion").write_text("-mine\n"),
        lambda linux: (linux / "arch/Kconfig").unlink(),
        lambda linux: (linux / "Makefile").chmod(0o755),
        lambda linux: os.utime(linux / "a.c"),
    ],
    ids=["edited", "new", "gone", "mode", "time"],
)
def test_a_tree_that_somebody_edits_is_no_longer_as_it_was_unpacked(
    settings: Settings, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    linux = settings.paths.linux
    source_tree.prepare(settings)
    assert not tree_state.is_as_unpacked(linux), "it is put off"
    source_tree.ensure(settings)
    assert tree_state.is_as_unpacked(linux)
    (linux / "scripts/__pycache__").mkdir(parents=True)
    (linux / "scripts/__pycache__/x.pyc").touch()
    assert tree_state.is_as_unpacked(linux)
    change(linux)
    assert not tree_state.is_as_unpacked(linux)
    # Another series is applied to what is there, edits and all.
    (tmp_path / "patches/trial/series").write_text("")
    source_tree.prepare(settings)
    assert not tree_state.is_as_unpacked(linux)
    shutil.rmtree(linux)
    source_tree.prepare(settings, whole=True)
    assert tree_state.is_as_unpacked(linux)


def test_patches_leave_a_tree_as_it_was_unpacked(settings: Settings, tmp_path: Path) -> None:
    source_tree.prepare(settings, whole=True)
    (tmp_path / "patches/trial/series").write_text("")
    assert tree_state.is_as_unpacked(settings.paths.linux)
    source_tree.prepare(settings)
    assert (settings.paths.linux / "a.c").read_text() == ORIGINAL
    assert tree_state.is_as_unpacked(settings.paths.linux)


def test_the_manifest_tells_the_commands_that_patched_the_tree(settings: Settings) -> None:
    source_tree.prepare(settings, whole=True)
    linux, log = settings.paths.linux, settings.paths.logs / "patches.log"
    ran = [line[2:] for line in log.read_text().splitlines() if line.startswith("+ ")]
    series = patches.series(settings.profile)
    assert ran == patches.commands(linux, series, patches.outcome(linux)) != []
    assert patches.commands(linux, series, "one.patch: left out, the source has it\n") == []


def test_a_cache_that_is_given_up_unpacks_what_was_put_off(settings: Settings) -> None:
    source_tree.prepare(settings)
    source_tree.prepare(with_values(settings, shared_cache=""))
    assert (settings.paths.linux / "a.c").read_text() == CHANGED


def test_somebody_who_asks_for_the_tree_gets_it_whole(settings: Settings) -> None:
    source_tree.prepare(settings)
    assert not kernel_source.is_whole(settings.paths)
    source_tree.prepare(settings, whole=True)
    assert kernel_source.is_whole(settings.paths)
    assert (settings.paths.linux / "a.c").read_text() == CHANGED


def test_unpacking_that_fails_begins_with_the_stamps_again(settings: Settings, tmp_path: Path) -> None:
    source_tree.prepare(settings)
    good = (tmp_path / "linux.tar.xz").read_bytes()
    (tmp_path / "linux.tar.xz").write_bytes(good[:-40])
    with pytest.raises(UserError, match="damaged"):
        source_tree.ensure(settings)
    assert not (settings.paths.linux / STAMP).exists(), "for doit, task linux is to be done again"
    (tmp_path / "linux.tar.xz").write_bytes(good)
    source_tree.prepare(settings)
    source_tree.ensure(settings)
    assert (settings.paths.linux / "a.c").read_text() == CHANGED


def test_a_tree_that_is_edited_in_place_is_never_put_off(settings: Settings, tmp_path: Path) -> None:
    source = FileSource(path=str(tmp_path / "linux-6.1"))
    kernel = dataclasses.replace(settings.profile.kernel, source=source)
    settings = dataclasses.replace(settings, profile=dataclasses.replace(settings.profile, kernel=kernel))
    source_tree.prepare(settings)
    assert (settings.paths.linux / "a.c").read_text() == CHANGED
    shutil.rmtree(tmp_path / "linux-6.1")
