# SPDX-License-Identifier: MIT
"""Releases are data: each file is whole, and a profile gets from it what it does not say itself."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tasks.config import architecture, inheritance, profile, release
from tasks.config.profile import Kernel, Profile
from tasks.config.sources import Core
from tasks.origins import mirrors
from tasks.origins.lock import load_lock
from tasks.origins.sources.apt import AptSource
from tasks.origins.sources.http import HttpSource
from tasks.origins.sources.kernel_org import KernelOrgSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError

REST = """
description = "made up"
source_date_epoch = 1
[kernel]
fragments = ["qemu"]
{kernel}
{core}
[boot]
bootcodes = []
"""
KERNELS = ["5.4.3", "5.10.3", "5.15.10", "6.1.2", "6.6.8", "6.12.11", "6.18.35"]


def load(folder: Path, head: str, kernel: str = "", core: str = "") -> Profile:
    (folder / "mine.toml").write_text(head + REST.format(kernel=kernel, core=core))
    return inheritance.load([folder], "mine", Profile)


def test_there_is_one_for_each_release_and_architecture() -> None:
    assert release.names() == [f"{number}.x" for number in range(11, 18)]
    assert [release.load(name).linux for name in release.names()] == KERNELS
    for name in release.names():
        assert sorted(release.load(name).files) == architecture.names()


@pytest.mark.parametrize("arch", architecture.names())
@pytest.mark.parametrize("name", release.names())
def test_every_path_is_of_its_release_and_has_tiny_cores_names(name: str, arch: str) -> None:
    one, names = release.load(name).files[arch], architecture.load(arch).files
    assert all(path.startswith(f"{name}/{architecture.load(arch).mirror}/") for path in one.paths().values())
    found = {key: Path(path).name for key, path in one.paths().items()}
    assert (found["kernel"], found["core"]) == (names.kernel, names.core)
    assert (found["rootfs"], found["modules"]) == (names.rootfs, names.modules)
    assert found["config"] == f"config-{one.uname}"
    assert one.uname == f"{release.load(name).linux}-tinycore{'64' if arch == 'x86_64' else ''}"
    assert found["source"].startswith(f"linux-{release.load(name).linux}-patched.")


@pytest.mark.parametrize("name", release.names())
def test_what_a_release_names_exists(name: str) -> None:
    one = release.load(name)
    assert not one.patches or (CHECKOUT.patches / one.patches / "series").is_file()
    assert not one.toolchain or (CHECKOUT.root / f"tasks/toolchain/toolchains/{one.toolchain}.toml").is_file()


@pytest.mark.parametrize("arch", architecture.names())
@pytest.mark.parametrize("name", release.names())
def test_a_profile_needs_little_more_than_its_release(name: str, arch: str, tmp_path: Path) -> None:
    made = load(tmp_path, f'release = "{name}"\narch = "{arch}"')
    paths = release.load(name).files[arch]
    assert made.kernel.source == HttpSource(path=paths.source)
    assert made.kernel.base == HttpSource(path=paths.config)
    assert made.core == Core(archives=(HttpSource(path=paths.rootfs),))
    assert (made.kernel.release, made.tcz, made.probe) == (paths.uname, paths.tcz, paths.config)
    assert made.mirrors == mirrors.known().tinycore


def test_tc11_is_what_it_was_when_all_of_it_stood_in_the_profile() -> None:
    tc11 = profile.load("tc11")
    below = "11.x/x86_64/release"
    assert tc11.kernel == Kernel(
        source=HttpSource(path=f"{below}/src/kernel/linux-5.4.3-patched.txz"),
        base=HttpSource(path=f"{below}/src/kernel/config-5.4.3-tinycore64"),
        base_mode="olddefconfig",
        fragments=("qemu", "containers", "ext3-xattr"),
        patches="linux-5.4",
        release="5.4.3-tinycore64",
        modules="split",
        compress_modules=True,
    )
    assert tc11.core == Core(archives=(HttpSource(path=f"{below}/distribution_files/rootfs64.gz"),))
    assert tc11.tcz == "11.x/x86_64/tcz"
    assert tc11.mirrors == (
        "http://www.tinycorelinux.net",
        "http://mirrors.163.com/tinycorelinux",
        "http://distro.ibiblio.org/tinycorelinux",
    )
    lines = (CHECKOUT.root / "profiles/tc11.toml").read_text().splitlines()
    assert len([line for line in lines if line and not line.startswith("#")]) < 15


class TestOwnWords:
    """What a profile says itself counts, whatever its release is."""

    def test_about_mirrors(self, tmp_path: Path) -> None:
        made = load(tmp_path, 'release = "16.x"\nmirrors = ["http://mine.invalid"]\ntcz = "mine"')
        assert (made.mirrors, made.tcz) == (("http://mine.invalid",), "mine")

    def test_about_the_root(self, tmp_path: Path) -> None:
        assert load(tmp_path, 'release = "16.x"', core="[core]\nrootfs = true").core == Core(rootfs=True)
        one = load(tmp_path, 'release = "16.x"', core='[core]\narchives = [{ kind = "http", path = "x" }]')
        assert one.core.archives == (HttpSource(path="x"),)
        assert load(tmp_path, 'release = "16.x"', core="[core]\nlevel = 3").core.archives

    def test_about_the_kernel(self, tmp_path: Path) -> None:
        """The kernel is then of another version: neither patches nor `uname -r` are known."""
        kernel = 'source = { kind = "apt", package = "linux-source-*" }\nmodules = "core"'
        made = load(tmp_path, 'release = "11.x"', kernel).kernel
        assert made.source == AptSource(package="linux-source-*")
        assert (made.patches, made.release) == ("", "")
        assert made.base == HttpSource(path=release.load("11.x").files["x86_64"].config)
        with pytest.raises(UserError, match="release: needed by modules = 'split'"):
            load(tmp_path, 'release = "11.x"', kernel.partition("\n")[0])

    def test_about_the_name_of_the_kernels_release(self, tmp_path: Path) -> None:
        assert load(tmp_path, 'release = "16.x"', 'localversion = "-mine"').kernel.release == "6.12.11-mine"

    def test_about_the_kernels_archive(self, tmp_path: Path) -> None:
        made = load(tmp_path, 'release = "11.x"', 'source = { kind = "kernel.org" }').kernel
        assert made.source == KernelOrgSource(version="5.4.3")
        assert (made.patches, made.release) == ("linux-5.4", "5.4.3-tinycore64")

    def test_about_the_version_of_kernel_orgs_archive(self, tmp_path: Path) -> None:
        """It is another source: with the release's `uname -r`, a build would fail at its very end."""
        kernel = 'source = { kind = "kernel.org", version = "5.4.50" }'
        with pytest.raises(UserError, match="release: needed by modules = 'split'"):
            load(tmp_path, 'release = "11.x"', kernel)
        made = load(tmp_path, 'release = "11.x"', f'{kernel}\nrelease = "5.4.50-tinycore64"').kernel
        assert (made.source, made.patches) == (KernelOrgSource(version="5.4.50"), "")
        same = load(tmp_path, 'release = "11.x"', kernel.replace("5.4.50", "5.4.3")).kernel
        assert (same.patches, same.release) == ("linux-5.4", "5.4.3-tinycore64")

    def test_is_the_heirs_too(self, tmp_path: Path) -> None:
        load(tmp_path, 'release = "11.x"')
        (tmp_path / "heir.toml").write_text('inherit = "mine"\nrelease = "16.x"\narch = "x86"\n')
        made = inheritance.load([tmp_path], "heir", Profile)
        assert made.kernel.release == "6.12.11-tinycore"
        assert made.tcz == "16.x/x86/tcz"


