# SPDX-License-Identifier: MIT
"""The step before a stage fetches its inputs, and only missing ones; no apt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.inputs import package_files, source_file
from tasks.config.kernel_source import DEFERRED, STAMP, UNPACKED_BY, identity, is_unpacked, unpacking_code
from tasks.config.profile import Boot, Extension, Kernel, Profile
from tasks.config.settings import Paths, Settings
from tasks.config.sources import Core, Image
from tasks.config.system import System
from tasks.fetch import pin, stage_inputs
from tasks.origins import suite
from tasks.origins.distribution import Suite
from tasks.origins.lock import Lock, LockedExtension, LockedFile, LockedPackage
from tasks.origins.sources.apt import AptSource
from tasks.origins.sources.file import FileSource
from tasks.origins.sources.http import HttpSource
from tasks.origins.sources.imported import ImportedSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.mirror import Mirror, Page, forbid_sockets
from tests.support.settings import record_lock

CONTENTS = {path: path.encode() for path in ("linux.tar", "base.config", "core.gz", "tool.tar")}
KERNEL, BASE, CORE, TOOL = (HttpSource(path=path) for path in CONTENTS)


def locked(path: str) -> LockedFile:
    return LockedFile(path, hashlib.sha256(CONTENTS[path]).hexdigest())


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("NO_PROXY", "*")
    with Mirror() as running:
        running.pages |= {path: Page(content) for path, content in CONTENTS.items()}
        yield running


@pytest.fixture
def settings(mirror: Mirror, tmp_path: Path) -> Settings:
    """All inputs are locked, and none is fetched: so `fetch` leaves it with a shared cache."""
    mine = Profile(
        description="made up",
        source_date_epoch=1,
        kernel=Kernel(KERNEL, BASE, "olddefconfig", ()),
        core=Core(archives=(CORE,)),
        boot=Boot(()),
        mirrors=(mirror.url,),
        images=(Image("localhost/tool:1", TOOL),),
    )
    made = Settings(
        Paths("mine", tmp_path / "out", tmp_path / "cache"),
        replace(mine, kernel=replace(mine.kernel, fragments=())),
    )
    made.paths.output.mkdir()
    made.paths.used_lock.write_text(Lock(file=tuple(map(locked, CONTENTS))).to_toml())
    return made


def asked(mirror: Mirror) -> list[str]:
    return [request.path for request in mirror.requests]


@pytest.mark.parametrize(
    ("step", "source"),
    [
        (stage_inputs.fetch_kernel_source, KERNEL),
        (stage_inputs.fetch_base_config, BASE),
        (stage_inputs.fetch_core_archives, CORE),
        (stage_inputs.fetch_images, TOOL),
    ],
)
def test_each_step_brings_what_its_stage_needs_once(
    settings: Settings, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, step: object, source: HttpSource
) -> None:
    assert callable(step)
    with pytest.raises(UserError, match=f"{source.path} is not in the cache") as caught:
        source_file(settings.paths, source)
    assert caught.value.hint == "run the same command again"
    assert asked(mirror) == [], "a getter only looks"
    step(settings)
    assert asked(mirror) == [source.path]
    assert source_file(settings.paths, source).read_bytes() == CONTENTS[source.path]
    forbid_sockets(monkeypatch)
    step(settings)


def test_the_source_of_an_unpacked_tree_is_not_brought_again(settings: Settings, mirror: Mirror) -> None:
    (settings.paths.linux / STAMP).parent.mkdir(parents=True)
    (settings.paths.linux / STAMP).write_text(identity(settings.paths, settings.profile))
    assert not is_unpacked(settings.paths, settings.profile), "other code has unpacked it"
    (settings.paths.linux / UNPACKED_BY).write_text(unpacking_code())
    assert is_unpacked(settings.paths, settings.profile)
    stage_inputs.fetch_kernel_source(settings)
    assert asked(mirror) == []
    (settings.paths.linux / DEFERRED).write_text("")
    assert not is_unpacked(settings.paths, settings.profile)
    stage_inputs.fetch_kernel_source(settings)
    assert asked(mirror) == [KERNEL.path]


def test_a_tree_of_another_source_is_not_the_one_wanted(settings: Settings) -> None:
    assert not is_unpacked(settings.paths, settings.profile)
    (settings.paths.linux / STAMP).parent.mkdir(parents=True)
    (settings.paths.linux / STAMP).write_text(f"linux.tar {'0' * 64}\n")
    assert not is_unpacked(settings.paths, settings.profile)


def test_a_file_of_this_machine_is_never_brought(
    settings: Settings, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CHECKOUT, "root", tmp_path)
    kernel = replace(settings.profile.kernel, source=FileSource(path="linux.tgz"), base="base.config")
    images = (Image("localhost/tool:1", FileSource(path="tool.tar")),)
    settings = replace(settings, profile=replace(settings.profile, kernel=kernel, images=images))
    for step in (stage_inputs.fetch_kernel_source, stage_inputs.fetch_base_config, stage_inputs.fetch_images):
        step(settings)
    assert asked(mirror) == []


class TestPackages:
    @pytest.fixture
    def names(self, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        """What the suite is asked for, call by call."""
        calls: list[list[str]] = []
        monkeypatch.setattr(
            suite, "fetch", lambda _, packages, *__, **___: calls.append([one.name for one in packages])
        )
        return calls

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        """`there` is in the cache; the packages of recipe attr are libattr1 and attr."""
        content = b"there"
        there = LockedPackage("there", "1", hashlib.sha256(content).hexdigest())
        others = ("attr", "busybox", "libattr1", "linux-source-6.1")
        packages = (there, *(LockedPackage(name, "1", "0" * 64) for name in others))
        there.cached_in(settings.paths.cache).parent.mkdir(parents=True)
        there.cached_in(settings.paths.cache).write_bytes(content)
        kernel = replace(settings.profile.kernel, source=AptSource(package="linux-source-[0-9]*"))
        core = Core(rootfs=True, packages=("busybox", "there"), archives=(CORE,))
        settings = replace(
            settings,
            profile=replace(settings.profile, kernel=kernel, core=core, suite=Suite("debian", "bookworm")),
        )
        record_lock(settings, Lock(packages, (locked(CORE.path),)), {"attr": ("attr", "libattr1")})
        return settings

    def test_the_suite_is_asked_for_what_is_missing(self, settings: Settings, names: list[list[str]]) -> None:
        stage_inputs.fetch_core_packages(settings)
        stage_inputs.fetch_kernel_source(settings)
        stage_inputs.fetch_packages(settings)
        assert names == [["busybox"], ["linux-source-6.1"], ["attr", "busybox", "libattr1"]]

    def test_a_recipe_brings_its_packages_and_the_base_it_is_checked_against(
        self, settings: Settings, names: list[list[str]], mirror: Mirror
    ) -> None:
        stage_inputs.fetch_recipe_packages(settings, "attr")
        assert set(names[0]) <= {"attr", "libattr1"} and "attr" in names[0]
        assert asked(mirror) == [CORE.path]

    def test_the_lock_has_the_last_word(self, settings: Settings, names: list[list[str]]) -> None:
        core = replace(settings.profile.core, packages=("busybox", "other"))
        settings = replace(settings, profile=replace(settings.profile, core=core))
        with pytest.raises(UserError, match="package other was not fetched yet"):
            stage_inputs.fetch_core_packages(settings)
        assert names == []

    def test_the_getter_says_which_package_is_not_there(self, settings: Settings) -> None:
        part = settings.paths.lock_part("rootfs")
        assert list(package_files(settings.paths, part, ["there"])) == ["there"]
        with pytest.raises(UserError, match=r"busybox_1\.deb is not in the cache"):
            package_files(settings.paths, part, ["there", "busybox"])


class TestImported:
    """What was imported is in the cache, or the medium is named; no server is asked."""

    @pytest.fixture
    def imported(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
        forbid_sockets(monkeypatch)
        extensions = (Extension("a", origin="imported"), Extension("b", origin="upstream"))
        system = System(mydata=ImportedSource(name="mydata.tgz", sha256="d" * 64))
        changed = replace(
            settings.profile, imported="my.iso", extensions=extensions, tcz="tcz", system=system
        )
        return replace(settings, profile=changed)

    def test_an_extension(self, imported: Settings) -> None:
        entry = LockedExtension("a", hashlib.sha256(b"a").hexdigest(), "0" * 32, 1)
        with pytest.raises(UserError, match=r"a\.tcz is not in the cache, and no server has it") as caught:
            stage_inputs.download_extension(imported, entry)
        assert caught.value.hint == "import it again: ./doit import my.iso mine"
        path = entry.cached_in(imported.paths.cache)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"a")
        stage_inputs.download_extension(imported, entry)

    def test_a_backup(self, imported: Settings) -> None:
        record_lock(imported, Lock())
        with pytest.raises(UserError, match=r"mydata\.tgz is not in the cache, and no server has it"):
            stage_inputs.fetch_backup(imported)
        stage_inputs.fetch_backup(replace(imported, profile=replace(imported.profile, system=System())))

    def test_only_imported_ones_are_meant(self, imported: Settings) -> None:
        profile = imported.profile
        assert [profile.is_imported(name) for name in ("a", "b", "c")] == [True, False, False]
        assert replace(profile, extensions=(), tcz="").is_imported("c")

    def test_relock_keeps_it(self, imported: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        alone = replace(imported.profile, extensions=imported.profile.extensions[:1])
        network = replace(imported.network, relock=True)
        entry = LockedExtension("a", "e" * 64, "0" * 32, 1)
        settings = replace(imported, profile=alone, network=network)
        assert pin._pin_extensions(settings, Lock(extension=(entry,)), imported.paths.cache) == (entry,)
        with pytest.raises(UserError, match=r"the profile needs a\.tcz, which was imported, and the lock"):
            pin._pin_extensions(settings, Lock(), imported.paths.cache)
