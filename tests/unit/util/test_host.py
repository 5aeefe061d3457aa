# SPDX-License-Identifier: MIT
"""Which package brings a program of this machine, whatever its distribution calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.util import host

TABLE = """
[build]
sh = "dash"
nothere = "tool-a"
"/not/there.h" = "tool-dev"
neither = "tool-b"
[names.ubuntu]
tool-a = "tool-a-deb"
tool-b = "tool-b-deb"
[names.jammy]
tool-b = ""
"""


@pytest.mark.parametrize("tool", ["mksquashfs", "xorriso", "qemu-system-x86_64", "make"])
def test_host_toml_names_the_package_of(tool: str) -> None:
    assert host.package_of(tool)


@pytest.mark.parametrize(
    ("release", "missing"),
    [
        ({}, ["tool-a", "tool-b", "tool-dev"]),
        ({"ID": "debian", "VERSION_CODENAME": "trixie"}, ["tool-a", "tool-b", "tool-dev"]),
        ({"ID": "ubuntu", "VERSION_CODENAME": "noble"}, ["tool-a-deb", "tool-b-deb", "tool-dev"]),
        ({"ID": "ubuntu", "VERSION_CODENAME": "jammy"}, ["tool-a-deb", "tool-dev"]),
    ],
)
def test_packages_have_the_names_of_this_distribution(
    release: dict[str, str], missing: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name in a release comes before that in its distribution; a package may not exist in one."""
    (tmp_path / "host.toml").write_text(TABLE)
    monkeypatch.setattr(host, "FILE", tmp_path / "host.toml")
    monkeypatch.setattr(host, "os_release", lambda: release)
    assert host.groups().keys() == {"build"}
    assert host.missing_packages(host.groups()["build"], "/usr/bin:/bin") == missing
    assert host.missing_tools(host.groups()["build"], "/usr/bin:/bin") == [
        "nothere",
        "/not/there.h",
        "neither",
    ]
    assert host.package_of("neither") == ("" if release.get("VERSION_CODENAME") == "jammy" else missing[1])


def test_every_other_name_is_of_a_package_in_a_group() -> None:
    packages = {package for tools in host.groups().values() for package in tools.values()}
    for system, names in host._table()[host.NAMES].items():
        assert names.keys() <= packages, system
