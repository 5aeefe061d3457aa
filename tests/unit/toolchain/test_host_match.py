# SPDX-License-Identifier: MIT
"""When this machine's programs stand in for those of a build root."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tasks.origins.distribution import Suite
from tasks.origins.lock import LockedPackage
from tasks.toolchain import host_match
from tasks.toolchain.build_root import BuildRoot
from tasks.toolchain.host_match import Installed

ROOT = BuildRoot(
    Suite("debian", "bookworm"), makers=("gcc-12", "xorriso"), helpers=("make",), unwanted=("pahole",)
)
LOCKED = [
    LockedPackage("gcc-12", "12.2.0-14+deb12u1", "0" * 64),
    LockedPackage("make", "4.3-4.1", "0" * 64),
    LockedPackage("xorriso", "1.5.4-4", "0" * 64),
]
HERE = {"gcc-12": "12.2.0-14+deb12u1", "make": "4.3-4", "xorriso": "1.5.4-4"}

FILES = host_match._files


def here(changed: Mapping[str, str | None] = HERE) -> Callable[[tuple[str, ...]], dict[str, Installed]]:
    """Return dpkg's answer: `HERE` with other versions; None for a package that is not installed."""
    there = {name: Installed(version, name) for name, version in {**HERE, **changed}.items() if version}
    return lambda names: {name: there[name] for name in names if name in there}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with nothing in /usr/local and without pahole."""
    monkeypatch.setattr(host_match, "LOCAL", (str(tmp_path),))
    monkeypatch.setattr(host_match, "LOCAL_LIBRARIES", (str(tmp_path),))
    monkeypatch.setattr(host_match, "_files", lambda packages: frozenset())
    host_match._replaced.cache_clear()
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
        ({"make": None}, "make is not installed here"),
        ({"make": None, "xorriso": "2"}, "xorriso is 2 here, 1.5.4-4 in the toolchain"),
    ],
)
def test_the_packages_that_write_results_must_have_the_locked_versions(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str | None], said: str
) -> None:
    monkeypatch.setattr(host_match, "_installed", here(changed))
    assert host_match.difference(ROOT, LOCKED) == said


def test_a_program_that_the_kernels_build_would_find_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_match, "_installed", here())
    monkeypatch.setattr("shutil.which", lambda program, path: f"/usr/bin/{program}")
    assert host_match.difference(ROOT, LOCKED) == "this machine has pahole, the toolchain has not"


def test_a_program_of_ones_own_in_usr_local_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host_match, "_installed", here())
    for name in ("python3", "sh", "nobody-has-this"):
        (tmp_path / name).touch()
    assert host_match.difference(ROOT, LOCKED) == f"{tmp_path}/sh hides a file of the distribution"


def test_a_library_of_ones_own_in_usr_local_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host_match, "_installed", here())
    (tmp_path / "libc.so.6").touch()
    assert host_match.difference(ROOT, LOCKED) == f"{tmp_path}/libc.so.6 hides a file of the distribution"


def test_a_link_to_another_program_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As /usr/bin/gcc -> /etc/alternatives/gcc -> gcc-11, while gcc-12 is installed as it is locked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    link, wanted, other = (folder / name for name in ("gcc", "gcc-12", "gcc-11"))
    wanted.touch()
    other.touch()
    files = {str(link), str(wanted), str(folder / "not-a-program")}
    monkeypatch.setattr(host_match, "PROGRAM", re.compile(r".*/gcc.*"))
    monkeypatch.setattr(host_match, "_installed", here())
    monkeypatch.setattr(host_match, "_files", lambda packages: files)
    link.symlink_to("gcc-12")
    assert host_match.difference(ROOT, LOCKED) == ""
    link.unlink()
    assert host_match.replaced(files) == [str(link)]  # it is gone
    link.symlink_to("gcc-11")
    host_match._replaced.cache_clear()  # as another run
    assert host_match.difference(ROOT, LOCKED) == f"{link} is not the program of its package"


def test_programs_of_packages_are_their_own_here() -> None:
    there = host_match._installed(("coreutils", "libc6", "mawk"))
    files = FILES(tuple(one.query for one in there.values()))
    assert "/usr/bin/mawk" in files
    assert not files.isdisjoint({"/bin/ls", "/usr/bin/ls"}), "Debian 13 names it by where it is"
    assert host_match.replaced(files) == []


def test_dpkg_is_asked_for_the_installed_ones() -> None:
    there = host_match._installed(("coreutils", "no-such-package"))
    assert set(there) == {"coreutils"}
