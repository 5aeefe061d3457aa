# SPDX-License-Identifier: MIT
"""Which finished builds are known: of the checkout, and of others by notes in the cache folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.kernel_source import FINISHED
from tasks.config.settings import Settings
from tasks.kernel import finished_builds
from tasks.util.checkout import CHECKOUT
from tests.support.settings import with_values


@pytest.fixture
def settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_settings: Callable[..., Settings]
) -> Settings:
    monkeypatch.setattr(CHECKOUT, "artifacts", tmp_path / "here/artifacts")
    output = tmp_path / "here/artifacts/mine"
    return with_values(make_settings(), cache=tmp_path / "cache", output=output, own_cache=True)


def finished(settings: Settings, output: Path) -> Path:
    """Finish a build in an output folder, and return its mark."""
    mark = output / "build" / FINISHED
    mark.parent.mkdir(parents=True)
    finished_builds.finish(with_values(settings, output=output), "made from this\n")
    return mark


def test_other_checkouts_are_known_by_their_notes(settings: Settings, tmp_path: Path) -> None:
    own = finished(settings, settings.paths.output)
    here = finished(settings, tmp_path / "here/artifacts/other")
    there = finished(settings, tmp_path / "there/artifacts/apt")
    elsewhere = finished(settings, tmp_path / "out")
    assert finished_builds.marks(settings) == {own, here, there, elsewhere}
    # A run that is to make all itself reads and writes none.
    alone = with_values(settings, own_cache=False)
    assert finished_builds.marks(alone) == {own, here}
    finished(alone, tmp_path / "third/artifacts/apt")
    assert finished_builds.marks(settings) == {own, here, there, elsewhere}


def test_a_further_kernel_of_a_tree_is_not_told(settings: Settings) -> None:
    own = replace(settings, paths=replace(settings.paths, variant="kunit"))
    own.paths.build.mkdir(parents=True)
    finished_builds.finish(own, "made from this\n")
    assert not (settings.paths.cache / finished_builds.NOTES).exists()


def test_a_note_of_what_is_gone_is_removed(settings: Settings, tmp_path: Path) -> None:
    mark = finished(settings, tmp_path / "there/artifacts/apt")
    notes = settings.paths.cache / finished_builds.NOTES
    mark.unlink()  # make runs there
    assert mark not in finished_builds.marks(settings)
    assert len(list(notes.iterdir())) == 1
    shutil.rmtree(tmp_path / "there")
    assert mark not in finished_builds.marks(settings)
    assert list(notes.iterdir()) == []


def test_what_another_user_has_made_is_not_taken(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = finished(settings, tmp_path / "there/artifacts/apt")
    assert mark in finished_builds.marks(settings)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert mark not in finished_builds.marks(settings)


def test_a_link_to_what_this_user_has_made_is_not_followed(settings: Settings, tmp_path: Path) -> None:
    """The folder that a note tells of may be another user's by now."""
    mark = finished(settings, tmp_path / "there/artifacts/apt")
    mark.parent.rename(tmp_path / "build")
    mark.parent.symlink_to(tmp_path / "build")
    assert mark not in finished_builds.marks(settings)


def test_a_build_folder_is_compared_with_what_it_was(settings: Settings, tmp_path: Path) -> None:
    build = finished(settings, tmp_path / "out").parent
    assert finished_builds.is_as_finished(build, "made from this\n")
    assert not finished_builds.is_as_finished(build, "made from that\n")
    (build / ".tcbuild.modules").touch()  # what was installed of it
    assert finished_builds.is_as_finished(build, "made from this\n")
    (build / "vmlinux").touch()
    assert not finished_builds.is_as_finished(build, "made from this\n")
    (build / "vmlinux").unlink()
    finished_builds.begin(build)
    assert not finished_builds.is_as_finished(build, "made from this\n")
    assert not finished_builds.is_as_finished(tmp_path / "none", "")
