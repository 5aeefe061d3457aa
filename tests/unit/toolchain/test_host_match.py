# SPDX-License-Identifier: MIT
"""When this machine's programs stand in for those of a build root."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tasks.origins.distribution import Suite
from tasks.origins.lock import LockedPackage
from tasks.toolchain import host_match
from tasks.toolchain.build_root import BuildRoot

ROOT = BuildRoot(
    Suite("debian", "bookworm"), makers=("gcc-12", "xorriso"), helpers=("make",), unwanted=("pahole",)
)
LOCKED = [
    LockedPackage("gcc-12", "12.2.0-14+deb12u1", "0" * 64),
    LockedPackage("make", "4.3-4.1", "0" * 64),
    LockedPackage("xorriso", "1.5.4-4", "0" * 64),
]
HERE = {"gcc-12": "12.2.0-14+deb12u1", "xorriso": "1.5.4-4"}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with nothing in /usr/local and without pahole."""
    monkeypatch.setattr(host_match, "LOCAL", (str(tmp_path),))
    which = shutil.which
    monkeypatch.setattr(
        "shutil.which", lambda name, path: None if name == "pahole" else which(name, path=path)
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"make": "9"}, ""),
        ({"xorriso": "1.5.4-4+b3"}, ""),
        ({"gcc-12": "12.2.0-14"}, "gcc-12 is 12.2.0-14 here, 12.2.0-14+deb12u1 in the toolchain"),
        ({"gcc-12": None}, "gcc-12 is not installed here"),
    ],
)
def test_the_packages_that_write_results_must_have_the_locked_versions(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str | None], said: str
) -> None:
    there = {name: version for name, version in {**HERE, **changed}.items() if version}
    monkeypatch.setattr(
        host_match, "_installed", lambda names: {name: there[name] for name in names if name in there}
    )
    assert host_match.difference(ROOT, LOCKED) == said


def test_a_program_that_the_kernels_build_would_find_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_match, "_installed", lambda names: HERE)
    monkeypatch.setattr("shutil.which", lambda program, path: f"/usr/bin/{program}")
    assert host_match.difference(ROOT, LOCKED) == "this machine has pahole, the toolchain has not"


def test_a_program_of_ones_own_in_usr_local_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host_match, "_installed", lambda names: HERE)
    for name in ("python3", "sh", "nobody-has-this"):
        (tmp_path / name).touch()
    assert host_match.difference(ROOT, LOCKED) == f"{tmp_path}/sh hides a program of the distribution"


def test_dpkg_is_asked_for_the_installed_ones() -> None:
    there = host_match._installed(("coreutils", "no-such-package"))
    assert set(there) == {"coreutils"}
