# SPDX-License-Identifier: MIT
"""Libraries that files lack, found in unpacked packages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.formats import cpio, libraries
from tests.support.images import shared

LD = "/lib64/ld-linux-x86-64.so.2"
LIB = "/usr/lib/x86_64-linux-gnu"


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


class Folder:
    """Files for `libraries.complete`; content "-> x" makes a link."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def files(self, contents: dict[str, bytes]) -> dict[str, Path]:
        found = {}
        for path, content in contents.items():
            file = self.top / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            if content.startswith(b"-> "):
                file.symlink_to(content[3:].decode())
            else:
                file.write_bytes(content)
            found[path] = file
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_libraries_of_libraries_are_found_with_the_targets_of_links(folder: Folder) -> None:
    program = folder.files({"/usr/bin/tool": shared("libx.so.1", interpreter=LD)})
    loader = folder.files({LD: b"-> ../lib/ld.so", "/lib/ld.so": shared()})
    package = folder.files(
        {
            f"{LIB}/libx.so.1": b"-> libx.so.1.2",
            f"{LIB}/libx.so.1.2": shared("liby.so.2", soname="libx.so.1"),
            f"{LIB}/libx-extra.so.1": shared(soname="libx-extra.so.1"),
        }
    )
    other = folder.files({f"{LIB}/liby.so.2": shared(soname="liby.so.2"), f"{LIB}/sub/liby.so.3": b""})
    find = libraries.finder([package, other, loader])
    assert set(libraries.complete(program, {}, find)) == {
        LD,
        "/lib/ld.so",
        f"{LIB}/libx.so.1",
        f"{LIB}/libx.so.1.2",
        f"{LIB}/liby.so.2",
    }
    below = {path: file for path, file in {**package, **loader}.items() if "extra" not in path}
    assert set(libraries.complete(program, below, find)) == set(), (
        "what is below is complete or checked there"
    )


def test_who_lacks_a_library_is_said_and_nobody_is_asked_twice(folder: Folder) -> None:
    program = folder.files({"/usr/bin/a": shared("libgone.so.1", "libx.so.1")})
    package = folder.files({f"{LIB}/libx.so.1": shared("libgone.so.1", soname="libx.so.1")})
    asked: list[tuple[str, str]] = []

    def find(name: str, path: str) -> dict[str, Path]:
        asked.append((name, path))
        return libraries.provided(package, name)

    found = libraries.complete(program, {}, find, wanted=("libwanted.so.3",))
    assert list(found) == [f"{LIB}/libx.so.1"]
    assert asked == [("libgone.so.1", "/usr/bin/a"), ("libx.so.1", "/usr/bin/a"), ("libwanted.so.3", "")]


def test_a_library_brings_its_companions(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"libx.so.1": ("libloaded.so.2", "etc/x/*")}
    monkeypatch.setattr(libraries, "companions", lambda: data)
    program = folder.files({"/usr/bin/a": shared("libx.so.1")})
    package = folder.files(
        {f"{LIB}/libx.so.1": shared(soname="libx.so.1"), "/etc/x/conf": b"", "/etc/y": b""}
    )
    other = folder.files({f"{LIB}/libloaded.so.2": shared(soname="libloaded.so.2")})
    found = libraries.complete(program, {}, libraries.finder([package, other]))
    assert set(found) == {f"{LIB}/libx.so.1", "/etc/x/conf", f"{LIB}/libloaded.so.2"}


def test_a_library_elsewhere_than_ld_so_searches_provides_nothing(folder: Folder) -> None:
    tree = folder.files({"/usr/lib/private/libx.so.1": b"x", "/usr/share/libx.so.1": b"x"})
    assert libraries.provided(tree, "libx.so.1") == {}
    assert set(libraries.provided(tree, "usr/share/*")) == {"/usr/share/libx.so.1"}
