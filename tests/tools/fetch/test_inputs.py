# SPDX-License-Identifier: MIT
"""The fetch stage of a profile that takes packages from a suite, with the real apt and dpkg-deb."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import kernel_source
from tasks.config.inputs import package_files, used_lock
from tasks.config.profile import Boot, Kernel, Profile
from tasks.config.settings import Paths, Settings
from tasks.config.sources import Core
from tasks.fetch import inputs, stage_inputs
from tasks.kernel import source_tree
from tasks.origins import suite
from tasks.origins.lock import Lock, LockedPackage, load_lock
from tasks.origins.sources.apt import AptSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import sha256_file
from tests.support.repository import SUITE, Repository, serving
from tests.support.settings import with_values
from tests.support.workshop import INFO


def kernel_tar() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as tar:
        for name in ("Makefile", "Kconfig", "arch/x86/Kbuild"):
            tar.addfile(tarfile.TarInfo(f"linux-source-6.1/{name}"))
    return packed.getvalue()


KERNEL_FILES = {"usr/src/linux-source-6.1.tar.xz": kernel_tar(), "usr/share/doc/linux-source-6.1/README": b""}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    with serving(tmp_path / "apt", monkeypatch) as made:
        yield made


@pytest.fixture
def settings(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(CHECKOUT, "profiles", tmp_path / "profiles")
    (tmp_path / "profiles").mkdir()
    repository.add("linux-source-6.1", "6.1.1-1", KERNEL_FILES)
    repository.add("busybox", "1:1")
    repository.add("attr", "1")
    repository.publish()
    monkeypatch.setattr(CHECKOUT, "extensions", tmp_path / "extensions")
    for name, packages in {"tool": '"attr"', "more": '"attr", "busybox"'}.items():
        write_recipe(name, packages)
    mine = Profile(
        description="made up",
        source_date_epoch=1,
        kernel=Kernel(AptSource(package="linux-source-[0-9]*"), "base.config", "allnoconfig", ()),
        core=Core(packages=("busybox",)),
        boot=Boot(()),
        suite=SUITE,
    )
    return Settings(
        Paths("mine", tmp_path / "out", tmp_path / "cache"),
        replace(mine, kernel=replace(mine.kernel, fragments=())),
    )


def test_fetch_then_unpack(settings: Settings, repository: Repository) -> None:
    inputs.fetch(settings, {"tool": ("attr",)})
    stage_inputs.fetch_packages(settings)
    assert list(package_files(settings.paths, settings.paths.extension_lock("tool"), ["attr"])) == ["attr"]
    source_tree.unpack_linux(settings)
    assert (settings.paths.linux / "arch/x86/Kbuild").is_file()
    assert repository.mirror.url not in settings.paths.used_lock.read_text()
    assert not settings.paths.pinned_lock.exists()
    assert {path.name for path in settings.paths.output.iterdir()} == {"lock.toml", "locks", "linux"}


def test_lock_pins_the_newest_and_frozen_keeps_it(
    settings: Settings, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs.lock(settings)
    inputs.fetch(settings)
    first = settings.paths.pinned_lock.read_bytes()
    assert first == settings.paths.used_lock.read_bytes()
    repository.add("linux-source-6.2", "6.2.1-1")
    repository.add("busybox", "1:2")
    repository.publish()
    inputs.fetch(settings)
    assert settings.paths.used_lock.read_bytes() == first
    capsys.readouterr()
    inputs.lock(settings)
    said = capsys.readouterr().out
    assert "lock: busybox 1:1 -> 1:2\n" in said
    assert "lock: linux-source-6.2 (new) -> 6.2.1-1\n" in said
    inputs.fetch(settings)
    versions = {package.name: package.version for package in used_lock(settings.paths).package}
    assert versions == {"busybox": "1:2", "linux-source-6.2": "6.2.1-1"}
    inputs.fetch(with_values(settings, frozen=True, offline=True))


def test_a_locked_package_that_is_gone_ends_the_run_unless_newest_is_said(
    settings: Settings, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    """Debian drops linux-source-6.11 for linux-source-6.12: another package, not another version."""
    inputs.lock(settings)
    before = load_lock(settings.paths.pinned_lock)
    settings = with_values(settings, cache=settings.paths.cache / "empty")
    for package in before.package:
        repository.withdraw(package)
    repository.add("linux-source-6.2", "6.2.1-1", KERNEL_FILES)
    repository.add("busybox", "1:2")
    repository.publish()
    with pytest.raises(UserError, match=r"has any more: busybox 1:1, linux-source-6\.1 6\.1\.1-1") as caught:
        inputs.fetch(settings)
    assert "newest=1" in caught.value.hint and "./doit lock" in caught.value.hint
    assert not settings.paths.used_lock.exists()
    with pytest.raises(UserError, match="has any more: busybox 1:1"):
        inputs.fetch(with_values(settings, newest=True, frozen=True))
    capsys.readouterr()
    inputs.fetch(with_values(settings, newest=True))
    said = capsys.readouterr().out
    assert "busybox: 1:1 -> 1:2 (it has left the mirrors)\n" in said
    assert "linux-source-6.1 6.1.1-1 has left the mirrors, and is replaced by others\n" in said
    used = used_lock(settings.paths).package
    assert {package.name for package in used} == {"busybox", "linux-source-6.2"}
    assert load_lock(settings.paths.pinned_lock) == before
    # The record of that fetch can be repeated offline.
    inputs.fetch(with_values(settings, offline=True))
    assert used_lock(settings.paths).package == used


@pytest.mark.parametrize("case", ["search for libraries", "shared cache"])
def test_newest_counts_wherever_packages_are_downloaded(
    settings: Settings, repository: Repository, case: str
) -> None:
    """The search for the libraries of a user that is not locked yet downloads locked packages."""
    inputs.lock(settings)
    shared = "/no/such/folder" if case == "shared cache" else ""
    settings = with_values(settings, cache=settings.paths.cache / "empty", shared_cache=shared)
    for package in load_lock(settings.paths.pinned_lock).package:
        repository.withdraw(package)
    repository.add("busybox", "1:2")
    repository.add("linux-source-6.2", "6.2.1-1", KERNEL_FILES)
    repository.publish()
    more = {} if shared else {"more": ("attr", "busybox")}
    if not shared:
        with pytest.raises(UserError, match="has any more: busybox 1:1") as caught:
            inputs.fetch(settings, more)
        assert "./doit lock profile=mine" in caught.value.hint
    inputs.fetch(with_values(settings, newest=True), more)
    versions = {package.name: package.version for package in used_lock(settings.paths).package}
    assert versions["busybox"] == "1:2" and versions["linux-source-6.2"] == "6.2.1-1"


def test_newest_never_takes_an_older_one(settings: Settings, repository: Repository) -> None:
    inputs.lock(settings)
    locked = next(one for one in load_lock(settings.paths.pinned_lock).package if one.name == "busybox")
    settings = with_values(settings, cache=settings.paths.cache / "empty", newest=True)
    repository.withdraw(locked)
    repository.add("busybox", "9")  # without an epoch
    repository.publish()
    with pytest.raises(UserError, match="busybox: the suite has 9, which is older than the locked 1:1"):
        inputs.fetch(settings)


def test_a_locked_package_that_is_gone_comes_from_the_snapshot_of_the_lock(
    settings: Settings, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs.lock(settings)
    before = load_lock(settings.paths.pinned_lock)
    settings = with_values(settings, cache=settings.paths.cache / "empty")
    for package in before.package:
        repository.withdraw(package, snapshot=True)
    repository.add("busybox", "1:2")
    repository.publish()
    monkeypatch.setattr(suite, "run", lambda argv, **_: pytest.fail(f"{argv} was run"))
    inputs.fetch(with_values(settings, frozen=True))
    assert used_lock(settings.paths) == before
    source_tree.unpack_linux(settings)
    assert (settings.paths.linux / "arch/x86/Kbuild").is_file()


@pytest.mark.parametrize("what", ["package", "pattern"])
def test_lock_goes_back_only_when_told(settings: Settings, repository: Repository, what: str) -> None:
    newer = {
        "package": LockedPackage("busybox", "1:9", "0" * 64),
        "pattern": LockedPackage("linux-source-6.9", "6.9.1-1", "0" * 64),
    }[what]
    settings.paths.pinned_lock.write_text(Lock((newer,)).to_toml())
    before = settings.paths.pinned_lock.read_bytes()
    with pytest.raises(UserError, match=f"which is older than the locked {newer.version}") as caught:
        inputs.lock(settings)
    assert "relock=1" in caught.value.hint
    assert settings.paths.pinned_lock.read_bytes() == before
    inputs.lock(with_values(settings, relock=True))
    versions = {package.name: package.version for package in load_lock(settings.paths.pinned_lock).package}
    assert versions == {"busybox": "1:1", "linux-source-6.1": "6.1.1-1"}


def test_deb_without_a_kernel_archive(settings: Settings, repository: Repository) -> None:
    repository.add("linux-source-6.3", "6.3-1", {"usr/src/README": b""})
    repository.publish()
    inputs.fetch(settings)
    with pytest.raises(UserError, match=r"linux-source-6\.3_6\.3-1\.deb holds 0 archives"):
        source_tree.unpack_linux(settings)
    assert [path.name for path in settings.paths.output.iterdir() if path.is_file()] == ["lock.toml"]


def write_recipe(name: str, packages: str) -> None:
    """Write a recipe that takes the files of `packages`."""
    (CHECKOUT.extensions / name).mkdir(parents=True)
    origin = f'[[origin]]\nkind = "apt"\npackages = [{packages}]\n'
    (CHECKOUT.extensions / name / "recipe.toml").write_text(INFO + origin)


def test_each_user_of_the_lock_has_a_part_of_its_own(settings: Settings) -> None:
    core = replace(settings.profile.core, rootfs=True)
    settings = replace(settings, profile=replace(settings.profile, core=core))
    packages = {"tool": ("attr",), "bare": ()}
    inputs.fetch(settings, packages)
    folder = settings.paths.output / "locks"
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.toml")}
    names = {name: [package.name for package in load_lock(path).package] for name, path in found.items()}
    assert names == {
        "linux.toml": ["linux-source-6.1"],
        "rootfs.toml": ["busybox"],
        "tcz/tool.toml": ["attr"],
    }
    before = {name: path.stat().st_mtime_ns for name, path in found.items()}
    inputs.fetch(settings, {**packages, "more": ("attr", "busybox")})
    assert {name: path.stat().st_mtime_ns for name, path in found.items()} == before
    assert [package.name for package in used_lock(settings.paths).package] == [
        "attr",
        "busybox",
        "linux-source-6.1",
    ]


def test_a_package_that_apt_does_not_offer_is_named_with_the_recipe(
    settings: Settings, tmp_path: Path
) -> None:
    write_recipe("htop", '"htpo"')
    recipe_file = tmp_path / "extensions/htop/recipe.toml"
    for ask in (inputs.fetch, inputs.lock):
        with pytest.raises(UserError, match=f"^{recipe_file}: debian bookworm has no package htpo\n"):
            ask(settings, {"tool": ("attr",), "htop": ("htpo",)})
    with pytest.raises(UserError, match=f"^{recipe_file}: debian bookworm has no package htpo\n"):
        inputs.fetch_packages_of(settings, "htop")
    core = replace(settings.profile.core, packages=("busybocks",))
    wrong = replace(settings, profile=replace(settings.profile, core=core))
    with pytest.raises(UserError, match=r"mine\.toml: debian bookworm has no package busybocks\n"):
        inputs.fetch(wrong)


def test_a_recipe_that_the_profile_does_not_use_brings_its_own_packages(
    settings: Settings, repository: Repository
) -> None:
    inputs.fetch(settings)
    used = settings.paths.used_lock.read_bytes()
    inputs.fetch_packages_of(settings, "tool")
    part = settings.paths.extension_lock("tool")
    assert list(package_files(settings.paths, part, ["attr"])) == ["attr"]
    assert settings.paths.used_lock.read_bytes() == used
    # What the profile pins is taken, whatever is newer.
    inputs.lock(settings, {"tool": ("attr",)})
    repository.add("attr", "2")
    repository.publish()
    inputs.fetch_packages_of(settings, "tool")
    assert [package.version for package in load_lock(part).package] == ["1"]


def fetched(settings: Settings) -> set[str]:
    return {path.name for path in settings.paths.cache.rglob("*.deb")}


def test_with_a_shared_cache_only_what_is_asked_for_is_fetched(
    settings: Settings, repository: Repository
) -> None:
    inputs.lock(settings, {"tool": ("attr",)})
    inputs.fetch(settings, {"tool": ("attr",)})
    lock = settings.paths.used_lock.read_bytes()
    settings = with_values(settings, cache=settings.paths.cache / "empty", shared_cache="/no/such/folder")
    settings.paths.used_lock.unlink()
    inputs.fetch(settings, {"tool": ("attr",)})
    assert (settings.paths.used_lock.read_bytes(), fetched(settings)) == (lock, set())
    stage_inputs.fetch_packages(settings)
    assert fetched(settings) == {"attr_1.deb", "busybox_1%3a1.deb"}, "not the kernel's source"
    stage_inputs.fetch_kernel_source(settings)
    source_tree.unpack_linux(settings)
    assert (settings.paths.linux / "arch/x86/Kbuild").is_file()
    assert (settings.paths.linux / ".tcbuild/source").read_text() == kernel_source.identity(
        settings.paths, settings.profile
    )


def test_where_something_is_not_locked_all_is_fetched_at_once_in_spite_of_a_shared_cache(
    settings: Settings, repository: Repository
) -> None:
    inputs.lock(settings)
    settings = with_values(settings, cache=settings.paths.cache / "empty", shared_cache="/no/such/folder")
    inputs.fetch(settings, {"tool": ("attr",)})
    assert fetched(settings) == {"attr_1.deb", "busybox_1%3a1.deb", "linux-source-6.1_6.1.1-1.deb"}
    names = [package.name for package in used_lock(settings.paths).package]
    assert names == ["attr", "busybox", "linux-source-6.1"]


def test_what_was_put_off_and_is_gone_or_damaged(settings: Settings, repository: Repository) -> None:
    settings = replace(settings, profile=replace(settings.profile, core=Core(("busybox",), rootfs=True)))
    inputs.lock(settings)
    locked = load_lock(settings.paths.pinned_lock)
    settings = with_values(settings, cache=settings.paths.cache / "empty", shared_cache="/no/such/folder")
    inputs.fetch(settings)
    with pytest.raises(UserError, match="offline=1 forbids to fetch: busybox"):
        stage_inputs.fetch_core_packages(with_values(settings, offline=True))
    deb = locked.package[0].cached_in(settings.paths.cache)
    deb.parent.mkdir(parents=True)
    deb.write_bytes(b"damaged")
    stage_inputs.fetch_core_packages(settings)
    assert sha256_file(deb) == locked.package[0].sha256
    kernel = next(package for package in locked.package if package.name == "linux-source-6.1")
    repository.withdraw(kernel)
    with pytest.raises(suite.Gone, match=r"has any more: linux-source-6\.1 6\.1\.1-1"):
        stage_inputs.fetch_kernel_source(settings)
