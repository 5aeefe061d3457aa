# SPDX-License-Identifier: MIT
"""The modules of the real kernel, split by the real depmod and mksquashfs."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import plan
from tasks.config.settings import Settings
from tasks.config.sources import Core
from tasks.extensions import modules
from tasks.extensions.modules import Sorted
from tasks.formats import initramfs_file, squashfs
from tasks.formats.cpio import Member, directory, regular
from tasks.formats.initramfs_file import Archive
from tasks.initramfs import core
from tasks.kernel.installed import core_modules
from tasks.util.errors import UserError
from tasks.util.files import sha256_file
from tests.support.built import built
from tests.support.images import elf


@pytest.fixture
def split(make_settings: Callable[..., Settings]) -> Callable[..., Settings]:
    """Return a function that makes settings of the built kernel, its modules to be split."""

    def make(*, compress: bool = False) -> Settings:
        image = built()
        made = make_settings(image.paths.name)
        shutil.copytree(image.paths.kernel, made.paths.kernel, symlinks=True)
        base = [directory("usr"), directory("usr/local", 0o2775, 0, 50), regular("init", b"#!", 0o755)]
        epoch = made.profile.source_date_epoch
        core.write_core([Archive("gzip", tuple(base))], made.paths.output / "rootfs64.gz", mtime=epoch)
        release = (image.paths.kernel / "release").read_text().strip()
        kernel = replace(made.profile.kernel, modules="split", compress_modules=compress, release=release)
        profile = replace(made.profile, kernel=kernel, core=Core(rootfs=True), extensions=())
        return replace(made, profile=profile)

    return make


def installed(settings: Settings) -> dict[str, Path]:
    """Return all modules as `make modules_install` left them, by path below lib/modules/RELEASE."""
    top = settings.paths.kernel / "modules/lib/modules" / settings.profile.kernel.release
    return {str(path.relative_to(top)): path for path in top.rglob("*.ko*")}


def members(settings: Settings, group: str) -> dict[str, Member]:
    """Return the modules in one extension, by path below lib/modules/RELEASE."""
    release = settings.profile.kernel.release
    top = f"usr/local/lib/modules/{release}/"
    found = squashfs.squashfs_members(settings.paths.tcz / f"{group}-{release}.tcz")
    return {member.name.removeprefix(top): member for member in found if ".ko" in member.name}


def core_top(settings: Settings) -> Path:
    return core_modules(settings.paths, settings.profile) / "lib/modules" / settings.profile.kernel.release


def test_every_module_is_in_one_place_as_it_was(split: Callable[..., Settings]) -> None:
    settings = split()
    modules.split(settings.paths, settings.profile)
    found = {
        str(path.relative_to(core_top(settings))): path.read_bytes()
        for path in core_top(settings).rglob("*.ko")
    }
    assert found
    for group in plan.module_groups():
        for name, member in members(settings, group).items():
            assert name not in found
            found[name] = member.data
    assert found == {name: path.read_bytes() for name, path in installed(settings).items()}
    assert "kernel/net/bridge/bridge.ko" in members(settings, "net-bridging")
    assert members(settings, "original-modules") == {}


def test_modprobe_finds_all_that_each_module_of_the_core_needs(split: Callable[..., Settings]) -> None:
    settings = split()
    modules.split(settings.paths, settings.profile)
    root = core_modules(settings.paths, settings.profile)
    names = [path.stem for path in core_top(settings).rglob("*.ko")]
    options = ["-d", str(root), "-S", settings.profile.kernel.release, "--show-depends"]
    done = subprocess.run(
        ["/sbin/modprobe", *options, "-a", *names], capture_output=True, text=True, check=True
    )
    paths = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("insmod ")}
    assert {Path(path).stem for path in paths} == set(names)
    assert all(Path(path).is_file() for path in paths)
    gone = ["/sbin/modprobe", *options, "bridge"]
    assert subprocess.run(gone, capture_output=True, check=False).returncode != 0


def test_a_core_that_needs_modules_outside_is_refused(split: Callable[..., Settings]) -> None:
    """depmod itself is the judge: vxlan calls udp_tunnel, which is not there."""
    settings = split()
    release = settings.profile.kernel.release
    source = settings.paths.kernel / "modules/lib/modules" / release
    needs = modules.read_dep((source / "modules.dep").read_text(), "")
    whole = modules.sort_modules(needs, plan.sorting())
    assert whole.moved
    less = Sorted(tuple(path for path in whole.core if path not in whole.moved), (), whole.groups)
    with pytest.raises(UserError, match="modules of the core need others") as caught:
        modules._write_core(settings.paths, settings.profile, source, release, less)
    assert "vxlan.ko" in caught.value.detail
    assert not (settings.paths.output / "modules").exists()


def test_compressed_modules_are_what_the_index_names(split: Callable[..., Settings]) -> None:
    settings = split(compress=True)
    modules.split(settings.paths, settings.profile)
    top = core_top(settings)
    needs = modules.read_dep((top / "modules.dep").read_text(), "")
    found = {str(path.relative_to(top)) for path in top.rglob("*.ko*")}
    assert set(needs) == found
    assert all(name.endswith(".ko.gz") for name in found)
    assert {dep for deps in needs.values() for dep in deps} <= found
    originals = installed(settings)
    for name in found:
        assert gzip.decompress((top / name).read_bytes()) == originals[name.removesuffix(".gz")].read_bytes()
    for name, member in members(settings, "ipv6-netfilter").items():
        assert gzip.decompress(member.data) == originals[name.removesuffix(".gz")].read_bytes()
    assert not list(top.glob("*.bin"))
    assert set((top / "modules.order").read_text().split()) == found


def test_the_same_modules_give_the_same_bytes(split: Callable[..., Settings]) -> None:
    settings = split(compress=True)

    def digests() -> dict[Path, str]:
        modules.split(settings.paths, settings.profile)
        folders = (settings.paths.tcz, settings.paths.output / "modules")
        return {path: sha256_file(path) for folder in folders for path in folder.rglob("*") if path.is_file()}

    first = digests()
    for number, path in enumerate(installed(settings).values()):
        os.utime(path, (number, number))
        path.chmod(0o600 if number % 2 else 0o755)
    assert digests() == first


def test_extensions_have_the_bases_owners_and_side_files(split: Callable[..., Settings]) -> None:
    settings = split()
    modules.split(settings.paths, settings.profile)
    name = f"ipv6-netfilter-{settings.profile.kernel.release}"
    found = {member.name: member for member in squashfs.squashfs_members(settings.paths.tcz / f"{name}.tcz")}
    assert (found["usr/local"].gid, oct(found["usr/local"].mode)) == (50, "0o42775")
    assert (found["usr/local/lib"].gid, oct(found["usr/local/lib"].mode)) == (0, "0o40755")
    listed = (settings.paths.tcz / f"{name}.tcz.list").read_text().splitlines()
    assert listed == sorted(member for member in found if member.endswith(".ko"))
    subprocess.run(
        ["md5sum", "--check", f"{name}.tcz.md5.txt"], cwd=settings.paths.tcz, check=True, capture_output=True
    )
    info = (settings.paths.tcz / f"{name}.tcz.info").read_text()
    assert re.search(r"(?m)^Description: +Kernel modules: IPv6", info)
    everything = (
        settings.paths.tcz / f"original-modules-{settings.profile.kernel.release}.tcz.dep"
    ).read_text()
    groups = [group.name for group in plan.sorting().group]
    assert everything == "".join(f"{group}-KERNEL.tcz\n" for group in groups)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda top: (top / "modules.dep").unlink(), r"modules\.dep is missing"),
        (lambda top: (top / "modules.dep").write_text("nonsense\n"), r"is no modules\.dep: 'nonsense'"),
        (lambda top: next(top.rglob("vxlan.ko")).unlink(), r"No such file or directory: .*vxlan\.ko"),
    ],
)
def test_a_kernel_folder_with_parts_missing(
    split: Callable[..., Settings], change: Callable[[Path], None], says: str
) -> None:
    settings = split()
    change(settings.paths.kernel / "modules/lib/modules" / settings.profile.kernel.release)
    with pytest.raises((UserError, FileNotFoundError), match=says.replace("directory: ", "directory.*")):
        modules.split(settings.paths, settings.profile)
    assert not (settings.paths.output / "modules").exists()
    assert not settings.paths.tcz.exists()


OTHER = "5.4.3-tinycore64"


@pytest.mark.parametrize(
    ("old", "says"),
    [
        (
            OTHER,
            [
                "dropped lib/modules/5.4.3-tinycore64",
                "NAME-{}.tcz, which mirrors may not",
                "release: usr/told",
            ],
        ),
        ("{}", ["dropped lib/modules/{}", "use the modules built here"]),
    ],
)
def test_a_base_of_another_kernel_is_reported(
    split: Callable[..., Settings], capsys: pytest.CaptureFixture[str], old: str, says: list[str]
) -> None:
    settings = split()
    release = settings.profile.kernel.release
    old = old.format(release)
    base = [
        *map(directory, ["usr", "lib", "lib/modules", f"lib/modules/{old}"]),
        *(regular("init", elf(), 0o755), regular(f"lib/modules/{old}/x.ko", b"")),
        *(regular("usr/told", f"#!/bin/sh\ninsmod /lib/modules/{OTHER}/x.ko\n".encode(), 0o755),),
        *(regular("usr/not", b"#!/bin/sh\nuname -r\n"), regular("usr/data", OTHER.encode())),
    ]
    core.write_core([Archive("gzip", tuple(base))], settings.paths.output / "rootfs64.gz", mtime=0)
    modules.split(settings.paths, settings.profile)
    capsys.readouterr()
    core.build(settings.paths, settings.profile)
    said = capsys.readouterr().out
    for text in says:
        assert text.format(release) in said
    assert ("usr/told" in said) == (old == OTHER)
    assert "usr/not" not in said
    assert "usr/data" not in said
    view = initramfs_file.merged(initramfs_file.read_core(settings.paths.core))
    assert not [name for name in view if name.endswith("/x.ko")]
