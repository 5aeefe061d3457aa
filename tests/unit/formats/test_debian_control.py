# SPDX-License-Identifier: MIT
"""Debian's control data and versions, as deb-control(5) and deb-version(7) have them."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest

from tasks.formats import debian_control
from tasks.util.errors import UserError
from tests.support import debs

TEXT = """\
Package: a
Description: short
 long
 Package: not a field
section: admin/x

Package: b
"""
# In ascending order.
VERSIONS = ("0~1-1", "1.0~rc1-1", "1.0-1", "1.0-1+b1", "1.0-1.1", "1.0+dfsg-1", "1.2", "1.10", "1.a", "1:0.1")


def test_stanzas_are_read() -> None:
    one, two = debian_control.stanzas(TEXT)
    assert (one["Package"], one["Section"], two["Package"]) == ("a", "admin/x", "b")
    assert "Section" not in two
    assert debian_control.stanzas("") == []
    assert debian_control.stanzas("\n\n") == []


@pytest.mark.parametrize("packer", ["xz", "gzip", "zstd", "none"])
def test_the_control_file_of_a_package_is_read_as_dpkg_reads_it(tmp_path: Path, packer: str) -> None:
    deb = debs.write(tmp_path / "some.deb", {"usr/bin/some": b"x"})
    unpacked = tmp_path / "unpacked"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, unpacked], check=True)
    options = [f"-Z{packer}", "--uniform-compression", "--root-owner-group", "--build"]
    subprocess.run(["dpkg-deb", *options, unpacked, deb], check=True, capture_output=True)
    said = subprocess.run(["dpkg-deb", "--field", deb], check=True, capture_output=True, text=True).stdout
    found = debian_control.of_package(deb)
    assert dict(found) == dict(debian_control.stanzas(said)[0])
    assert found["Package"] == "some"


@pytest.mark.parametrize("keep", [0, 7, 60, 100, 200])
def test_a_package_that_is_cut_short_is_named(tmp_path: Path, keep: int) -> None:
    deb = debs.write(tmp_path / "some.deb", {"usr/bin/some": b"x"})
    deb.write_bytes(deb.read_bytes()[:keep])
    with pytest.raises(UserError, match=f"^{deb}: the package is damaged or cut short"):
        debian_control.of_package(deb)


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("", []),
        (" ", []),
        ("libc6", ["libc6"]),
        ("a (>= 1:2~), b:any | c++ (= 1) ,\n d [amd64]", ["a", "b", "c++", "d"]),
    ],
)
def test_names_in_a_relationship_field(field: str, names: list[str]) -> None:
    assert debian_control.related_packages(field) == names


def test_versions_are_ordered_as_dpkg_orders_them() -> None:
    for one, other in itertools.combinations(VERSIONS, 2):
        assert debian_control.version(one) < debian_control.version(other)
        assert subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=False).returncode == 0


@pytest.mark.parametrize("text", ["", "1 2", "1:"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not a version of a Debian package"):
        debian_control.version(text)
