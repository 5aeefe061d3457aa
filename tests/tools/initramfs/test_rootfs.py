# SPDX-License-Identifier: MIT
"""The boot scripts in real BusyBox, and the archive made from real packages."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tasks.config import inputs, rootfs_rules
from tasks.config.settings import Settings
from tasks.formats import elf, initramfs_file
from tasks.formats.cpio import Member
from tasks.initramfs import rootfs
from tasks.initramfs.rootfs import OVERLAY
from tasks.origins.lock import CORE
from tasks.util.errors import UserError
from tasks.util.files import sha256_file
from tests.support.built import built
from tests.support.settings import with_values

BUSYBOX = "/bin/busybox"
RELEASE = "6.12.1-tcbuild"


def ash(script: str, *arguments: str, cwd: Path | None = None) -> str:
    """Run a script in BusyBox ash and return its output."""
    done = subprocess.run(
        [BUSYBOX, "ash", "-eu", "-c", script, "ash", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def scripts() -> list[Path]:
    read = (".profile", ".ashrc", "profile", "tc-functions", "tce-functions")
    files = [path for path in sorted(OVERLAY.rglob("*")) if path.is_file()]
    return [path for path in files if os.access(path, os.X_OK) or path.name in read]


@pytest.mark.parametrize("path", scripts(), ids=lambda path: str(path.relative_to(OVERLAY)))
def test_scripts_parse(path: Path) -> None:
    done = subprocess.run([BUSYBOX, "ash", "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_executables_start_with_an_interpreter_of_the_image() -> None:
    """A script without `#!` runs from a shell, but not from init, sudo or udhcpc."""
    known = {b"#!/bin/sh", b"#!/bin/busybox ash"}
    for path in OVERLAY.rglob("*"):
        if path.is_file():
            first = path.read_bytes().split(b"\n")[0]
            assert os.access(path, os.X_OK) == first.startswith(b"#!"), path
            assert not first.startswith(b"#!") or first in known, path


# --- dependencies ----------------------------------------------------------


def tce_order(folder: Path, name: str) -> tuple[list[str], list[str], list[str]]:
    """Return ORDER, MISSING and LOOPS of the image's own tce_order."""
    said = ash(
        '. "$1"; tce_order "$2" "$3" "$4"; echo "$ORDER"; echo "$MISSING"; echo "$LOOPS"',
        *(str(OVERLAY / "etc/init.d/tce-functions"), name, str(folder), RELEASE),
    )
    order, missing, loops = (line.split() for line in said.split("\n")[:3])
    return order, missing, loops


def make_extensions(folder: Path, **deps: str) -> Path:
    """Make empty NAME.tcz files and their .dep; `_` in a name stands for `-`."""
    for name, content in deps.items():
        name = name.replace("_", "-")
        (folder / f"{name}.tcz").touch()
        if content:
            (folder / f"{name}.tcz.dep").write_text(content, newline="")
    return folder


@pytest.mark.parametrize(
    ("deps", "order", "missing", "loops"),
    [
        ({"a": ""}, ["a"], [], []),
        ({"a": "b.tcz\nc.tcz\n", "b": "c.tcz\n", "c": ""}, ["c", "b", "a"], [], []),
        ({"a": "b.tcz", "b": ""}, ["b", "a"], [], []),  # no newline at the end
        ({"a": "b.tcz\r\nc.tcz \r\n\r\n", "b": "", "c": ""}, ["b", "c", "a"], [], []),
        ({"a": "# why\n\tb.tcz\t# because\n", "b": ""}, ["b", "a"], [], []),
        ({"a": "b.tcz\n", "b": "a.tcz\n"}, ["b", "a"], [], ["a"]),
        ({"a": "a.tcz\n"}, ["a"], [], ["a"]),
        ({"a": "b.tcz\n", "b": "gone.tcz\n"}, ["gone", "b", "a"], ["gone"], []),
        ({"a": "net-KERNEL.tcz\n"}, [f"net-{RELEASE}", "a"], [f"net-{RELEASE}"], []),
        ({"a": "KERNEL-notes.tcz\n", "KERNEL_notes": ""}, ["KERNEL-notes", "a"], [], []),
        ({"a": "b\n", "b": ""}, ["b", "a"], [], []),  # .tcz left out
    ],
)
def test_order_of_dependencies(
    tmp_path: Path, deps: dict[str, str], order: list[str], missing: list[str], loops: list[str]
) -> None:
    found = tce_order(make_extensions(tmp_path, **deps), "a.tcz")
    assert found == tuple([f"{name}.tcz" for name in names] for names in (order, missing, loops))


