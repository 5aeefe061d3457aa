# SPDX-License-Identifier: MIT
"""Whole build roots, as they are locked; the kernel patches with the real patch."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

import pytest

from tasks.origins import suite
from tasks.toolchain import build_root, entry, host_match, tools
from tasks.toolchain.entry import Bind, Entry
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import sha256_file
from tasks.util.process import run

LOADED = {name: build_root.load(name) for name in build_root.names()}
COMPILERS = [name for name, loaded in LOADED.items() if loaded.compiler and loaded.root is not None]
SERIES = sorted((CHECKOUT.root / "patches").glob("*/series"))
LINUX_54 = os.environ.get("TCBUILD_LINUX_54", "")


def listed(series: Path) -> list[Path]:
    """Return the patch files a series names, in order."""
    lines = (line.split("#")[0].strip() for line in series.read_text().splitlines())
    return [series.parent / line for line in lines if line]


PATCHES = [patch for series in SERIES for patch in listed(series)]


def header(patch: Path) -> str:
    return patch.read_text().split("\n--- ", 1)[0]


def made(name: str, cache: Path) -> Path:
    """Fetch the packages of toolchain `name` and unpack them in a cache of the test."""
    root = build_root.load(name).root
    assert root is not None
    locked = build_root.lock(name)
    suite.fetch(root.suite, locked.package, cache, dates=locked.archive)
    return build_root.ensure(cache, name)


def entries(root: Path) -> list[Entry]:
    """Return the ways into `root` that work here, at least one."""
    found = []
    for way in ("bwrap", "proot"):
        with contextlib.suppress(UserError):
            found.append(entry._entered(root, "a test", way))
    assert found, "neither bwrap nor proot works here"
    return found


def test_this_machines_fingerprint_names_its_compiler(tmp_path: Path) -> None:
    version = run(["gcc", "-dumpfullversion"]).stdout.strip()
    assert f"gcc {version}," in tools.ready(tmp_path, build_root.HOST).fingerprint


NO_RESULT = re.compile(
    # The C library and its like, exact arithmetic, and loops that only -fgraphite asks for.
    r"ld-linux-.*|lib(c|m|pthread|gcc_s|stdc\+\+|gmp|mpc|mpfr|isl)"
    # Of the package binutils itself, and what it tells of packages and profiles.
    r"|lib(bfd-.*|opcodes-.*|ctf|ctf-nobfd|gprofng|jansson|sframe)"
    # They look at disks, speak with a terminal or a network, or give random names.
    r"|lib(acl|aio|blkid|com_err|devmapper|e2p|efiboot|efivar|freetype|fuse3?|mount|ncursesw|numa|readline)"
    r"|lib(selinux|smartcols|ss|tinfo|uring|uuid|jte|crypto|gnutls|hogweed|nettle|glib-2\.0|gmodule-2\.0)"
)
"""The libraries that programs of makers load, and that write nothing into an image."""
ENDED = re.compile(r"\.so[.0-9]*$")


@pytest.mark.parametrize("name", ["debian12", "debian12-images"])
def test_a_library_that_writes_results_is_a_maker_as_its_program_is(name: str) -> None:
    """Read from the programs themselves, as Debian 12 has them: mksquashfs packs by liblzma."""
    if "VERSION_CODENAME=bookworm" not in Path("/etc/os-release").read_text():
        pytest.skip("this machine is not Debian 12, whose programs the toolchain has")
    root = build_root.load(name).root
    assert root is not None
    there = host_match._installed(root.makers)
    assert {"squashfs-tools", "xorriso", "xz-utils"} <= there.keys()
    files = [path for path in host_match._files(tuple(one.query for one in there.values())) if is_elf(path)]
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", run(["readelf", "--dynamic", *files]).stdout))
    written = {library for library in needed if not NO_RESULT.fullmatch(ENDED.sub("", library))}
    assert "liblzma.so.5" in written
    found = run(["dpkg-query", "--search", *(f"*/{library}" for library in sorted(written))]).stdout
    owners = {line.partition(":")[0] for line in found.splitlines()}
    assert owners <= {*root.makers}


def is_elf(path: str) -> bool:
    """Tell whether an absolute path is that of a program or a shared library."""
    if os.path.islink(path) or not (re.search(r"/s?bin/|\.so\b", path) and os.path.isfile(path)):
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILERS)
def test_a_root_compiles_and_packs_the_same_by_every_way(name: str, tmp_path: Path) -> None:
    """Downloads up to 130 MB and takes a minute: a real root, as locked."""
    root = made(name, tmp_path / "cache")
    compiler, wanted = build_root.load(name).compiler, build_root.load(name).root
    locked = build_root.lock(name).package
    assert wanted is not None
    assert (root.parent / build_root.PACKAGES).read_text() == build_root.listing(locked)
    boxes = [found.box([Bind(tmp_path, writable=True)]) for found in entries(root)]
    if not host_match.difference(wanted, locked):
        boxes.append([])
    library = "elf" if "libelf-dev" in wanted.packages else "seccomp"
    include = {"elf": "gelf.h", "seccomp": "seccomp.h"}[library]
    program = f'#include <{include}>\n#include <stdio.h>\nint main(void) {{ puts("hello"); }}\n'
    results = []
    for number, box in enumerate(boxes):
        folder = tmp_path / "same"
        folder.mkdir()
        (folder / "hello.c").write_text(program)
        run([compiler, "-g", "-c", "hello.c"], box=box, cwd=folder)
        run([compiler, "-o", "hello", "hello.o", f"-l{library}"], box=box, cwd=folder)
        assert run([folder / "hello"], box=box).stdout == "hello\n"
        if "squashfs-tools" in wanted.makers:
            words = ["-all-time", "0", "-mkfs-time", "0", "-all-root", "-root-mode", "0755", "-no-progress"]
            run(["mksquashfs", folder, tmp_path / f"{number}.sfs", *words], box=box)
        results.append([sha256_file(path) for path in [folder / "hello.o", *tmp_path.glob(f"{number}.sfs")]])
        shutil.rmtree(folder)
    assert all(result == results[0] for result in results)


def test_there_is_a_patch_series() -> None:
    assert SERIES
    assert PATCHES


@pytest.mark.parametrize("series", SERIES, ids=lambda path: path.parent.name)
def test_a_series_names_each_patch_beside_it_once(series: Path) -> None:
    named = [patch.name for patch in listed(series)]
    assert sorted(named) == sorted(path.name for path in series.parent.glob("*.patch"))


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_a_patch_says_what_fails_with_which_tool_and_what_upstream_did(patch: Path) -> None:
    text = header(patch)
    assert text.startswith("Subject: ")
    fields = dict(re.findall(r"^([A-Z][a-z-]+): *(\S.*)$", text, re.MULTILINE))
    assert re.search(r"\b(gcc|binutils|glibc) >= \d+", fields["Fails-with"]), "name a tool and its version"
    assert fields["Upstream"]
    body = text.split("\n\n", 1)[1]
    assert len(body.split()) >= 15, "the header must explain the fault"


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_a_patch_is_well_formed(patch: Path, tmp_path: Path) -> None:
    # Reads every hunk's line counts, without a tree.
    assert run(["git", "apply", "--numstat", patch], cwd=tmp_path).stdout.strip()


@pytest.mark.skipif(not LINUX_54, reason="TCBUILD_LINUX_54 names no unpacked, unpatched Linux 5.4 tree")
@pytest.mark.parametrize("series", SERIES, ids=lambda path: path.parent.name)
def test_the_series_applies_in_order_without_fuzz(series: Path, tmp_path: Path) -> None:
    for patch in listed(series):
        for file in re.findall(r"^--- a/(\S+)", patch.read_text(), re.MULTILINE):
            copy = tmp_path / file
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(LINUX_54) / file, copy)
        argv: list[str | Path] = ["patch", "-p1", "--batch", "--forward", "--fuzz=0", "-i", patch]
        assert "FAILED" not in run(argv, cwd=tmp_path).stdout
