# SPDX-License-Identifier: MIT
"""Making the compiler ready: what is installed and made, and when nothing may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.compiler import Compiler
from tasks.config.settings import Settings
from tasks.fetch.toolchain import fetch as fetch_toolchain
from tasks.kernel import kbuild
from tasks.toolchain import build_root, entry, host_match, prepare
from tasks.util import host, host_packages
from tasks.util.errors import UserError


def with_toolchain(settings: Settings, name: str, table: Compiler) -> Settings:
    kernel = replace(settings.profile.kernel, toolchain=name)
    return replace(settings, profile=replace(settings.profile, compiler=table, kernel=kernel))


def test_what_is_missing_is_named_when_nothing_may_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool, path: None)
    with pytest.raises(UserError, match="launcher icecc needs packages that are missing: icecc") as caught:
        prepare.install_programs("icecc", offline=True)
    assert caught.value.hint == "apt-get install icecc"
    prepare.install_programs("none", offline=True)


@pytest.mark.usefixtures("own_programs")
def test_only_this_step_installs(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[str] = []
    monkeypatch.setattr(host_packages, "install_packages", installed.extend)
    monkeypatch.setattr(host, "missing_packages", lambda tools, path: sorted(set(tools.values())))
    settings = with_toolchain(make_settings(), "host", Compiler("distcc", hosts=("a",)))
    make = kbuild.of_profile(settings)
    assert (make.argv[-1], installed) == ("HOSTCC=distcc gcc", [])
    assert not settings.paths.cache.exists()
    prepare.prepare(settings)
    assert installed == ["distcc"]
    assert Path(make.env["DISTCC_DIR"]).is_dir()


def test_what_writes_results_is_installed_for_the_toolchain_host_alone(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed: list[str] = []
    monkeypatch.delenv("TCBUILD_ROOTLESS", raising=False)
    monkeypatch.setattr(host_packages, "install_packages", installed.extend)
    monkeypatch.setattr(prepare, "search_path", lambda: str(tmp_path))
    pinned = make_settings()
    settings = replace(pinned, profile=replace(pinned.profile, toolchain="host"))
    prepare.install_host_toolchain(pinned)
    assert installed == []
    monkeypatch.setattr("os.geteuid", lambda: 0)
    prepare.install_host_toolchain(settings)
    assert {"gcc", "make", "squashfs-tools", "xorriso"} <= set(installed)
    # A compiler does not run from the cache folder.
    monkeypatch.setenv("TCBUILD_ROOTLESS", "1")
    with pytest.raises(UserError, match=r"cannot be used from another folder: .*gcc") as caught:
        prepare.install_host_toolchain(settings)
    assert "toolchain=debian12" in caught.value.hint


def test_a_root_has_no_network(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(entry.VARIABLE, "root")
    for table in (Compiler("sccache"), Compiler(hosts=("a",)), Compiler(remote_storage="redis://a")):
        with pytest.raises(UserError, match="toolchain debian11 is a build root without a network"):
            prepare.prepare(with_toolchain(make_settings(), "debian11", table))


def test_a_look_at_a_toolchain_makes_no_root(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(entry.VARIABLE, "root")
    settings = with_toolchain(make_settings(offline=True), "debian11", Compiler())
    with pytest.raises(UserError, match="the build root of toolchain debian11 is not in the cache") as caught:
        kbuild.of_profile(settings)
    assert caught.value.hint == "./doit toolchain makes it"
    assert not settings.paths.cache.exists()
    assert not build_root.is_made(settings.paths.cache, "debian11")
    with pytest.raises(UserError, match="not in the cache") as caught:
        fetch_toolchain(settings)
    assert "toolchain=host" in caught.value.hint


def test_what_runs_a_toolchain_is_said_once_and_recorded(
    make_settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv(entry.VARIABLE, raising=False)
    monkeypatch.setattr(host_match, "difference", lambda root, locked: "")
    settings = with_toolchain(make_settings(), "debian12", Compiler())
    prepare.ensure_toolchains(settings)
    first = capsys.readouterr().out
    assert "toolchain debian12: the programs of this machine" in first
    assert settings.paths.toolchain_record.read_text() == first
    prepare.ensure_toolchains(settings)
    assert capsys.readouterr().out == ""
    prepare.tell(settings)
    assert capsys.readouterr().out == first, "the command says it in any case"


def test_a_kernel_cannot_be_built_by_a_toolchain_without_a_compiler(
    make_settings: Callable[..., Settings],
) -> None:
    settings = with_toolchain(make_settings(), "debian12-images", Compiler())
    with pytest.raises(UserError, match="toolchain debian12-images has no compiler") as caught:
        prepare.prepare(settings)
    assert 'kernel.toolchain = "debian12"' in caught.value.hint


def test_both_toolchains_of_debian_12_write_the_same_bytes() -> None:
    """The smaller one has the versions that the other has."""
    whole = {package.name: package for package in build_root.lock("debian12").package}
    for package in build_root.lock("debian12-images").package:
        assert whole.get(package.name) == package
