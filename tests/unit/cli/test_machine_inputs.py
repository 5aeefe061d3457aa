# SPDX-License-Identifier: MIT
"""What the doctor says of this machine as an input of the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.cli import machine_inputs
from tasks.cli.verdict import Verdict
from tasks.config.settings import Settings
from tasks.origins.distribution import Suite
from tasks.origins.lock import Lock, LockedArchive, LockedPackage
from tasks.toolchain import entry
from tasks.util import host


@pytest.fixture
def pinned(make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a profile that takes nothing from this machine."""
    settings = make_settings()
    lock = Lock(
        package=(LockedPackage("busybox", "1", "0" * 64),),
        archive=(LockedArchive("debian", "bookworm", "20260711T101637Z"),),
    )
    pinned_lock = settings.paths.output.parent / "apt.lock.toml"
    pinned_lock.parent.mkdir(parents=True, exist_ok=True)
    pinned_lock.write_text(lock.to_toml())
    monkeypatch.setattr("tasks.config.inheritance.pinned_lock", lambda folder, name: pinned_lock)
    return with_profile(settings, toolchain="debian12", suite=Suite("debian", "bookworm"))


def with_profile(settings: Settings, **values: Any) -> Settings:
    return replace(settings, profile=replace(settings.profile, **values))


def found(check: Callable[[Settings], Any], settings: Settings) -> list[Verdict]:
    return list(check(settings))


def test_a_pinned_profile_takes_nothing_from_the_machine(pinned: Settings) -> None:
    (verdict,) = found(machine_inputs.image, pinned)
    assert (verdict.state, verdict.finding) == ("ok", machine_inputs.NOTHING)
    (verdict,) = found(machine_inputs.suite, pinned)
    assert verdict.finding == "debian bookworm, 1 packages locked, bookworm of 20260711T101637Z"


def test_each_thing_that_the_machine_gives_is_named_with_what_pins_it(pinned: Settings) -> None:
    loose = with_profile(pinned, toolchain="host", suite=None)
    (suite,) = found(machine_inputs.suite, loose)
    assert suite.finding == "the profile names none, so it can take no packages"
    pinned.paths.pinned_lock.unlink()
    verdicts = found(machine_inputs.image, loose)
    assert {verdict.state for verdict in verdicts} == {"warn"}
    assert [verdict.finding.partition(";")[0] for verdict in verdicts] == [
        "this machine's programs compile and pack it",
        "no lock pins the inputs",
    ]
    # One that is unpacked in the cache folder is no package of the machine.
    assert ("gcc " in verdicts[0].finding) == Path("/usr/share/doc/gcc").exists()
    assert verdicts[1].fix == "./doit lock"
    # The toolchain of the kernel alone counts, too.
    kernel = with_profile(pinned, kernel=replace(pinned.profile.kernel, toolchain="host"))
    assert "this machine's programs" in found(machine_inputs.image, kernel)[0].finding


def test_a_build_root_that_is_not_made_is_no_fault(pinned: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(entry.VARIABLE, "root")
    (verdict,) = found(machine_inputs.toolchain, pinned)
    assert (verdict.name, verdict.state) == ("toolchain debian12", "ok")
    assert verdict.finding == "a build root that the first build makes (TCBUILD_TOOLCHAIN=root)"
    (verdict,) = found(machine_inputs.toolchain, with_profile(pinned, toolchain="host"))
    assert verdict.finding == "the programs of this machine"


def test_the_system_is_named_as_it_names_itself(
    pinned: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TCBUILD_CACHE", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    release = {"ID": "debian", "PRETTY_NAME": "Debian GNU/Linux forky/sid", "VERSION_CODENAME": "forky"}
    monkeypatch.setattr(host, "os_release", lambda: release)
    added = host.added_folder()
    added.mkdir(parents=True)
    (added / "packages").write_text("patch\nxz-utils\n")
    (verdict,) = found(machine_inputs.system, pinned)
    assert verdict.finding.startswith("Debian GNU/Linux forky/sid, Python 3.")
    assert verdict.finding.endswith(f"user 12345 without root; unpacked in {added}: patch xz-utils")
