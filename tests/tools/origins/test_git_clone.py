# SPDX-License-Identifier: MIT
"""Clones in the cache: what is pinned, what is fetched again, and whose signature counts; the real git."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.origins import git_clone
from tasks.origins.git_clone import Clone
from tasks.origins.lock import LockedCommit
from tasks.util.errors import UserError
from tests.support.gitrepo import GitRepository, daemon, public_key
from tests.support.mirror import Mirror, Page


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    """With three commits: v1, v2 (an annotated tag) and the branch main."""
    made = GitRepository(tmp_path / "linux")
    made.commit({"Makefile": "1\n", "gone": "1\n", "a/b.c": "1\n"})
    made.git("tag", "v1")
    made.commit({"a/b.c": "2\n", "gone": None})
    made.git("tag", "-a", "-m", "two", "v2")
    made.commit({"a/b.c": "3\n"})
    return made


@pytest.fixture
def clone(repository: GitRepository, tmp_path: Path) -> Clone:
    return git_clone.of(tmp_path / "cache", repository.url)


def files(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in found}


def commits(clone: Clone) -> int:
    return int(clone.text("rev-list", "--all", "--count"))


@pytest.mark.parametrize(
    ("ref", "content"),
    [("v1", "1\n"), ("v2", "2\n"), ("main", "3\n"), ("refs/heads/main", "3\n"), ("", "1\n")],
)
def test_a_ref_is_pinned_without_its_history(
    clone: Clone, repository: GitRepository, tmp_path: Path, ref: str, content: str
) -> None:
    ref = ref or repository.git("rev-parse", "v1")
    entry = clone.pin(ref)
    assert entry.commit == repository.git("rev-parse", f"{ref}^{{commit}}")
    assert entry.tree == repository.git("rev-parse", f"{ref}^{{tree}}")
    assert commits(clone) == 1
    clone.export(entry.tree, tmp_path)
    assert (tmp_path / "a/b.c").read_text() == content
    assert not (tmp_path / ".git").exists()


def test_what_differs_between_two_commits_is_written_alone(
    clone: Clone, repository: GitRepository, tmp_path: Path
) -> None:
    old, new = clone.pin("v1"), clone.pin("v2")
    assert clone.differing(old.tree, new.tree) == {"a/b.c": True, "gone": False}
    into = tmp_path / "tree"
    into.mkdir()
    clone.export(old.tree, into)
    before = (into / "Makefile").stat().st_mtime_ns
    clone.export(new.tree, into, ["a/b.c"])
    assert files(into) == {"Makefile": "1\n", "gone": "1\n", "a/b.c": "2\n"}
    assert (into / "Makefile").stat().st_mtime_ns == before


def test_a_locked_commit_comes_back_though_the_branch_went_on(
    clone: Clone, repository: GitRepository, tmp_path: Path
) -> None:
    entry = clone.pin("main")
    repository.commit({"a/b.c": "4\n"})
    shutil.rmtree(tmp_path / "cache")
    clone.fetch(entry)
    assert clone.has(entry.commit)
    clone.export(entry.tree, tmp_path)
    assert (tmp_path / "a/b.c").read_text() == "3\n"
    assert clone.remote("main")[1] == repository.git("rev-parse", "main") != entry.commit


def test_a_commit_that_was_thrown_away_is_told(
    clone: Clone, repository: GitRepository, tmp_path: Path
) -> None:
    entry = clone.pin("main")
    shutil.rmtree(tmp_path / "cache")
    repository.git("reset", "--quiet", "--hard", "HEAD^")
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "--quiet", "--prune=now")
    with pytest.raises(UserError, match=f"has no commit {entry.commit} any more, which main was"):
        clone.fetch(entry)
    other = replace(clone.pin("v1"), tree="0" * 40)
    with pytest.raises(UserError, match=f"and {'0' * 40} is locked"):
        clone.fetch(other)


def test_the_history_comes_when_it_is_asked_for(clone: Clone, repository: GitRepository) -> None:
    entry = clone.pin("main")
    clone.complete()
    assert commits(clone) == 3
    assert clone.text("rev-list", "--count", "v1..main") == "2"
    # It stays: another pin makes nothing shallow.
    repository.commit({"a/b.c": "4\n"})
    assert clone.pin("main") != entry
    assert commits(clone) == 4


@pytest.mark.parametrize("ref", ["nosuch", "v3", "refs/tags/v9"])
def test_an_unknown_ref_is_told(clone: Clone, ref: str) -> None:
    with pytest.raises(UserError, match=f"has no tag and no branch '{ref}'"):
        clone.pin(ref)


def test_an_address_that_answers_not_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^git://\*\*\*@127\.0\.0\.1:1/x: ") as caught:
        git_clone.of(tmp_path, "git://user:word@127.0.0.1:1/x").pin("main")
    assert "word" not in str(caught.value)


def test_gits_own_protocol_and_a_plain_web_server_serve(repository: GitRepository, tmp_path: Path) -> None:
    wanted = repository.git("rev-parse", "v2^{commit}")
    with daemon(tmp_path) as address:
        entry = git_clone.of(tmp_path / "one", f"{address}/linux").pin("v2")
        assert entry.commit == wanted
        assert commits(git_clone.of(tmp_path / "one", entry.url)) == 1
    repository.git("update-server-info")
    with Mirror() as mirror, pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        top = repository.top / ".git"
        for path in top.rglob("*"):
            if path.is_file():
                mirror.pages[f"linux/{path.relative_to(top)}"] = Page(path.read_bytes())
        mirror.pages["linux/info/refs?service=git-upload-pack"] = mirror.pages["linux/info/refs"]
        assert git_clone.of(tmp_path / "two", f"{mirror.url}/linux").pin("v2").commit == wanted


@pytest.mark.parametrize("armour", [True, False])
def test_a_tag_counts_if_a_key_of_ours_signed_it(
    clone: Clone, repository: GitRepository, tmp_path: Path, armour: bool
) -> None:
    key = repository.sign_tag("v3")
    keyring = public_key(tmp_path / "keys", armour)
    spaced = " ".join(key[start : start + 4] for start in range(0, len(key), 4)).lower()
    entry = clone.pin("v3", keyring, (spaced,))
    assert entry == LockedCommit(clone.url, "v3", entry.commit, entry.tree, key)
    with pytest.raises(UserError, match="the tag v3 has no good signature of a key of `fingerprints`"):
        clone.pin("v3", keyring, ("0" * 40,))
    for ref in ("v1", "main"):
        with pytest.raises(UserError, match=f"{ref} is no signed tag, and a key is given"):
            clone.pin(ref, keyring, (key,))
    with pytest.raises(UserError, match="the tag v2 has no good signature"):
        clone.pin("v2", keyring, (key,))


def test_a_signature_for_another_text_is_refused(
    clone: Clone, repository: GitRepository, tmp_path: Path
) -> None:
    """Somebody takes a signed tag, and lets it name another commit."""
    key = repository.sign_tag("v3")
    keyring = public_key(tmp_path / "keys")
    signed = repository.git("cat-file", "tag", "v3")
    other = signed.replace(repository.git("rev-parse", "main"), repository.git("rev-parse", "v1"))
    assert other != signed
    forged = tmp_path / "forged"
    forged.write_text(f"{other}\n")
    made = repository.git("hash-object", "-t", "tag", "-w", "--literally", str(forged))
    repository.git("update-ref", "refs/tags/v4", made)
    with pytest.raises(UserError, match="the tag v4 has no good signature"):
        clone.pin("v4", keyring, (key,))