GRAPHS = st.lists(st.lists(st.integers(0, 7), max_size=4), min_size=8, max_size=8)


@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(GRAPHS)
def test_order_of_any_graph(tmp_path: Path, graph: list[list[int]]) -> None:
    """All that can be reached comes once, each after its dependencies; cycles are named."""
    for number, needs in enumerate(graph):
        (tmp_path / f"x{number}.tcz").touch()
        (tmp_path / f"x{number}.tcz.dep").write_text("".join(f"x{need}.tcz\n" for need in needs))
    order, missing, loops = tce_order(tmp_path, "x0.tcz")
    numbers = [int(name[1:-4]) for name in order]
    reached, new = {0}, {0}
    while new:
        new = {need for number in new for need in graph[number]} - reached
        reached |= new
    assert sorted(numbers) == sorted(reached)
    assert missing == []
    late = {need for place, number in enumerate(numbers) for need in graph[number] if need in numbers[place:]}
    assert late == {int(name[1:-4]) for name in loops}


# --- functions that extensions source --------------------------------------


def functions(script: str, *arguments: str, cwd: Path | None = None) -> str:
    return ash(f". {OVERLAY}/etc/init.d/tc-functions; {script}", *arguments, cwd=cwd)


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        (" quiet tce=sda1 cde", "tce", "tce=sda1"),
        (" tce=sda1 tce=sdb1/x", "tce", "tce=sdb1/x"),
        (" xtce=sda1", "tce", "absent"),
        (" tce", "tce", "absent"),
        (" tce=", "tce", "tce="),
        (" user=a=b", "user", "user=a=b"),
    ],
)
def test_getparam(words: str, name: str, expected: str) -> None:
    found = functions('v=$(getparam "$1" "$2") && echo "$1=$v" || echo absent', name, words)
    assert found == expected + "\n"


