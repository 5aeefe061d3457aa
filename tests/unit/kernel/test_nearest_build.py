# SPDX-License-Identifier: MIT
"""Which build an empty build folder starts from.  The tools tier has a test with the real make."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.kernel_source import DEFERRED, FINISHED, STAMP, UNPACKED_BY
from tasks.config.settings import Paths, Settings
from tasks.kernel import nearest_build, source_tree
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
        for file, text in {STAMP: "linux 1\n", UNPACKED_BY: "code\n", source_tree.SERIES: series}.items():
            (paths.linux / file).parent.mkdir(parents=True, exist_ok=True)
            (paths.linux / file).write_text(text)
        paths.config.parent.mkdir(parents=True, exist_ok=True)
        paths.config.write_text("CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=y\n")
        paths.build.mkdir()
        return replace(self.base, paths=paths)

    def finished(
        self, name: str, config: str = "CONFIG_A=y\n", toolchain: str = "gcc 12", **more: str
    ) -> Paths:
        settings = self.settings(name, **more)
        build = settings.paths.build
        (build / ".config").write_text(config)
        (build / OBJECT).parent.mkdir(parents=True)
        (build / OBJECT).write_text(f"gcc -I{settings.paths.linux}/include -DNAME={name}\n")
        (build / source_tree.UNTOUCHED).touch()
        (build / "certs").mkdir()
        (build / "certs/signing_key.pem").write_text("secret")
        nearest_build.finish(build, nearest_build.made_from(settings, toolchain))
        return settings.paths

    def started(self, **more: str) -> Paths:
        """Start a build in a folder of its own, and return its paths."""
        settings = self.settings("mine", **more)
        nearest_build.start_from(settings.paths, nearest_build.made_from(settings, "gcc 12"))
        return settings.paths


def test_the_nearest_configuration_is_taken(place: Place) -> None:
    place.finished("far", "CONFIG_A=y\n")
    place.finished("near", "CONFIG_A=y\nCONFIG_B=y\n")
    mine = place.started()
    assert (mine.build / OBJECT).read_text() == f"gcc -I{mine.linux}/include -DNAME=near\n"
    assert not (mine.build / FINISHED).exists(), "make has not run here"
    assert not (mine.build / "certs/signing_key.pem").exists(), "each build has a key of its own"
    assert (place.artifacts / "near/build/certs/signing_key.pem").exists()


def test_another_kernel_of_the_same_tree_starts_from_the_profile_s(place: Place) -> None:
    """Its build folder has another name, and its output folder may lie anywhere: out=DIR."""
    first = place.finished("first")
    elsewhere = place.artifacts.parent / "elsewhere"
    first.output.rename(elsewhere)
    moved = replace(first, output=elsewhere)
    (moved.build / OBJECT).write_text(
        f"gcc -I{moved.linux} -map={moved.build}=. -I{moved.build}-2/x {moved.build}/y\n"
    )
    own = replace(place.settings("mine"), paths=replace(moved, variant="kunit"))
    own.paths.config.parent.mkdir()
    own.paths.config.write_text("CONFIG_A=y\n")
    nearest_build.start_from(own.paths, (moved.build / FINISHED).read_text())
    assert (own.paths.build / OBJECT).read_text() == (
        f"gcc -I{moved.linux} -map={elsewhere}/build-kunit=. -I{moved.build}-2/x {elsewhere}/build-kunit/y\n"
    )


@pytest.mark.parametrize("differs", [{"toolchain": "gcc 13"}, {"series": "a patch\n"}])
def test_objects_of_something_else_are_not_taken(place: Place, differs: dict[str, str]) -> None:
    place.finished("other", **differs)
    assert list(place.started().build.iterdir()) == []


def test_a_build_that_make_is_changing_is_not_taken(place: Place) -> None:
    nearest_build.begin(place.finished("other").build)
    assert list(place.started().build.iterdir()) == []


def test_objects_of_an_unpacked_tree_that_somebody_had_edited_are_not_taken(place: Place) -> None:
    (place.finished("other").build / source_tree.UNTOUCHED).unlink()
    assert list(place.started().build.iterdir()) == []


def test_a_build_that_changes_while_it_is_copied_is_not_taken(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = place.finished("other")

    def copied(*words: object, **more: object) -> object:
        result = process.run(*words, **more)  # type: ignore[arg-type]
        os.utime(other.build / FINISHED, (1, 1))
        return result

    monkeypatch.setattr(nearest_build, "run", copied)
    mine = place.started()
    assert list(mine.build.iterdir()) == []
    assert sorted(path.name for path in mine.output.iterdir()) == sorted(
        {mine.build.name, mine.linux.name, mine.config.relative_to(mine.output).parts[0]}
    )


def test_a_tree_that_somebody_edits_has_no_objects_to_share(place: Place, tmp_path: Path) -> None:
    """Its files may be older than the objects, and others than those the objects were made from."""
    settings = place.settings("mine")
    assert nearest_build.made_from(settings, "gcc 12")
    kernel = replace(settings.profile.kernel, source=FileSource(path=str(tmp_path)))
    edited = replace(settings, profile=replace(settings.profile, kernel=kernel))
    assert nearest_build.made_from(edited, "gcc 12") == ""
    (settings.paths.linux / DEFERRED).write_text("")
    assert nearest_build.made_from(settings, "gcc 12") == ""