def test_a_kernel_that_others_built_needs_its_name_alone() -> None:
    table = {"release": "15.x", "kernel": {"source": {"kind": "image"}}}
    assert release.values(table, "x")["kernel"] == {"release": "6.6.8-tinycore64"}


def test_a_distributions_kernel_has_not_the_releases_name() -> None:
    table = {"release": "15.x", "kernel": {"source": {"kind": "image", "package": "linux-image-amd64"}}}
    assert release.values(table, "x")["kernel"] == {}


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape("mine.toml: release: unknown release '10.x'")) as caught:
        load(tmp_path, 'release = "10.x"')
    assert "11.x" in caught.value.hint
    with pytest.raises(UserError, match="release: expected a string"):
        load(tmp_path, "release = 11", 'source = { kind = "kernel.org", version = "5.4.3" }')
    with pytest.raises(UserError, match=r"release: Tiny Core 11 is not for arch 'vax'"):
        load(tmp_path, 'release = "11.x"\narch = "vax"')
    with pytest.raises(UserError, match=r"missing key 'kernel\.source'"):
        load(tmp_path, "")


class TestPublished:
    """The hashes that others publish."""

    def test_are_of_files_that_a_release_has_or_of_kernel_orgs(self) -> None:
        for name in release.names():
            one = release.load(name)
            files = {path for files in one.files.values() for path in files.paths().values()}
            for entry in one.published:
                below_tcz = Path(entry.path).parent.as_posix() in files
                assert (
                    entry.path in files or below_tcz or entry.path == KernelOrgSource(version=one.linux).path
                )
        assert sum(bool(one.sha256) for one in release.published().values()) == 10

    def test_agree_with_the_locks_of_the_project(self) -> None:
        for path in CHECKOUT.profiles.glob("*.lock.toml"):
            for entry in load_lock(path).file:
                known = release.published().get(entry.path)
                if known is not None and known.sha256:
                    assert (entry.sha256, entry.published_by) == (known.sha256, known.by)
                    assert entry.vouched == "sha256"

    def test_are_said_of_each_file_and_what_is_missing_too(self) -> None:
        lines = {line.split()[0]: line for line in release.describe("11.x", "x86_64")}
        assert "  (nobody publishes a hash of it)" in lines["source"]
        assert "  (md5 only, published by Ventoy's live CD)" in lines["kernel"]
        assert "sha256 published by Arch Linux, nixpkgs" in lines["kernel.org's"]
        assert "toolchain debian11 needs none" in lines["patches"]
        assert "path assumed" in next(line for line in release.describe("16.x", "x86") if "config-" in line)


def test_an_assumed_path_is_known_to_be_one() -> None:
    assert release.assumed_in("16.x/x86/release/src/kernel/config-6.12.11-tinycore") == "16.x"
    assert release.assumed_in("11.x/x86_64/release/src/kernel/config-5.4.3-tinycore64") == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"published": [{"path": "x", "by": ["a"]}]}, "published[0].sha256: expected it, or md5"),
        ({"published": [{"path": "x", "by": [], "md5": "a" * 32}]}, "published[0].by: expected who"),
        ({"published": [{"path": "x", "by": ["a"], "md5": "xyz"}]}, "published[0].md5: expected hex"),
    ],
)
def test_a_malformed_file_is_named(
    change: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tomli_w

    table = tomllib.loads((release.FOLDER / "11.x.toml").read_text()) | change
    (tmp_path / "99.x.toml").write_text(tomli_w.dumps(table))
    monkeypatch.setattr(release, "FOLDER", tmp_path)
    with pytest.raises(UserError, match=re.escape(f"99.x.toml: {said}")):
        release.load("99.x")
