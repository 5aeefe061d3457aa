# SPDX-License-Identifier: MIT
"""The kernel tree of a git repository: locked, fetched, and moved from commit to commit."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config import kernel_source
from tasks.config.kernel_source import STAMP
from tasks.config.settings import Settings
from tasks.fetch import inputs, outdated, update
from tasks.kernel import finished_builds, nearest_build, nearest_tree, source_tree, tree_state
from tasks.origins.lock import load_lock
from tasks.origins.sources.git import GitSource
from tasks.provenance import materials, purl
from tasks.util import process
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.gitrepo import GitRepository, public_key
from tests.support.settings import with_values
from tests.tools.kernel.test_patches import ORIGINAL, make_patch

CHANGED = ORIGINAL.replace("line 3\n", "LINE 3\n")
FILES = {
    "Makefile": "one\n",
    "Kconfig": "",
    "arch/Kconfig": "",
    "a.c": ORIGINAL,
    "b.c": "b\n",
    "old/c.c": "c\n",
}


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    made = GitRepository(tmp_path / "linux.git")
    made.commit(FILES)
    return made


@pytest.fixture
def settings(
    make_settings: Callable[..., Settings],
    repository: GitRepository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    """A profile `mine` with a kernel of that repository's branch main, and a series of one patch."""
    made = with_values(make_settings(), name="mine")
    monkeypatch.setattr(CHECKOUT, "patches", tmp_path / "patches")
    monkeypatch.setattr(CHECKOUT, "profiles", tmp_path / "profiles")
    (tmp_path / "profiles").mkdir()
    series = tmp_path / "patches" / "trial"
    series.mkdir(parents=True)
    make_patch(series, "one.patch", "a.c", ORIGINAL, CHANGED)
    (series / "series").write_text("one.patch\n")
    source = GitSource(url=repository.url, ref="main")
    kernel = dataclasses.replace(made.profile.kernel, source=source, patches="trial")
    core = dataclasses.replace(made.profile.core, packages=(), rootfs=False)
    profile = dataclasses.replace(made.profile, kernel=kernel, core=core, extensions=(), suite=None)
    return with_values(made, profile=profile)


def prepared(settings: Settings) -> dict[str, str]:
    """Fetch, prepare the tree, and return its files."""
    inputs.fetch(settings)
    source_tree.prepare(settings)
    linux = settings.paths.linux
    found = (path for path in linux.rglob("*") if path.is_file() and ".tcbuild" not in path.parts)
    return {str(path.relative_to(linux)): path.read_text() for path in found}


def times(settings: Settings) -> dict[str, int]:
    return {name: (settings.paths.linux / name).stat().st_mtime_ns for name in ("Makefile", "a.c", "b.c")}


def test_the_tree_has_the_locked_commit_until_it_is_updated(
    settings: Settings, repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="no commit is locked for file://"):
        inputs.fetch(settings)
    inputs.lock(settings)
    assert prepared(settings) == FILES | {"a.c": CHANGED}
    (entry,) = load_lock(settings.paths.pinned_lock).commit
    assert (
        settings.paths.linux / STAMP
    ).read_text() == f"git {repository.url}\n{entry.commit} {entry.tree}\n"
    assert kernel_source.is_unpacked(settings.paths, settings.profile)
    before = times(settings)
    new = repository.commit({"b.c": "B\n", "old/c.c": None, "d.c": "d\n"})
    assert prepared(settings) == FILES | {"a.c": CHANGED}
    capsys.readouterr()
    outdated.tell(settings, names=["kernel"])
    assert f"{entry.commit[:12]}  {new[:12]}  {repository.url}\n" in capsys.readouterr().out
    time.sleep(0.01)
    update.update(settings, names=["kernel"])
    said = capsys.readouterr().out
    assert f"update: commit {repository.url} main: {entry.commit[:12]} -> {new[:12]}\n" in said
    moved = {name: text for name, text in FILES.items() if name != "old/c.c"}
    assert prepared(settings) == moved | {"a.c": CHANGED, "b.c": "B\n", "d.c": "d\n"}
    assert not (settings.paths.linux / "old").exists()
    # make compiles what differs: the patched file keeps its time, too.
    after = times(settings)
    assert after["b.c"] > before["b.c"]
    assert {name: after[name] for name in ("Makefile", "a.c")} == {
        name: before[name] for name in ("Makefile", "a.c")
    }
    # Back again, offline.
    settings.paths.pinned_lock.write_text(
        dataclasses.replace(load_lock(settings.paths.pinned_lock), commit=(entry,)).to_toml()
    )
    assert prepared(with_values(settings, offline=True, frozen=True)) == FILES | {"a.c": CHANGED}


