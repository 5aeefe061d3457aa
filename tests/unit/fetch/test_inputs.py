# SPDX-License-Identifier: MIT
"""The fetch stage with a mirror, a cache and files of this machine; no apt."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.inputs import package_files, source_file, used_lock
from tasks.config.profile import Boot, Kernel, Profile
from tasks.config.settings import Paths, Settings
from tasks.config.sources import Core, Image
from tasks.fetch import inputs, stage_inputs
from tasks.kernel import source_tree
from tasks.origins import distribution, lock, suite
from tasks.origins.distribution import Suite
from tasks.origins.lock import Lock, LockedFile, LockedNeeds, LockedPackage
from tasks.origins.sources import AnySource
from tasks.origins.sources.apt import AptSource
from tasks.origins.sources.file import FileSource
from tasks.origins.sources.http import HttpSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import remove_tree
from tests.support.mirror import Mirror, Page, forbid_sockets
from tests.support.settings import with_values

KERNEL = HttpSource(path="src/linux.tar")
BASE = HttpSource(path="src/config")
CORE = HttpSource(path="release/core.gz")
CONTENTS = {"src/linux.tar": b"a kernel", "src/config": b"CONFIG_X=y\n", "release/core.gz": b"core"}


def locked(path: str) -> LockedFile:
    return LockedFile(path, hashlib.sha256(CONTENTS[path]).hexdigest())


def archive(names: list[str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    return packed.getvalue()


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("NO_PROXY", "*")
    with Mirror() as running:
        running.pages |= {path: Page(content) for path, content in CONTENTS.items()}
        yield running


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a profile `mine` that lives on mirrors, with everything in `tmp_path`."""
    monkeypatch.setattr(CHECKOUT, "profiles", tmp_path / "profiles")
    monkeypatch.setattr(CHECKOUT, "root", tmp_path)
    (tmp_path / "profiles").mkdir()
    mine = Profile(
        description="made up",
        source_date_epoch=1,
        kernel=Kernel(KERNEL, BASE, "olddefconfig", ()),
        core=Core(archives=(CORE,)),
        boot=Boot(()),
        mirrors=("http://mirror.invalid",),
    )
    return Settings(
        Paths("mine", tmp_path / "out", tmp_path / "cache"),
        replace(mine, kernel=replace(mine.kernel, fragments=())),
    )


def with_mirror(made: Settings, mirror: Mirror) -> Settings:
    return replace(made, profile=replace(made.profile, mirrors=(mirror.url + "/",)))


def with_kernel(made: Settings, source: AnySource) -> Settings:
    kernel = replace(made.profile.kernel, source=source, base="base.config")
    return replace(made, profile=replace(made.profile, kernel=kernel, core=Core()))


def pin(made: Settings, *entries: LockedPackage | LockedFile) -> Lock:
    pinned = Lock(
        tuple(entry for entry in entries if isinstance(entry, LockedPackage)),
        tuple(entry for entry in entries if isinstance(entry, LockedFile)),
        needs=(LockedNeeds("core", ("busybox",), ()), LockedNeeds("tool", ("attr",), ())),
    )
    made.paths.pinned_lock.write_text(pinned.to_toml())
    return pinned


