# SPDX-License-Identifier: MIT
"""Making the compiler ready: what is installed and made, and when nothing may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.compiler import Compiler
from tasks.config.settings import Settings
from tasks.kernel import kbuild
from tasks.toolchain import build_root, prepare
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


def test_a_root_toolchain_has_no_network(make_settings: Callable[..., Settings]) -> None:
    for table in (Compiler("sccache"), Compiler(hosts=("a",)), Compiler(remote_storage="redis://a")):
        with pytest.raises(UserError, match="toolchain debian11 is a build root without a network"):
            prepare.prepare(with_toolchain(make_settings(), "debian11", table))


def test_a_look_at_a_toolchain_makes_no_root(make_settings: Callable[..., Settings]) -> None:
    settings = with_toolchain(make_settings(offline=True), "debian11", Compiler())
    with pytest.raises(UserError, match="the build root of toolchain debian11 is not in the cache") as caught:
        kbuild.of_profile(settings)
    assert caught.value.hint == "./doit kernel makes it"
    assert not settings.paths.cache.exists()
    assert not build_root.is_made(settings.paths.cache, "debian11")
    with pytest.raises(UserError, match="not in the cache") as caught:
        prepare.prepare(settings)
    assert "offline=1" in caught.value.hint
