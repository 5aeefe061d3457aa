# SPDX-License-Identifier: MIT
"""Sources of what is compiled: commits of a real git, folders, and what a recipe may say of them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tasks.origins.origin_lock import OriginFile
from tasks.origins.source_trees import AnyTree, ArchiveTree, FolderTree, GitTree, files_of
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError, WrongSha256
from tests.support.gitrepo import GitRepository

ARCHIVE = {"kind": "archive", "urls": ["http://h/a-{version}.tgz"]}
GIT = {"kind": "git", "url": "https://h/a.git", "commit": "1" * 40}
FOLDER = {"kind": "folder", "path": "src"}


def build(table: dict[str, Any], **more: Any) -> AnyTree:
    found: AnyTree = toml_schema.build(table | more, AnyTree, "recipe.toml", "source")
    return found


@pytest.mark.parametrize(
    ("table", "kind", "identity", "is_locked"),
    [
        (ARCHIVE, ArchiveTree, "http://h/a-1.2.tgz", True),
        (GIT, GitTree, f"git:https://h/a.git@{'1' * 40}", True),
        (FOLDER, FolderTree, "folder:src", False),
    ],
)
def test_what_a_source_is(table: dict[str, Any], kind: type[AnyTree], identity: str, is_locked: bool) -> None:
    made = build(table)
    assert type(made) is kind
    assert (made.identity("1.2"), made.is_locked) == (identity, is_locked)


@pytest.mark.parametrize(
    ("table", "more", "words"),
    [
        (ARCHIVE, {"urls": []}, "urls: needed by kind = 'archive'"),
        (ARCHIVE, {"urls": ["ftp://h/a"]}, "expected http"),
        (ARCHIVE, {"strip": -1}, "strip: expected a number from 0"),
        (ARCHIVE, {"sha256": "a" * 64}, "sha256, published_by: one needs the other"),
        (GIT, {"commit": "main"}, "commit: expected"),
        (GIT, {"url": "--upload-pack=x"}, "url: expected"),
        (GIT, {"url": "ext::sh -c x"}, "url: expected"),
        (GIT, {"path": "x"}, "path: not known to kind = 'git'"),
        (FOLDER, {"path": ""}, "path: needed by kind = 'folder'"),
    ],
)
def test_what_a_source_may_not_say(table: dict[str, Any], more: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        build(table, **more)
    assert words in f"{caught.value}"


@pytest.mark.parametrize("url", ["git@h.org:a/b.git", "ssh://me@h/a", "file:///srv/a", "https://h:8/a.git"])
def test_addresses_of_repositories(url: str) -> None:
    assert isinstance(build(GIT, url=url), GitTree)


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    """A repository whose branch has left its first commit behind."""
    made = GitRepository(tmp_path / "made")
    (made.top / "run").write_text("#!/bin/sh\n")
    (made.top / "run").chmod(0o755)
    made.commit({"Makefile": "obj-m := a.o\n"})
    made.git("tag", "first")
    made.commit({"Makefile": "obj-m := b.o\n"})
    return made


def test_a_commit_is_locked_fetched_and_unpacked(repository: GitRepository, tmp_path: Path) -> None:
    made = GitTree(url=repository.url, commit=repository.git("rev-parse", "first"))
    cache = tmp_path / "cache"
    scratch = tmp_path / "cache/scratch"
    scratch.mkdir(parents=True)
    (entry,) = made.pin("1", cache, scratch)
    assert entry.is_cached_in(cache)
    assert (entry.name, entry.origin) == (f"made-{made.commit}.tar", made.identity("1"))
    made.unpack((entry,), cache, tmp_path / "tree")
    assert (tmp_path / "tree/Makefile").read_text() == "obj-m := a.o\n"
    assert (tmp_path / "tree/run").stat().st_mode & 0o777 == 0o755
    assert not (tmp_path / "tree/.git").exists()

    entry.cached_in(cache).unlink()
    with pytest.raises(UserError, match="is not in the cache, and offline=1 forbids"):
        made.fetch("1", (entry,), cache, offline=True)
    # What a user has set changes no byte.
    subprocess.run(["git", "config", "--global", "tar.umask", "0077"], check=True)
    made.fetch("1", (entry,), cache, offline=False)
    assert entry.is_cached_in(cache)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_a_commit_that_is_not_there(repository: GitRepository, tmp_path: Path) -> None:
    made = GitTree(url=repository.url, commit="1" * 40)
    with pytest.raises(UserError, match=f"has no commit {'1' * 40}"):
        made.pin("1", tmp_path, tmp_path)


def test_a_commit_with_other_bytes_than_the_locked_ones(repository: GitRepository, tmp_path: Path) -> None:
    made = GitTree(url=repository.url, commit=repository.git("rev-parse", "main"))
    other = OriginFile(made.identity("1"), made.file_name, "0" * 64, 5)
    with pytest.raises(WrongSha256):
        made.fetch("1", (other,), tmp_path / "cache", offline=False)


def test_a_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHECKOUT, "root", tmp_path)
    top = tmp_path / "src"
    (top / ".git").mkdir(parents=True)
    (top / ".git/config").touch()
    (top / "sub").mkdir()
    (top / "sub/a.c").write_text("int a;\n")
    (top / "b.c").symlink_to("sub/a.c")
    made = FolderTree(path="src")
    assert made.folder() == top
    assert files_of(top) == [top / "sub/a.c"]
    assert made.pin("1", tmp_path, tmp_path) == ()
    made.fetch("1", (), tmp_path, offline=True)
    made.unpack((), tmp_path, tmp_path / "tree")
    assert sorted(path.name for path in (tmp_path / "tree").rglob("*")) == ["a.c", "b.c", "sub"]
    assert (tmp_path / "tree/b.c").is_symlink()
    with pytest.raises(UserError, match="none is not a folder"):
        FolderTree(path="none").unpack((), tmp_path, tmp_path / "other")
    assert files_of(tmp_path / "none") == []