def cache(made: Settings, entry: LockedPackage | LockedFile, content: bytes) -> Path:
    path = entry.cached_in(made.paths.cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def deb(made: Settings, name: str, version: str = "1") -> LockedPackage:
    content = f"{name} {version}".encode()
    package = LockedPackage(name, version, hashlib.sha256(content).hexdigest(), "debian", f"pool/{name}.deb")
    cache(made, package, content)
    return package


def test_every_file_is_fetched_and_recorded(made: Settings, mirror: Mirror) -> None:
    made = with_mirror(made, mirror)
    pinned = pin(made, *map(locked, CONTENTS), LockedFile("other/profile", "0" * 64))
    inputs.fetch(made)
    used = used_lock(made.paths)
    assert {file.path for file in used.file} == set(CONTENTS)
    assert set(used.file) < set(pinned.file)
    assert mirror.url not in made.paths.used_lock.read_text()
    for source in (KERNEL, BASE, CORE):
        assert source_file(made.paths, source).read_bytes() == CONTENTS[source.path]


def test_an_image_is_fetched_and_locked_like_every_file(made: Settings, mirror: Mirror) -> None:
    source = HttpSource(path="images/tool.tar")
    mirror.pages[source.path] = Page(b"an image")
    made = with_mirror(made, mirror)
    made = replace(made, profile=replace(made.profile, images=(Image("localhost/tool:1", source),)))
    pin(made, *map(locked, CONTENTS))
    with pytest.raises(UserError, match=r"no sha256 is locked for images/tool\.tar of profile mine"):
        inputs.fetch(made)
    inputs.lock(made)
    inputs.fetch(made)
    assert source_file(made.paths, source).read_bytes() == b"an image"
    mirror.pages[source.path] = Page(b"another image")
    remove_tree(made.paths.cache)
    with pytest.raises(UserError, match=r"tool\.tar: no mirror has the locked file: .* wrong sha256"):
        inputs.fetch(made)


def test_second_fetch_asks_nobody_and_rewrites_nothing(
    made: Settings, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = with_mirror(made, mirror)
    pin(made, *map(locked, CONTENTS))
    inputs.fetch(made)
    before = made.paths.used_lock.stat()
    forbid_sockets(monkeypatch)
    inputs.fetch(made)
    inputs.fetch(with_values(made, offline=True, frozen=True))
    assert made.paths.used_lock.stat().st_mtime_ns == before.st_mtime_ns
    assert made.paths.used_lock.stat().st_ino == before.st_ino


def test_file_without_a_locked_hash_is_refused_before_anything_is_fetched(
    made: Settings, mirror: Mirror
) -> None:
    made = with_mirror(made, mirror)
    pin(made, locked(KERNEL.path), locked(BASE.path))
    with pytest.raises(
        UserError, match=r"no sha256 is locked for release/core\.gz of profile mine"
    ) as caught:
        inputs.fetch(made)
    assert caught.value.hint == "./doit lock profile=mine"
    assert mirror.requests == []
    assert not made.paths.used_lock.exists()


def test_failed_fetch_leaves_the_old_record(made: Settings, mirror: Mirror) -> None:
    made = with_mirror(made, mirror)
    pin(made, *map(locked, CONTENTS))
    inputs.fetch(made)
    before = made.paths.used_lock.read_bytes()
    pin(made, locked(KERNEL.path), locked(BASE.path), LockedFile(CORE.path, "0" * 64))
    with pytest.raises(UserError, match="wrong sha256"):
        inputs.fetch(made)
    assert made.paths.used_lock.read_bytes() == before


def test_offline_without_cache(made: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_sockets(monkeypatch)
    pin(made, *map(locked, CONTENTS))
    with pytest.raises(UserError, match=r"linux\.tar is not in the cache") as caught:
        inputs.fetch(with_values(made, offline=True))
    assert "offline=1" in caught.value.hint


@pytest.mark.parametrize("ask", ["file", "lock"])
def test_before_the_first_fetch(made: Settings, ask: str) -> None:
    with pytest.raises(UserError, match="nothing was fetched yet for profile mine") as caught:
        if ask == "file":
            source_file(made.paths, KERNEL)
        else:
            used_lock(made.paths)
    assert caught.value.hint == "./doit fetch"


def test_a_file_the_cache_has_lost_or_damaged_is_fetched_again(made: Settings, mirror: Mirror) -> None:
    made = with_mirror(made, mirror)
    pin(made, *map(locked, CONTENTS))
    inputs.fetch(made)
    cached = source_file(made.paths, BASE)
    whole = cached.read_bytes()
    cached.write_bytes(whole.swapcase())
    stage_inputs.fetch_base_config(made)
    assert source_file(made.paths, BASE).read_bytes() == whole
    cached.unlink()
    with pytest.raises(UserError, match="config is not in the cache"):
        source_file(made.paths, BASE)
    stage_inputs.fetch_base_config(made)
    assert source_file(made.paths, BASE).read_bytes() == whole
    cached.unlink()
    with pytest.raises(UserError, match="offline=1"):
        stage_inputs.fetch_base_config(with_values(made, offline=True))
    with pytest.raises(UserError, match="src/other was not fetched yet"):
        source_file(made.paths, HttpSource(path="src/other"))


class TestPackages:
    """Pinned packages that the cache holds: neither apt nor a mirror is needed."""

    SOURCE = AptSource(package="linux-source-[0-9]*")

    @pytest.fixture
    def settings(self, made: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
        for module in (suite, distribution):
            monkeypatch.setattr(module, "run", lambda argv, **options: pytest.fail(f"{argv} was run"))
        monkeypatch.setattr(distribution, "_machine_mirrors", dict)
        monkeypatch.setattr(suite, "_network_settings", str)
        forbid_sockets(monkeypatch)
        made = with_kernel(made, self.SOURCE)
        core = Core(rootfs=True, packages=("busybox",))
        return replace(made, profile=replace(made.profile, core=core, suite=Suite("debian", "bookworm")))

    def test_core_kernel_and_extra_are_recorded(self, settings: Settings) -> None:
        packages = [deb(settings, name) for name in ("attr", "busybox", "linux-source-6.1")]
        pin(settings, *packages, LockedPackage("unused", "1", "0" * 64))
        inputs.fetch(settings, {"tool": ("attr",)})
        used = used_lock(settings.paths)
        assert used.package == tuple(packages)
        assert used.needs == (LockedNeeds("core", ("busybox",), ()), LockedNeeds("tool", ("attr",), ()))
        paths = settings.paths
        (attr,) = package_files(paths, paths.extension_lock("tool"), ["attr"]).values()
        assert attr.read_bytes() == b"attr 1"
        assert source_file(settings.paths, self.SOURCE).read_bytes() == b"linux-source-6.1 1"

    def test_package_that_was_not_fetched_is_named(self, settings: Settings) -> None:
        pin(settings, deb(settings, "busybox"), deb(settings, "linux-source-6.1"))
        inputs.fetch(settings)
        with pytest.raises(UserError, match="package attr was not fetched yet"):
            package_files(settings.paths, settings.paths.extension_lock("tool"), ("attr",))

    def test_package_lost_from_the_cache_is_named(self, settings: Settings) -> None:
        busybox = deb(settings, "busybox")
        pin(settings, busybox, deb(settings, "linux-source-6.1"))
        inputs.fetch(settings)
        busybox.cached_in(settings.paths.cache).unlink()
        with pytest.raises(UserError, match="not in the cache, and offline=1 forbids to fetch: busybox"):
            stage_inputs.fetch_core_packages(with_values(settings, offline=True))

    def test_frozen_without_a_locked_kernel(self, settings: Settings) -> None:
        pin(settings, deb(settings, "busybox"))
        with pytest.raises(UserError, match="no version is locked for linux-source") as caught:
            inputs.fetch(with_values(settings, frozen=True))
        assert caught.value.hint == "./doit lock"

    def test_offline_without_a_known_kernel(self, settings: Settings) -> None:
        with pytest.raises(UserError, match="lists of debian bookworm are not in the cache, and offline=1"):
            inputs.fetch(with_values(settings, offline=True))

    def test_offline_repeats_a_fetch_that_left_the_pinned_version(self, settings: Settings) -> None:
        """The pinned kernel is gone from apt and was never cached; the last fetch took a newer one."""
        newer = [deb(settings, "busybox", "2"), deb(settings, "linux-source-6.12")]
        settings.paths.output.mkdir()
        settings.paths.used_lock.write_text(Lock(tuple(newer)).to_toml())
        pin(settings, deb(settings, "busybox", "1"), LockedPackage("linux-source-6.1", "1", "0" * 64))
        inputs.fetch(with_values(settings, offline=True))
        versions = {package.name: package.version for package in used_lock(settings.paths).package}
        # busybox' pinned version is at hand, so it is used.
        assert versions == {"busybox": "1", "linux-source-6.12": "1"}

    def test_offline_and_frozen_keeps_to_the_pinned_version(self, settings: Settings) -> None:
        settings.paths.output.mkdir()
        settings.paths.used_lock.write_text(Lock((deb(settings, "busybox", "2"),)).to_toml())
        pin(settings, LockedPackage("busybox", "1", "0" * 64), deb(settings, "linux-source-6.1"))
        with pytest.raises(UserError, match=r"not in the cache.*: busybox\n"):
            inputs.fetch(with_values(settings, offline=True, frozen=True))

    def test_pattern_that_fits_two_locked_packages(self, settings: Settings) -> None:
        pin(settings, *(deb(settings, name) for name in ("busybox", "linux-source-6.1", "linux-source-6.12")))
        with pytest.raises(UserError, match=r"matches several.*6\.1, linux-source-6\.12"):
            inputs.fetch(settings)

    def test_lock_does_not_work_offline(self, settings: Settings) -> None:
        with pytest.raises(UserError, match="offline=1 forbids"):
            inputs.lock(with_values(settings, offline=True))


TREE = ("linux-5.4/Makefile", "linux-5.4/Kconfig", "linux-5.4/arch/x86/Makefile")


class TestLocalFiles:
    """kind = "file": an archive or a tree of this machine."""

    @pytest.fixture
    def settings(self, made: Settings, tmp_path: Path) -> Settings:
        (tmp_path / "linux.tgz").write_bytes(archive(list(TREE)))
        return with_kernel(made, FileSource(path="linux.tgz"))

    def test_archive_is_recorded_and_unpacked(self, settings: Settings, tmp_path: Path) -> None:
        inputs.fetch(settings)
        digest = hashlib.sha256((tmp_path / "linux.tgz").read_bytes()).hexdigest()
        assert used_lock(settings.paths).file == (LockedFile("linux.tgz", digest),)
        (settings.paths.linux / "stale").mkdir(parents=True)
        source_tree.unpack_linux(settings)
        assert {path.name for path in settings.paths.linux.iterdir()} == {
            "Makefile",
            "Kconfig",
            "arch",
            ".tcbuild",
        }
        assert (settings.paths.linux / "arch/x86/Makefile").is_file()
        assert sorted(path.name for path in settings.paths.output.iterdir()) == [
            "linux",
            "lock.toml",
            "locks",
        ]

    @pytest.mark.parametrize("names", [TREE, [name.removeprefix("linux-5.4/") for name in TREE]])
    @pytest.mark.parametrize("prefix", ["", "./"])
    def test_archive_with_and_without_a_top_folder(
        self, settings: Settings, tmp_path: Path, names: list[str], prefix: str
    ) -> None:
        (tmp_path / "linux.tgz").write_bytes(archive([prefix + name for name in names]))
        source_tree.unpack_linux(settings)
        assert (settings.paths.linux / "arch/x86/Makefile").is_file()

    def test_changed_archive_is_not_the_locked_one(self, settings: Settings) -> None:
        pin(settings, LockedFile("linux.tgz", "0" * 64))
        with pytest.raises(UserError, match=f"linux.tgz: expected sha256 {'0' * 64}, got ") as caught:
            inputs.fetch(settings)
        assert "./doit lock" in caught.value.hint

    def test_lock_takes_it_as_it_is(self, settings: Settings) -> None:
        pin(settings, LockedFile("linux.tgz", "0" * 64))
        inputs.lock(settings)
        inputs.fetch(with_values(settings, frozen=True))
        assert lock.load_lock(settings.paths.pinned_lock) == used_lock(settings.paths)

    def test_a_pinned_lock_that_cannot_be_read_is_written_anew_by_relock_alone(
        self, settings: Settings
    ) -> None:
        path = settings.paths.pinned_lock
        path.write_text("<<<<<<< HEAD\n")
        for refused in (inputs.fetch, inputs.lock):
            with pytest.raises(UserError, match=r"mine\.lock\.toml: ") as caught:
                refused(settings)
            assert caught.value.hint == "restore it, or write it anew: ./doit lock profile=mine relock=1"
        assert path.read_text() == "<<<<<<< HEAD\n"
        inputs.lock(with_values(settings, relock=True))
        assert [file.path for file in lock.load_lock(path).file] == ["linux.tgz"]

    def test_a_used_lock_that_cannot_be_read_is_written_again(self, settings: Settings) -> None:
        for offline in (False, True):
            settings.paths.used_lock.parent.mkdir(parents=True, exist_ok=True)
            settings.paths.used_lock.write_text("[[file\n")
            inputs.fetch(with_values(settings, offline=offline))
            assert [file.path for file in used_lock(settings.paths).file] == ["linux.tgz"]

    def test_same_archive_is_not_unpacked_again(self, settings: Settings, tmp_path: Path) -> None:
        """Patches and the mtimes that make goes by stay; another archive replaces the tree."""
        source_tree.unpack_linux(settings)
        (settings.paths.linux / "Makefile").write_text("patched")
        source_tree.unpack_linux(settings)
        assert (settings.paths.linux / "Makefile").read_text() == "patched"
        (tmp_path / "linux.tgz").write_bytes(archive([*TREE, "linux-5.4/new"]))
        source_tree.unpack_linux(settings)
        assert (settings.paths.linux / "Makefile").read_text() == ""
        assert (settings.paths.linux / "new").exists()

    def test_no_kernel_inside(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "linux.tgz").write_bytes(archive(["linux-5.4/README"]))
        (settings.paths.linux / "before").mkdir(parents=True)
        with pytest.raises(UserError, match=r"linux\.tgz holds no kernel source"):
            source_tree.unpack_linux(settings)
        assert [path.name for path in settings.paths.output.rglob("*")] == ["linux", "before"]

    def test_absent_file(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "linux.tgz").unlink()
        for ask in (inputs.fetch, source_tree.unpack_linux):
            with pytest.raises(UserError, match=r"linux\.tgz does not exist"):
                ask(settings)

    def test_tree_is_copied_without_its_git(self, settings: Settings, tmp_path: Path) -> None:
        for name in (*TREE, "linux-5.4/.git/HEAD", "linux-5.4/arch/x86/.git/HEAD"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
        (tmp_path / "linux-5.4/link").symlink_to("arch/x86")
        settings = with_kernel(settings, FileSource(path="linux-5.4"))
        inputs.fetch(settings)
        source_tree.unpack_linux(settings)
        assert (settings.paths.linux / "link").readlink() == Path("arch/x86")
        assert not (settings.paths.linux / ".git").exists()
        assert (settings.paths.linux / "arch/x86/.git/HEAD").exists()
        (settings.paths.linux / "Makefile").write_text("patched")
        assert (tmp_path / "linux-5.4/Makefile").read_text() == ""

    def test_unchanged_tree_is_not_copied_again(self, settings: Settings, tmp_path: Path) -> None:
        for name in TREE:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("")
        settings = with_kernel(settings, FileSource(path="linux-5.4"))
        source_tree.unpack_linux(settings)
        (settings.paths.linux / "Makefile").write_text("patched")
        source_tree.unpack_linux(settings)
        assert (settings.paths.linux / "Makefile").read_text() == "patched"


def test_nothing_is_fetched_for_a_folder_in_which_no_kernel_can_be_built(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = with_values(make_settings(), output=tmp_path / "my images")
    with pytest.raises(UserError, match="cannot handle these in its path: a space"):
        inputs.fetch(settings)
    assert list(tmp_path.glob("*/lock.toml")) == []


def test_with_trees_no_lock_of_the_checkout_is_written(
    made: Settings, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree/profiles"
    tree.mkdir(parents=True)
    monkeypatch.setattr(CHECKOUT, "trees", (tree.parent,))
    with pytest.raises(UserError, match="profile mine is no tree's, and its lock is not written"):
        inputs.lock(with_mirror(made, mirror))
    (tree / "mine.toml").write_text('description = "of the tree"\n')
    inputs.lock(with_mirror(made, mirror))
    assert {file.path for file in lock.load_lock(tree / "mine.lock.toml").file} == {*CONTENTS}
    assert list((tmp_path / "profiles").iterdir()) == []
