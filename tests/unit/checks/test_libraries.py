# SPDX-License-Identifier: MIT
"""Libraries an extension needs, and who brings what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.checks import libraries
from tasks.formats import cpio
from tasks.util.errors import UserError
from tests.support.images import shared

LD = "/lib64/ld-linux-x86-64.so.2"


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libseccomp.so.2", "libseccomp2"),
        ("libip4tc.so.2", "libip4tc2"),
        ("libnetfilter_conntrack.so.3", "libnetfilter-conntrack3"),
        ("libpcre2-8.so.0", "libpcre2-8-0"),
        ("libX11.so.6", "libx11-6"),
        ("libfoo1-2.so", "libfoo1-2"),
        ("libssl.so.1.1", "libssl1.1"),
    ],
)
def test_debians_name_for_a_library(library: str, package: str) -> None:
    assert libraries.package_name(library) == package


def write(folder: Path, files: dict[str, bytes]) -> dict[str, Path]:
    found = {}
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        found[f"/{name}"] = path
    return found


def test_mapped_takes_libraries_and_links(tmp_path: Path) -> None:
    members = [
        cpio.directory("lib"),
        cpio.regular("lib/libx.so.1.2", b"one"),
        cpio.symlink("lib/libx.so.1", "libx.so.1.2"),
        cpio.symlink("lib64", "lib"),
        cpio.regular("bin/tool", b"no library"),
        cpio.regular("lib/pam.so", b"two"),
        cpio.regular("etc/notes.sought", b"no library"),
    ]
    found = libraries.extract(members, tmp_path / "base")
    assert list(found) == ["/lib/libx.so.1.2", "/lib/libx.so.1", "/lib64", "/lib/pam.so"]
    assert found["/lib/libx.so.1.2"].read_bytes() == b"one"
    assert os.readlink(found["/lib64"]) == "lib"


def test_base_and_dependencies_are_looked_in(tmp_path: Path) -> None:
    """The base's folder link counts, too."""
    program = shared("libx.so.1", "libown.so.1", interpreter=LD)
    own = write(tmp_path, {"usr/bin/tool": program, "usr/lib/libown.so.1": shared("libx.so.1")})
    members = [cpio.regular("lib/libx.so.1", shared()), cpio.symlink("lib64", "lib")]
    members.append(cpio.regular("lib/ld-linux-x86-64.so.2", shared()))
    below = libraries.extract(members, tmp_path / "base")
    libraries.check("tool", own, below, [])


def test_missing_ones_are_named_with_their_files(tmp_path: Path) -> None:
    own = write(
        tmp_path,
        {"usr/bin/tool": shared("libno-such.so.7"), "usr/lib/liby.so": shared("libno-such-either.so.1")},
    )
    with pytest.raises(UserError, match=r"extension x: usr/bin/tool needs libno-such\.so\.7") as caught:
        libraries.check("x", own, {}, [])
    assert "usr/lib/liby.so needs libno-such-either.so.1" in caught.value.detail
    assert caught.value.hint.startswith("add it to the extension's files")