def test_a_commit_that_a_patch_touches_is_patched_anew(settings: Settings, repository: GitRepository) -> None:
    inputs.lock(settings)
    prepared(settings)
    repository.commit({"a.c": ORIGINAL.replace("line 9\n", "LINE 9\n")})
    update.update(settings, names=["kernel"])
    assert prepared(settings)["a.c"] == CHANGED.replace("line 9\n", "LINE 9\n")
    repository.commit({"a.c": ORIGINAL.replace("line 3\n", "another\n")})
    update.update(settings, names=["kernel"])
    with pytest.raises(UserError, match=r"patch one\.patch does not apply"):
        prepared(settings)
    repository.commit({"a.c": ORIGINAL})
    update.update(settings, names=["kernel"])
    assert prepared(settings) == FILES | {"a.c": CHANGED}


def test_a_killed_move_is_made_anew_and_keeps_the_times_of_what_stays(
    settings: Settings, repository: GitRepository
) -> None:
    inputs.lock(settings)
    prepared(settings)
    before = times(settings)
    repository.commit({"b.c": "B\n", "d.c": "d\n"})
    update.update(settings, names=["kernel"])
    # As after a kill in the middle: one of two files is written, and the stamp says nothing.
    (settings.paths.linux / "d.c").write_text("half")
    (settings.paths.linux / STAMP).write_text(f"git {repository.url}\n\n")
    assert prepared(settings) == FILES | {"a.c": CHANGED, "b.c": "B\n", "d.c": "d\n"}
    after = times(settings)
    assert {name for name in after if after[name] != before[name]} == {"b.c"}


def test_a_signed_tag_is_locked_with_its_signer(
    settings: Settings, repository: GitRepository, tmp_path: Path
) -> None:
    key = repository.sign_tag("v1")
    source = GitSource(
        url=repository.url, ref="v1", keyring=str(public_key(tmp_path / "keys")), fingerprints=(key,)
    )
    kernel = dataclasses.replace(settings.profile.kernel, source=source)
    settings = with_values(settings, profile=dataclasses.replace(settings.profile, kernel=kernel))
    inputs.lock(settings)
    assert prepared(settings) == FILES | {"a.c": CHANGED}
    (entry,) = load_lock(settings.paths.pinned_lock).commit
    assert entry.signed_by == key
    (one,) = materials._sources(settings.paths, settings.profile)
    assert (one.kind, one.version, one.tree, one.source) == ("git", entry.commit, entry.tree, key)
    assert purl.purl(one).startswith(f"pkg:generic/linux@{entry.commit}?vcs_url=git%2Bfile:")
    keyless = dataclasses.replace(source, fingerprints=("0" * 40,))
    kernel = dataclasses.replace(kernel, source=keyless)
    with pytest.raises(UserError, match="has no good signature"):
        update.update(
            with_values(settings, profile=dataclasses.replace(settings.profile, kernel=kernel)),
            names=["kernel"],
        )


