# SPDX-License-Identifier: MIT
"""Libraries an extension needs, and who brings what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.checks import libraries
from tasks.checks.left_out import LeftOut
from tasks.config import architecture
from tasks.formats import cpio
from tasks.formats.libraries import extract
from tasks.util.errors import UserError
from tests.support import images
from tests.support.images import shared

PC = architecture.load("x86_64")
LD = "/lib64/ld-linux-x86-64.so.2"


def write(folder: Path, files: dict[str, bytes]) -> dict[str, Path]:
    found = {}
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        found[f"/{name}"] = path
    return found


def test_base_and_dependencies_are_looked_in(tmp_path: Path) -> None:
    """The base's folder link counts, too."""
    program = shared("libx.so.1", "libown.so.1", interpreter=LD)
    own = write(tmp_path, {"usr/bin/tool": program, "usr/lib/libown.so.1": shared("libx.so.1")})
    members = [cpio.regular("lib/libx.so.1", shared()), cpio.symlink("lib64", "lib")]
    members.append(cpio.regular("lib/ld-linux-x86-64.so.2", shared()))
    below = extract(members, tmp_path / "base")
    libraries.check("tool", PC, own, {"the base": below}, [])


@pytest.mark.parametrize("place", ["base", "own"])
@pytest.mark.parametrize(
    "configuration",
    [
        {"etc/ld.so.conf": b"# comment\n/usr/lib/mine/  # mine\n"},
        {
            "etc/ld.so.conf": b"include /etc/ld.so.conf.d/*.conf\n",
            "etc/ld.so.conf.d/m.conf": b"/usr/lib/mine\n",
        },
        {"etc/ld.so.conf": b"include ld.so.conf.d/*.conf", "etc/ld.so.conf.d/m.conf": b"/usr/lib/mine"},
    ],
)
def test_a_folder_of_ld_so_conf_is_looked_in(
    tmp_path: Path, place: str, configuration: dict[str, bytes]
) -> None:
    program = {"usr/bin/tool": shared("libx.so.1", interpreter=LD), "usr/lib/mine/libx.so.1": shared()}
    own = {} if place == "base" else configuration
    others = configuration if place == "base" else {}
    members = [cpio.regular(name, content) for name, content in others.items()]
    members.append(cpio.regular("lib64/ld-linux-x86-64.so.2", shared()))
    below = extract(members, tmp_path / "base")
    libraries.check("tool", PC, write(tmp_path, program | own), {"the base": below}, [])
    with pytest.raises(UserError, match=r"usr/bin/tool needs libx\.so\.1"):
        there = {path: file for path, file in below.items() if "conf" not in path}
        files = {path: file for path, file in write(tmp_path, program | own).items() if "conf" not in path}
        libraries.check("tool", PC, files, {"the base": there}, [])


C = "libc.so.6"


def test_a_version_that_the_base_lacks(tmp_path: Path) -> None:
    """The highest one is named, and where each library is."""
    base = {
        "/lib/libc.so.6": shared(defines=["GLIBC_2.2.5", "GLIBC_2.9", "GLIBC_2.36", "GLIBC_PRIVATE"]),
        "/lib/libq.so": shared(defines=["QUIET"]),
    }
    dep = {"/lib/libd.so": shared(C, defines=["D_1", "D_3"], versions={C: ["GLIBC_2.99"]})}
    own = {
        "usr/local/bin/x": shared(
            C, "libd.so", versions={C: ["GLIBC_2.37", "GLIBC_2.99"], "libd.so": ["D_2"]}
        ),
        "usr/local/lib/liby.so": shared("libz.so", versions={"libz.so": ["Z_1.10"]}),
        "usr/local/lib/libz.so": shared("libq.so", defines=["Z_1.9"], versions={"libq.so": ["LOUD"]}),
    }
    below = {
        label: write(tmp_path / label, {path[1:]: content for path, content in files.items()})
        for label, files in {"the base": base, "extension d": dep}.items()
    }
    with pytest.raises(UserError) as caught:
        libraries.check("x", PC, write(tmp_path, own), below, [])
    assert caught.value.message == (
        "extension x: lib/libd.so needs GLIBC_2.99 of libc.so.6; the base has up to 2.36"
    )
    assert caught.value.detail.splitlines()[1:] == [
        "  usr/local/bin/x needs GLIBC_2.99 of libc.so.6; the base has up to 2.36",
        "  usr/local/bin/x needs D_2 of libd.so; extension d does not have it",
        "  usr/local/lib/liby.so needs Z_1.10 of libz.so; the extension has up to 1.9",
        "  usr/local/lib/libz.so needs LOUD of libq.so; the base does not have it",
    ]