def test_text_functions(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one\n<mark>\ntwo\n<end>\nthree\n")
    (tmp_path / "new").write_text("new\n")
    said = functions("getbasefile /a/b.tar.gz 2; merge new file '<mark>'", cwd=tmp_path)
    assert said == "b\none\nnew\n<mark>\ntwo\n<end>\nthree\n"
    assert functions("replace new file '<mark>'", cwd=tmp_path) == "one\nnew\ntwo\n<end>\nthree\n"
    assert functions("purge file '<mark>' '<end>'", cwd=tmp_path) == "one\n<mark>\n<end>\nthree\n"
    assert functions("trim '  a   b '") == "a b\n"


# --- the archive -----------------------------------------------------------


@pytest.fixture(scope="module")
def image() -> Settings:
    settings = built()
    if not settings.profile.core.rootfs:
        pytest.skip("this profile boots Tiny Core's own root")
    return settings


@pytest.fixture(scope="module")
def content(image: Settings) -> dict[str, Member]:
    return initramfs_file.merged(initramfs_file.read_core(image.paths.output / "rootfs64.gz"))


@pytest.mark.parametrize(
    ("name", "mode", "uid", "gid"),
    [
        (".", stat.S_IFDIR | 0o755, 0, 0),
        ("init", stat.S_IFREG | 0o755, 0, 0),
        ("bin/busybox", stat.S_IFREG | 0o755, 0, 0),
        ("bin/busybox.suid", stat.S_IFREG | 0o4755, 0, 0),
        ("usr/bin/sudo", stat.S_IFREG | 0o4755, 0, 0),
        ("etc/sudoers", stat.S_IFREG | 0o440, 0, 0),
        ("etc/shadow", stat.S_IFREG | 0o640, 0, 42),
        ("etc/sysconfig", stat.S_IFDIR | 0o775, 0, 50),
        ("opt/bootlocal.sh", stat.S_IFREG | 0o775, 0, 50),
        ("tmp", stat.S_IFDIR | 0o1777, 0, 0),
        ("usr/local/tce.installed", stat.S_IFDIR | 0o775, 1001, 50),
        ("dev/console", stat.S_IFCHR | 0o600, 0, 0),
        ("sbin/init", stat.S_IFLNK | 0o777, 0, 0),
    ],
)
def test_owners_and_modes(content: dict[str, Member], name: str, mode: int, uid: int, gid: int) -> None:
    member = content[name]
    assert (oct(member.mode), member.uid, member.gid) == (oct(mode), uid, gid)


def test_only_what_is_ruled_is_set_id(content: dict[str, Member]) -> None:
    found = {name for name, member in content.items() if member.kind == stat.S_IFREG and member.mode & 0o6000}
    assert found == {"bin/busybox.suid", "bin/su", "usr/bin/passwd", "usr/bin/sudo"}


def test_folders_that_extensions_merge_into_are_real(content: dict[str, Member]) -> None:
    for name in ("bin", "sbin", "lib", "lib64", "usr/bin", "usr/sbin", "usr/lib", "usr/local", "etc", "opt"):
        assert content[name].kind == stat.S_IFDIR, name


def test_programs_of_packages_are_not_covered_by_busybox(content: dict[str, Member]) -> None:
    for name in ("bin/tar", "bin/kmod", "bin/su", "sbin/blkid", "sbin/ldconfig", "usr/bin/passwd"):
        assert content[name].data.startswith(elf.MAGIC), name
    assert content["sbin/modprobe"].data == b"/bin/kmod"
    assert content["bin/mount"].data == b"/bin/busybox.suid"
    assert content["bin/sh"].data == b"/bin/busybox"


def test_the_size_stays_small(image: Settings) -> None:
    assert (image.paths.output / "rootfs64.gz").stat().st_size < 12_000_000


def test_same_inputs_give_the_same_bytes(image: Settings, tmp_path: Path) -> None:
    """Built again in another folder, under another umask."""
    again = with_values(image, output=tmp_path / "deep/er/output")
    again.paths.lock_part("rootfs").parent.mkdir(parents=True)
    shutil.copy(image.paths.lock_part("rootfs"), again.paths.lock_part("rootfs"))
    before = os.umask(0o077)
    try:
        rootfs.build(again)
    finally:
        os.umask(before)
    for name in ("rootfs64.gz", "rootfs.index"):
        assert sha256_file(again.paths.output / name) == sha256_file(image.paths.output / name)
    assert sorted(path.name for path in again.paths.output.iterdir()) == [
        "core-parts",
        "locks",
        "rootfs.index",
        "rootfs64.gz",
    ]


def packages_of(image: Settings, *absent: str) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the packages that the profile names, and those of their libraries without `absent`."""
    part = image.paths.lock_part("rootfs")
    more = inputs.library_packages(image.paths, part, CORE)
    named = inputs.package_files(image.paths, part, image.profile.core.packages)
    return named, {name: deb for name, deb in more.items() if name not in absent}


def test_a_missing_library_is_named_with_what_needs_it(image: Settings, tmp_path: Path) -> None:
    root = tmp_path / "root"
    rules = rootfs_rules.load()
    debs, more = packages_of(image, "libcap-ng0")
    with pytest.raises(UserError) as caught:
        architecture = image.profile.architecture
        rootfs.assemble(rules, architecture, debs, more, [OVERLAY], root, image.paths.name, tmp_path / "kept")
    assert "needs libcap-ng.so.0, which is not in the root" in caught.value.message
    assert "./doit lock profile=apt" in caught.value.hint


def test_an_interrupted_build_leaves_the_old_result(image: Settings, tmp_path: Path) -> None:
    out = with_values(image, output=tmp_path)
    out.paths.lock_part("rootfs").parent.mkdir()
    shutil.copy(image.paths.lock_part("rootfs"), out.paths.lock_part("rootfs"))
    (tmp_path / "rootfs64.gz").write_bytes(b"old")
    broken = replace(image.profile, core=replace(image.profile.core, packages=("busybox", "libc6")))
    with pytest.raises(UserError):
        rootfs.build(replace(out, profile=broken))
    assert (tmp_path / "rootfs64.gz").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["core-parts", "locks", "rootfs64.gz"]
