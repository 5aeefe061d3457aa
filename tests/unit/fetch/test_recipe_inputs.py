# SPDX-License-Identifier: MIT
"""`./doit lock:NAME` and `./doit fetch:NAME` against a mirror, sound and broken."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tasks.config import recipe_lock
from tasks.config.profile import Extension
from tasks.config.settings import Settings
from tasks.fetch import recipe_inputs
from tasks.origins import http
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.mirror import Mirror, Page, forbid_sockets
from tests.support.settings import with_values

CONTENT = b"what upstream released"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()


@dataclass
class Project:
    """A recipe `tool` whose alternatives `new` (tool-2) and `old` (tool-1) are below a mirror."""

    mirror: Mirror
    settings: Settings
    folder: Path

    def write(self, more: str = "", checksums: bool = True, second: str = "") -> None:
        origins = ""
        for name, version in (("new", "2"), ("old", "1")):
            urls = [f"{self.mirror.url}/v{{version}}/tool-{{version}}", *([second] if second else [])]
            origins += f'[[origin]]\nkind = "archive"\nalternative = "{name}"\nversion = "{version}"\n'
            origins += f"urls = {urls}\nmode = 0o755\n"
            if checksums:
                origins += f'checksums = "{self.mirror.url}/v{{version}}/SHA256SUMS"\n'
        path = self.folder / "extensions/tool/recipe.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'[info]\ntitle = "t"\ndescription = "d"\n{origins}{more}')

    def serve(self, version: str = "2", content: bytes = CONTENT, published: str = "") -> None:
        self.mirror.pages[f"v{version}/tool-{version}"] = Page(content)
        digest = published or hashlib.sha256(content).hexdigest()
        text = f"{OTHER}  tool-9\n{digest} *bin/tool-{version}\n"
        self.mirror.pages[f"v{version}/SHA256SUMS"] = Page(text.encode())

    def identity(self, version: str = "2") -> str:
        return f"{self.mirror.url}/v{version}/tool-{version}"

    @property
    def locked(self) -> dict[str, str]:
        return {file.origin: file.sha256 for file in recipe_lock.committed_lock("tool").file}

    def lock(self, *wanted: str, relock: bool = False) -> None:
        recipe_inputs.lock(with_values(self.settings, relock=relock), "tool", wanted)

    def fetch(self, offline: bool = False) -> Path:
        """Fetch, and return the file in the cache that was used."""
        recipe_inputs.fetch(with_values(self.settings, offline=offline), "tool")
        (file,) = recipe_lock.used_lock(self.settings.paths, "tool").file
        return file.cached_in(self.settings.paths.cache)


@pytest.fixture
def project(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(http, "DELAYS", (0.0,))
    defaults = {**(http.download.__kwdefaults__ or {}), "delays": (0.0,), "timeout": (2.0, 1.0)}
    monkeypatch.setattr(http.download, "__kwdefaults__", defaults)
    monkeypatch.setattr(CHECKOUT, "extensions", tmp_path / "extensions")
    with Mirror() as mirror:
        settings = make_settings()
        settings = replace(settings, profile=replace(settings.profile, extensions=()))
        made = Project(mirror, settings, tmp_path)
        made.write()
        made.serve()
        yield made


def test_lock_learns_shows_and_pins_what_fetch_then_brings(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.lock()
    said = capsys.readouterr().out
    assert f"{project.identity()}  22 bytes  as published  sha256 {SHA256}" in said
    assert "lock.toml; check it, then commit it" in said
    assert project.locked == {project.identity(): SHA256}
    asked = len(project.mirror.requests)
    assert project.fetch().read_bytes() == CONTENT  # what lock brought
    assert len(project.mirror.requests) == asked
    project.fetch().unlink()
    assert project.fetch().read_bytes() == CONTENT
    assert len(project.mirror.requests) == asked + 1
    assert not list(project.settings.paths.cache.rglob("*.part*"))


def test_no_checksum_published_is_said(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.write(checksums=False)
    project.lock()
    assert "no checksum published" in capsys.readouterr().out
    assert project.locked == {project.identity(): SHA256}


def test_what_is_not_locked_is_refused_before_anything_is_asked(project: Project) -> None:
    with pytest.raises(
        UserError, match=r"no sha256 is locked for .*/v2/tool-2, which extension tool"
    ) as caught:
        project.fetch()
    assert caught.value.hint.startswith("./doit lock:tool new fetches it once")
    assert project.mirror.requests == []
    assert not project.settings.paths.output.exists()


def test_an_image_is_called_one(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHECKOUT, "images", project.folder / "extensions")
    path = project.folder / "extensions/tool/recipe.toml"
    path.write_text(path.read_text() + '[image]\nname = "localhost/tool:1"\n')
    name = "images/tool"
    with pytest.raises(UserError, match="which image tool needs"):
        recipe_inputs.fetch(project.settings, name)
    project.serve(published=OTHER)
    with pytest.raises(UserError, match=r"^image tool: tool-2 could not be checked"):
        recipe_inputs.lock(project.settings, name)


def test_a_file_that_is_not_as_published_is_not_pinned(project: Project) -> None:
    project.serve(published=OTHER)
    with pytest.raises(UserError, match=f"extension tool: tool-2 could not be checked.*{SHA256}.*{OTHER}"):
        project.lock()
    assert project.locked == {}
    assert not [path for path in project.settings.paths.cache.rglob("*") if path.is_file()]


def test_the_next_url_is_taken_for_a_file_that_is_not_as_published(project: Project) -> None:
    project.write(second=f"{project.mirror.url}/second/tool-2")
    project.serve()
    project.mirror.pages["v2/tool-2"] = Page(b"damaged")
    project.mirror.pages["second/tool-2"] = Page(CONTENT)
    project.lock()
    assert project.locked == {project.identity(): SHA256}


def test_urls_are_tried_in_order(project: Project) -> None:
    project.write(second=f"{project.mirror.url}/second/tool-2")
    project.lock()
    project.fetch().unlink()
    project.mirror.pages["second/tool-2"] = Page(CONTENT)
    project.mirror.pages["v2/tool-2"] = Page(status=503)
    project.mirror.requests.clear()
    assert project.fetch().read_bytes() == CONTENT
    assert [request.path for request in project.mirror.requests] == ["v2/tool-2", "second/tool-2"]


def test_a_checksum_file_that_is_gone_is_an_error(project: Project) -> None:
    del project.mirror.pages["v2/SHA256SUMS"]
    with pytest.raises(UserError, match="v2/SHA256SUMS does not exist") as caught:
        project.lock()
    assert caught.value.hint == "correct `checksums` in the recipe, or leave it out"
    assert project.locked == {}


def test_a_locked_hash_stays_until_relock_says_otherwise(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.lock()
    project.fetch().unlink()
    project.serve(content=b"another")
    project.lock()
    assert "is locked already" in capsys.readouterr().out
    assert project.locked == {project.identity(): SHA256}
    with pytest.raises(UserError, match=f"expected {SHA256}, got {OTHER}") as caught:
        project.fetch()
    assert "find out why" in caught.value.hint
    assert "./doit lock:tool relock=1" in caught.value.hint
    assert not [path for path in project.settings.paths.cache.rglob("tool-2") if path.is_file()]
    project.lock(relock=True)
    assert f"tool-2 changed: sha256 {SHA256} -> {OTHER}" in capsys.readouterr().out
    assert project.locked == {project.identity(): OTHER}
    assert project.fetch().read_bytes() == b"another"


def test_a_lock_that_cannot_be_read_is_written_anew_by_relock_alone(project: Project) -> None:
    """It may have to be restored: it had hashes that are not to change."""
    project.serve()
    path = recipe_lock.path("tool")
    path.write_text("<<<<<<< HEAD\n")
    for refused in (project.fetch, project.lock):
        with pytest.raises(UserError, match=r"lock\.toml: ") as caught:
            refused()
        assert caught.value.hint == "restore it, or write it anew: ./doit lock:tool relock=1"
    assert path.read_text() == "<<<<<<< HEAD\n"
    project.lock(relock=True)
    assert project.locked == {project.identity(): SHA256}


def test_fetch_never_relocks(project: Project) -> None:
    project.lock()
    with pytest.raises(UserError, match="fetch never does") as caught:
        recipe_inputs.fetch(with_values(project.settings, relock=True), "tool")
    assert caught.value.hint == "./doit lock:tool relock=1"


def test_lock_is_of_one_alternative_and_keeps_the_others(project: Project) -> None:
    project.lock()
    project.serve("1", b"another")
    project.lock("old")
    assert project.locked == {project.identity(): SHA256, project.identity("1"): OTHER}
    old = (Extension("tool", alternative="old"),)
    project.settings = replace(project.settings, profile=replace(project.settings.profile, extensions=old))
    assert project.fetch().read_bytes() == b"another"
    with pytest.raises(UserError, match="tool has no alternative 'odd'") as caught:
        project.lock("odd")
    assert caught.value.hint == "it has: new, old"


def test_what_the_recipe_has_no_more_leaves_the_lock(project: Project) -> None:
    project.lock()
    path = project.folder / "extensions/tool/recipe.toml"
    path.write_text(path.read_text().replace('version = "2"', 'version = "3"'))
    with pytest.raises(UserError, match=r"no sha256 is locked for .*/v3/tool-3"):
        project.fetch()
    project.serve("3")
    project.lock()
    assert list(project.locked) == [project.identity("3")]


def test_one_failure_pins_nothing(project: Project) -> None:
    more = f'[[origin]]\nkind = "archive"\nversion = "5"\nurls = ["{project.mirror.url}/gone"]\n'
    project.write(more)
    with pytest.raises(UserError, match=r"extension tool: gone could not be downloaded: .*404") as caught:
        project.lock()
    assert caught.value.hint == "check the urls in extensions/tool/recipe.toml"
    assert not recipe_lock.path("tool").exists()


def test_offline_works_from_the_cache_alone(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.lock()
    with monkeypatch.context() as without:
        forbid_sockets(without)
        kept = project.fetch(offline=True)
        kept.write_bytes(b"damaged")
        with pytest.raises(UserError, match="tool-2 in the cache is damaged, and offline=1 forbids"):
            project.fetch(offline=True)
        kept.unlink()
        with pytest.raises(UserError, match="tool-2 is not in the cache, and offline=1 forbids"):
            project.fetch(offline=True)
        with pytest.raises(UserError, match="lock uses the network"):
            recipe_inputs.lock(with_values(project.settings, offline=True), "tool")


def test_whether_all_is_still_in_the_cache(project: Project) -> None:
    project.lock()
    kept = project.fetch()
    assert recipe_lock.is_cached(project.settings.paths, "tool")
    kept.unlink()
    assert not recipe_lock.is_cached(project.settings.paths, "tool")
    assert project.fetch() == kept
    recipe_lock.used_path(project.settings.paths, "tool").write_text("damaged")
    assert not recipe_lock.is_cached(project.settings.paths, "tool")


@pytest.mark.parametrize("lost", [lambda path: path.unlink(), lambda path: path.write_bytes(b"damaged")])
def test_what_the_cache_has_lost_is_fetched_again_before_a_build(
    project: Project, lost: Callable[[Path], None]
) -> None:
    project.lock()
    kept = project.fetch()
    content = kept.read_bytes()
    project.mirror.requests.clear()
    recipe_inputs.fetch_missing(project.settings, "tool")
    assert project.mirror.requests == []
    lost(kept)
    with pytest.raises(UserError, match=r"^extension tool: .*, and offline=1 forbids to fetch it"):
        recipe_inputs.fetch_missing(with_values(project.settings, offline=True), "tool")
    recipe_inputs.fetch_missing(project.settings, "tool")
    assert kept.read_bytes() == content


def test_what_was_never_fetched_is_not_brought(project: Project) -> None:
    project.lock()
    with pytest.raises(UserError, match="was not fetched yet") as caught:
        recipe_inputs.fetch_missing(project.settings, "tool")
    assert caught.value.hint == "./doit fetch:tool"


def test_a_lock_is_written_into_the_tree_of_the_recipe_alone(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    monkeypatch.setattr(CHECKOUT, "trees", (tree,))
    with pytest.raises(UserError, match="the recipe of extension tool is no tree's, and its lock is not"):
        project.lock()
    (tree / "extensions").mkdir(parents=True)
    shutil.copytree(project.folder / "extensions/tool", tree / "extensions/tool")
    project.lock()
    assert project.locked == {project.identity(): SHA256}
    assert (tree / "extensions/tool/lock.toml").is_file()
    assert not (project.folder / "extensions/tool/lock.toml").exists()
