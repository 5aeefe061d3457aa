# SPDX-License-Identifier: MIT
"""Which build an empty build folder starts from.  The tools tier has a test with the real make."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.kernel_source import BUILD_STAMP, DEFERRED, FINISHED, SERIES, STAMP, UNPACKED_BY
from tasks.config.settings import Paths, Settings
from tasks.kernel import finished_builds, nearest_build
from tasks.origins.sources.file import FileSource
from tasks.util import process
from tasks.util.checkout import CHECKOUT

OBJECT = "fs/ext4/.inode.o.cmd"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_settings: Callable[..., Settings]) -> Place:
    monkeypatch.setattr(CHECKOUT, "artifacts", tmp_path / "artifacts")
    return Place(tmp_path / "artifacts", make_settings())


class Place:
    """The folder artifacts/ of a checkout, with builds that are no kernels."""

    def __init__(self, artifacts: Path, settings: Settings) -> None:
        self.artifacts = artifacts
        self.base = settings

    def settings(self, name: str, series: str = "no patch\n") -> Settings:
        """Return the settings of an output folder with an unpacked tree."""
        paths = replace(self.base.paths, output=self.artifacts / name)
        for file, text in {STAMP: "linux 1\n", UNPACKED_BY: "code\n", SERIES: series}.items():
            (paths.linux / file).parent.mkdir(parents=True, exist_ok=True)
            (paths.linux / file).write_text(text)
        paths.config.parent.mkdir(parents=True, exist_ok=True)
        paths.config.write_text("CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=y\n")
        paths.build.mkdir()
        (paths.build / BUILD_STAMP).write_text(name)
        return replace(self.base, paths=paths)

    def finished(
        self, name: str, config: str = "CONFIG_A=y\n", toolchain: str = "gcc 12", **more: str
    ) -> Paths:
        settings = self.settings(name, **more)
        build = settings.paths.build
        (build / ".config").write_text(config)
        (build / OBJECT).parent.mkdir(parents=True)
        (build / OBJECT).write_text(f"gcc -I{settings.paths.linux}/include -DNAME={name}\n")
        (build / ".inode.d").write_text(f"{settings.paths.linux}/fs/inode.c\n")
        (build / "source").symlink_to(settings.paths.linux)
        (build / "image").symlink_to(OBJECT)
        for drawn in nearest_build.DRAWN:
            (build / drawn).parent.mkdir(parents=True, exist_ok=True)
            (build / drawn).write_text("secret")
        finished_builds.finish(settings, nearest_build.made_from(settings, toolchain))
        return settings.paths

    def started(self, **more: str) -> Paths:
        """Start a build in a folder of its own, and return its paths."""
        settings = self.settings("mine", **more)
        nearest_build.start_from(settings, nearest_build.made_from(settings, "gcc 12"))
        return settings.paths


def is_empty(build: Path) -> bool:
    return [path.name for path in build.iterdir()] == [BUILD_STAMP]


def test_the_nearest_configuration_is_taken(place: Place) -> None:
    place.finished("far", "CONFIG_A=y\n")
    near = place.finished("near", "CONFIG_A=y\nCONFIG_B=y\n")
    before = contents(near.output)
    mine = place.started()
    assert (mine.build / OBJECT).read_text() == f"gcc -I{mine.linux}/include -DNAME=near\n"
    assert not (mine.build / FINISHED).exists(), "make has not run here"
    assert (mine.build / BUILD_STAMP).read_text() == "mine", "its own marks stay"
    assert not any((mine.build / drawn).exists() for drawn in nearest_build.DRAWN), "each build draws its own"
    assert contents(near.output) == before


def test_nothing_in_the_copy_leads_to_the_other_checkout(place: Place) -> None:
    """It may be removed at any time."""
    near = place.finished("near")
    mine = place.started()
    assert (mine.build / ".inode.d").read_text() == f"{mine.linux}/fs/inode.c\n"
    assert (mine.build / "source").readlink() == mine.linux
    assert (mine.build / "image").readlink() == Path(OBJECT)
    assert str(near.output) not in str(contents(mine.build))


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return path -> inode, and text or target of all that is no folder."""
    found = [path for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_ino,
            bytes(path.readlink()) if path.is_symlink() else path.read_bytes(),
        )
        for path in found
    }