def first_of_artifacts(settings: Settings, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Lock the source; return the settings of an output folder in `artifacts`, which is the checkout's."""
    monkeypatch.setattr(CHECKOUT, "artifacts", artifacts)
    inputs.lock(settings)
    return with_values(settings, output=artifacts / "first")


def test_another_output_folder_begins_with_the_tree_of_the_nearest_finished_build(
    settings: Settings, repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its objects count, though they are of another commit: what differs is newer than they are."""
    first = first_of_artifacts(settings, tmp_path / "artifacts", monkeypatch)
    other = with_values(settings, output=tmp_path / "artifacts/other")
    for one in (first, other):
        prepared(one)
        one.paths.build.mkdir()
        (one.paths.build / ".config").write_text("CONFIG_A=y\n")
        (one.paths.build / "object").write_text(one.paths.output.name)
        (one.paths.build / source_tree.UNTOUCHED).touch()
    finished_builds.finish(first, nearest_build.made_from(first, "gcc"))
    repository.commit({"b.c": "B\n"})
    update.update(settings, names=["kernel"])
    mine = with_values(settings, output=tmp_path / "artifacts/mine")
    assert prepared(mine)["b.c"] == "B\n"
    assert times(mine)["b.c"] > times(first)["b.c"]
    assert {**times(mine), "b.c": 0} == {**times(first), "b.c": 0}
    # A build that is finished later is of a tree with other times.
    finished_builds.finish(other, nearest_build.made_from(other, "gcc"))
    mine.paths.config.parent.mkdir(parents=True)
    mine.paths.config.write_text("CONFIG_A=y\n")
    mine.paths.build.mkdir()
    made = nearest_build.made_from(mine, "gcc")
    nearest_build.start_from(mine, made)
    assert (mine.paths.build / "object").read_text() == "first"
    # One that goes on meanwhile does not count.
    shutil.rmtree(mine.paths.build)
    mine.paths.build.mkdir()
    finished_builds.finish(first, made)
    nearest_build.start_from(mine, made)
    assert not list(mine.paths.build.iterdir())


def test_a_tree_that_somebody_has_edited_is_not_copied(
    settings: Settings, repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its edits would get into another profile's kernel, and into the shared cache."""
    first = first_of_artifacts(settings, tmp_path / "artifacts", monkeypatch)
    prepared(first)
    first.paths.build.mkdir()
    finished_builds.finish(first, nearest_build.made_from(first, "gcc"))
    copy = with_values(settings, output=tmp_path / "artifacts/copy")
    prepared(copy)
    assert (copy.paths.linux / nearest_tree.COPIED).exists()
    assert tree_state.is_as_unpacked(copy.paths.linux)
    (first.paths.linux / "b.c").write_text("edited\n")
    mine = with_values(settings, output=tmp_path / "artifacts/mine")
    assert prepared(mine) == FILES | {"a.c": CHANGED}
    assert not (mine.paths.linux / nearest_tree.COPIED).exists()
    assert tree_state.is_as_unpacked(mine.paths.linux)


def test_a_tree_that_moves_while_it_is_copied_is_not_taken(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CHECKOUT, "artifacts", tmp_path / "artifacts")
    inputs.lock(settings)
    first = with_values(settings, output=tmp_path / "artifacts/first")
    prepared(first)
    first.paths.build.mkdir()
    finished_builds.finish(first, nearest_build.made_from(first, "gcc"))

    def copied(*words: object, **more: object) -> object:
        (first.paths.linux / "b.c").write_text("of another commit\n")
        return process.run(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(finished_builds, "run", copied)
    mine = with_values(settings, output=tmp_path / "artifacts/mine")
    assert prepared(mine) == FILES | {"a.c": CHANGED}
    assert not (mine.paths.linux / nearest_tree.COPIED).exists()


def test_a_tree_moves_to_another_commit_as_it_was_unpacked_unless_somebody_has_edited_it(
    settings: Settings, repository: GitRepository
) -> None:
    inputs.lock(settings)
    prepared(settings)
    repository.commit({"a.c": ORIGINAL.replace("line 9\n", "LINE 9\n"), "b.c": "B\n"})
    update.update(settings, names=["kernel"])
    prepared(settings)
    assert tree_state.is_as_unpacked(settings.paths.linux)
    (settings.paths.linux / "c.c").write_text("of somebody\n")
    repository.commit({"b.c": "BB\n"})
    update.update(settings, names=["kernel"])
    assert prepared(settings)["c.c"] == "of somebody\n"
    assert not tree_state.is_as_unpacked(settings.paths.linux)


def test_a_shared_cache_throws_no_tree_of_the_repository_away(
    settings: Settings, repository: GitRepository, tmp_path: Path
) -> None:
    """The next commit is often in no cache, and make compiles what differs only in a tree that moves."""
    cached = with_values(settings, shared_cache=str(tmp_path / "results"))
    inputs.lock(settings)
    assert prepared(cached) == {}, "a tree that is not there is put off"
    source_tree.ensure(cached)
    before = times(cached)
    repository.commit({"b.c": "B\n"})
    update.update(cached, names=["kernel"])
    assert prepared(cached) == FILES | {"a.c": CHANGED, "b.c": "B\n"}
    after = times(cached)
    assert {name for name in after if after[name] != before[name]} == {"b.c"}
    # A cache of others spares the download of a commit: the tree is put off as one that is not there.
    elsewhere = with_values(cached, cache=tmp_path / "empty")
    source_tree.prepare(elsewhere)
    assert (cached.paths.linux / "b.c").exists(), "the tree is that of the locked commit"
    repository.commit({"b.c": "BB\n"})
    update.update(cached, names=["kernel"])
    inputs.fetch(cached)
    source_tree.prepare(elsewhere)
    assert not (cached.paths.linux / "b.c").exists()