def test_a_library_that_the_base_keeps(tmp_path: Path) -> None:
    """tce-load does not replace it, so the newer one in the extension does not help."""
    below = write(tmp_path / "base", {"lib/liba.so": shared(defines=["A_1"])})
    program = shared("liba.so", versions={"liba.so": ["A_2"]})
    own = write(tmp_path, {"usr/bin/x": program, "lib/liba.so": shared(defines=["A_1", "A_2"])})
    with pytest.raises(UserError, match=r"usr/bin/x needs A_2 of liba\.so; the base has up to 1"):
        libraries.check("x", PC, own, {"the base": below}, [])


def test_a_library_of_another_machine(tmp_path: Path) -> None:
    base = write(tmp_path / "base", {"lib/libc.so.6": shared()})
    arm = shared(C, machine=images.AARCH64)
    with pytest.raises(UserError) as caught:
        libraries.check("x", PC, write(tmp_path, {"usr/lib/x/plugin.node": arm}), {"the base": base}, [])
    assert caught.value.message == "extension x: usr/lib/x/plugin.node is for aarch64, not for x86-64"
    with pytest.raises(UserError, match=r"usr/bin/old \(32-bit x86\) needs libc\.so\.6, which is neither"):
        old = shared(C, machine=images.I386, bits=32)
        libraries.check("x", PC, write(tmp_path, {"usr/bin/old": old}), {"the base": base}, [])
    small = architecture.load("x86")
    with pytest.raises(UserError, match="usr/bin/new is for x86-64, not for 32-bit x86") as caught:
        libraries.check("x", small, write(tmp_path, {"usr/bin/new": shared(C)}), {}, [])
    assert "(i386)" in caught.value.hint
    blobs = {"usr/lib/firmware/x.bin": arm, "usr/lib/debug/.build-id/00/1.debug": arm, "lib/firmware/y": arm}
    libraries.check("x", PC, write(tmp_path, blobs), {"the base": base}, [])


@pytest.mark.parametrize("path", ["lib/libno-such.so.6", "lib/libno-such.so.6.3"])
def test_a_library_that_the_recipe_leaves_out(tmp_path: Path, path: str) -> None:
    """Also if the recipe keeps only the link to it."""
    own = write(tmp_path, {"usr/bin/x": shared("libno-such.so.6")})
    link = tmp_path / "libno-such.so.6"
    link.symlink_to("libno-such.so.6.3")
    out = [LeftOut("tool", "usr/share/doc/x", "drop"), LeftOut("libno-such6", path, "keep")]
    with pytest.raises(UserError) as caught:
        libraries.check("x", PC, {**own, "/lib/libno-such.so.6": link}, {}, [], out)
    assert caught.value.hint == f"libno-such6 has it as {path}, which `keep` in the recipe leaves out"


def test_a_root_with_a_version_that_it_lacks(tmp_path: Path) -> None:
    program = shared(C, versions={C: ["GLIBC_2.37"]})
    write(tmp_path / "root", {"bin/x": program, "lib/libc.so.6": shared(defines=["GLIBC_2.36"])})
    with pytest.raises(UserError, match=r"bin/x needs GLIBC_2\.37 of libc\.so\.6; the root has up to 2\.36"):
        libraries.check_root(tmp_path / "root", "apt", tmp_path / "verified")
    assert not (tmp_path / "verified").exists()


def test_missing_ones_are_named_with_their_files(tmp_path: Path) -> None:
    own = write(
        tmp_path,
        {"usr/bin/tool": shared("libno-such.so.7"), "usr/lib/liby.so": shared("libno-such-either.so.1")},
    )
    with pytest.raises(UserError, match=r"extension x: usr/bin/tool needs libno-such\.so\.7") as caught:
        libraries.check("x", PC, own, {}, [])
    assert "usr/lib/liby.so needs libno-such-either.so.1" in caught.value.detail
    assert caught.value.hint.startswith("add it to the extension's files")
