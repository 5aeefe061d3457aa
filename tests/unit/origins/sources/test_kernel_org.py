# SPDX-License-Identifier: MIT
"""kernel.org's archive as a source: its path, its hash, and what a mirror must serve."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import inputs
from tasks.config.settings import Settings
from tasks.origins import mirrors
from tasks.origins.lock import Lock, LockedFile
from tasks.origins.published import Published
from tasks.origins.sources.base import Access, Material
from tasks.origins.sources.kernel_org import KernelOrgSource
from tasks.util.errors import UserError
from tests.support.mirror import Mirror, Page

PATH = "v5.x/linux-5.4.3.tar.xz"
TAR = b"a kernel's source"
SHA256 = hashlib.sha256(TAR).hexdigest()
ENTRY = LockedFile(PATH, SHA256, "sha256", ("A",))


@pytest.fixture
def access(make_settings: Callable[..., Settings]) -> Access:
    known = Published(PATH, ("A",), sha256=SHA256)
    return replace(inputs.access(make_settings()), published={PATH: known})


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("NO_PROXY", "*")
    with Mirror() as running:
        running.pages[PATH] = Page(TAR)
        yield running


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ("5.4.3", PATH),
        ("6.12.11", "v6.x/linux-6.12.11.tar.xz"),
        ("6.12", "v6.x/linux-6.12.tar.xz"),
        ("6.12.0", "v6.x/linux-6.12.tar.xz"),
    ],
)
def test_each_version_has_its_path(version: str, path: str, access: Access) -> None:
    source = KernelOrgSource(version=version)
    assert source.path == source.published_path() == path
    assert source.mirror_path() == ""
    assert source.servers(access).urls == mirrors.known().kernel_org
    assert all(url.startswith("https://") for url in source.servers(access).urls)


@pytest.mark.parametrize("version", ["", "5", "5.4.x", "../5.4.3", "5.4.3-rc1"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match="version: "):
        KernelOrgSource(version=version)


def test_it_is_locked_by_the_published_sha256_and_fetched_by_the_lock(
    access: Access, mirror: Mirror, tmp_path: Path
) -> None:
    source = KernelOrgSource(version="5.4.3", mirror=mirror.url)
    with pytest.raises(UserError, match=f"no sha256 is locked for {PATH}"):
        source.pinned_in(Lock(), access)
    assert source.pin(access, tmp_path / "scratch") == ENTRY
    lock = Lock(file=(ENTRY,))
    assert source.pinned_in(lock, access) == ENTRY
    elsewhere = replace(access, cache=tmp_path / "elsewhere")
    assert source.material(lock, elsewhere.cache) == Material(
        "mirror", PATH, SHA256, 0, f"kernel.org: {PATH}"
    )
    source.fetch(ENTRY, elsewhere)
    assert source.material(lock, elsewhere.cache) == (
        Material("mirror", PATH, SHA256, len(TAR), f"kernel.org: {PATH}")
    )


def test_another_archive_is_refused(access: Access, mirror: Mirror, tmp_path: Path) -> None:
    mirror.pages[PATH] = Page(b"another source")
    with pytest.raises(UserError, match="whose sha256 is published by A"):
        KernelOrgSource(version="5.4.3", mirror=mirror.url).pin(access, tmp_path / "scratch")


def test_a_mirror_redirects_where_the_profile_lets_it(access: Access, mirror: Mirror, tmp_path: Path) -> None:
    mirror.pages[PATH] = Page(location=f"{mirror.url.replace('127.0.0.1', 'localhost')}/elsewhere")
    mirror.pages["elsewhere"] = Page(TAR)
    source = KernelOrgSource(version="5.4.3", mirror=mirror.url)
    with pytest.raises(UserError, match="redirected to another host") as caught:
        source.pin(access, tmp_path / "scratch")
    assert "list the host it redirects to under `redirects`" in caught.value.hint
    listed = replace(access, mirrors=replace(access.mirrors, redirects=("localhost",)))
    assert source.pin(listed, tmp_path / "scratch") == ENTRY