def test_another_kernel_of_the_same_tree_starts_from_the_profile_s(place: Place) -> None:
    """Its build folder has another name, and its output folder may lie anywhere: out=DIR."""
    first = place.finished("first")
    elsewhere = place.artifacts.parent / "elsewhere"
    first.output.rename(elsewhere)
    moved = replace(first, output=elsewhere)
    text = f"gcc -I{moved.linux} -map={moved.build}=. -I{moved.build}-2/x {moved.build}/y\n"
    (moved.build / OBJECT).write_text(text)
    made = nearest_build.made_from(replace(place.base, paths=moved), "gcc 12")
    finished_builds.finish(replace(place.base, paths=moved), made)
    own = replace(place.settings("mine"), paths=replace(moved, variant="kunit"))
    own.paths.config.parent.mkdir()
    own.paths.build.mkdir()
    own.paths.config.write_text("CONFIG_A=y\n")
    nearest_build.start_from(own, made)
    assert (own.paths.build / OBJECT).read_text() == (
        f"gcc -I{moved.linux} -map={elsewhere}/build-kunit=. -I{moved.build}-2/x {elsewhere}/build-kunit/y\n"
    )


@pytest.mark.parametrize("differs", [{"toolchain": "gcc 13"}, {"series": "a patch\n"}])
def test_objects_of_something_else_are_not_taken(place: Place, differs: dict[str, str]) -> None:
    place.finished("other", **differs)
    assert is_empty(place.started().build)


def test_a_build_that_make_is_changing_is_not_taken(place: Place) -> None:
    finished_builds.begin(place.finished("other").build)
    assert is_empty(place.started().build)


@pytest.mark.parametrize("change", ["written", "removed", "new"])
def test_a_build_folder_that_is_not_as_it_was_finished_is_not_taken(place: Place, change: str) -> None:
    """Somebody has edited it in place, runs make there by hand, or is removing it."""
    build = place.finished("other").build
    if change == "removed":
        (build / OBJECT).unlink()
    else:
        (build / (OBJECT if change == "written" else "new.o")).write_text("half of an object")
    assert is_empty(place.started().build)


def test_a_build_that_changes_while_it_is_copied_is_not_taken(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = place.finished("other")

    def copied(*words: object, **more: object) -> object:
        (other.build / OBJECT).unlink()
        return process.run(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(finished_builds, "run", copied)
    mine = place.started()
    assert is_empty(mine.build)
    assert sorted(path.name for path in mine.output.iterdir()) == sorted(
        {mine.build.name, mine.linux.name, mine.config.relative_to(mine.output).parts[0]}
    )


def test_a_build_that_is_removed_while_it_is_copied_is_not_taken(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = place.finished("other")

    def copied(*words: object, **more: object) -> object:
        shutil.rmtree(other.output)
        return process.run(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(finished_builds, "run", copied)
    assert is_empty(place.started().build)


def test_a_tree_that_somebody_edits_has_no_objects_to_share(place: Place, tmp_path: Path) -> None:
    """Its files may be older than the objects, and others than those the objects were made from."""
    settings = place.settings("mine")
    assert nearest_build.made_from(settings, "gcc 12")
    kernel = replace(settings.profile.kernel, source=FileSource(path=str(tmp_path)))
    edited = replace(settings, profile=replace(settings.profile, kernel=kernel))
    assert nearest_build.made_from(edited, "gcc 12") == ""
    (settings.paths.linux / DEFERRED).write_text("")
    assert nearest_build.made_from(settings, "gcc 12") == ""
