# SPDX-License-Identifier: MIT
"""Modules and shared libraries, from small ELF files made byte by byte."""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.formats import elf
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support import images
from tests.support.images import RELEASE, module, shared

FUZZ = settings(max_examples=150, deadline=None, database=None)
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".ko": bytes,
    ".ko.gz": gzip.compress,
    ".ko.xz": lzma.compress,
    ".ko.zst": lambda data: zstandard.ZstdCompressor().compress(data),
}
LD = "/lib64/ld-linux-x86-64.so.2"


def write(root: Path, name: str, content: bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", PACK)
def test_modinfo_of_every_packing(tmp_path: Path, suffix: str) -> None:
    info = elf.modinfo(write(tmp_path, f"loop{suffix}", PACK[suffix](module())))
    assert info["license"] == ["GPL"]
    assert info["alias"] == ["block-7", "loop"]
    assert info["vermagic"] == [f"{RELEASE} SMP mod_unload "]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not an ELF file"),
        (b"text, no module", "is not an ELF file"),
        (images.elf(), "is not a kernel module: it has no .modinfo"),
        (module()[:70], "is a damaged ELF file"),
        (gzip.compress(module(), mtime=0)[:-20], "gzip stream at offset 0 is truncated"),
        (gzip.compress(b"text", mtime=0), "is not an ELF file"),
    ],
)
def test_modinfo_of_something_else(tmp_path: Path, content: bytes, words: str) -> None:
    path = write(tmp_path, "x.ko", content)
    with pytest.raises(UserError, match=words) as caught:
        elf.modinfo(path)
    assert str(path) in caught.value.message


def test_all_modules_are_counted(tmp_path: Path) -> None:
    for number, (suffix, pack) in enumerate(PACK.items()):
        write(tmp_path, f"lib/modules/{RELEASE}/kernel/m{number}{suffix}", pack(module()))
    write(tmp_path, f"lib/modules/{RELEASE}/modules.dep", b"not a module")
    (tmp_path / "lib/modules" / RELEASE / "build").symlink_to(tmp_path)
    assert elf.check_modules(tmp_path, RELEASE, elf.X86_64) == len(PACK)
    assert elf.check_modules(tmp_path / "absent", RELEASE, elf.X86_64) == 0


@pytest.mark.parametrize(
    ("place", "content", "words"),
    [
        (RELEASE, module("6.12.2-other"), "vermagic is '6.12.2-other SMP mod_unload ', expected it to start"),
        (RELEASE, module(RELEASE + "x"), "expected it to start with"),
        (RELEASE, module(machine=images.AARCH64), "built for AArch64, expected x86-64"),
        ("6.12.2-other", module(), f"lies below modules/6.12.2-other, expected modules/{RELEASE}"),
        (RELEASE, images.elf(), "it has no .modinfo"),
        (RELEASE, b"", "is not an ELF file"),
    ],
)
def test_one_wrong_module_is_named(tmp_path: Path, place: str, content: bytes, words: str) -> None:
    write(tmp_path, f"usr/local/lib/modules/{RELEASE}/kernel/good.ko", module())
    write(tmp_path, f"usr/local/lib/modules/{place}/kernel/wrong.ko", content)
    with pytest.raises(UserError, match=words) as caught:
        elf.check_modules(tmp_path, RELEASE, elf.X86_64)
    assert "wrong.ko" in caught.value.message


def test_what_ld_so_reads(tmp_path: Path) -> None:
    program = shared("liba.so.1", "libb.so.2", interpreter=LD, runpath="$ORIGIN/../lib:/opt")
    path = write(tmp_path, "prog", program)
    assert elf.needed(path) == ["liba.so.1", "libb.so.2"]
    assert elf.interpreter(path) == LD
    assert elf.dynamic(path).runpath == ("$ORIGIN/../lib", "/opt")
    library = write(tmp_path, "liba.so", shared(soname="liba.so.1", rpath="/opt"))
    assert (elf.soname(library), elf.interpreter(library)) == ("liba.so.1", "")
    assert elf.dynamic(library).rpath == ("/opt",)
    assert elf.needed(write(tmp_path, "static", images.elf())) == []


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF", shared("liba.so")[:100]])
def test_needed_of_something_else_is_a_user_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match="ELF file"):
        elf.needed(write(tmp_path, "x", content))


def root_of(folder: Path, files: dict[str, bytes | str]) -> dict[str, Path]:
    """Write a root: bytes are a file, a string is a symbolic link's target."""
    for name, content in files.items():
        path = folder / name.lstrip("/")
        if isinstance(content, bytes):
            write(folder, name.lstrip("/"), content)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(content)
    return {name: folder / name.lstrip("/") for name in files}


def program(*needed: str, rpath: str = "", runpath: str = "") -> bytes:
    return shared(*needed, interpreter=LD, rpath=rpath, runpath=runpath)


BASE: dict[str, bytes | str] = {LD: shared(soname="ld-linux-x86-64.so.2")}
CLOSURES: dict[str, tuple[dict[str, bytes | str], list[tuple[str, str]]]] = {
    "all there": ({"/bin/p": program("liba.so"), "/usr/lib/liba.so": shared()}, []),
    "library absent": ({"/bin/p": program("liba.so")}, [("/bin/p", "liba.so")]),
    "needed by a library": (
        {"/bin/p": program("liba.so"), "/lib/liba.so": shared("libb.so")},
        [("/lib/liba.so", "libb.so")],
    ),
    "link to the library": (
        {"/bin/p": program("liba.so.1"), "/lib/liba.so.1": "liba.so.1.2", "/lib/liba.so.1.2": shared()},
        [],
    ),
    "link that leads nowhere": (
        {"/bin/p": program("liba.so.1"), "/lib/liba.so.1": "liba.so.1.2"},
        [("/bin/p", "liba.so.1")],
    ),
    "links in a circle": (
        {"/bin/p": program("liba.so"), "/lib/liba.so": "libb.so", "/lib/libb.so": "liba.so"},
        [("/bin/p", "liba.so")],
    ),
    "absolute link stays inside the root": (
        {"/bin/p": program("liba.so"), "/lib/liba.so": "/opt/real.so", "/opt/real.so": shared()},
        [],
    ),
    "linked folder, as with a merged /usr": (
        {"/bin/p": program("liba.so"), "/usr/local/lib": "../real", "/usr/real/liba.so": shared()},
        [],
    ),
    "in no folder that is searched": (
        {"/bin/p": program("liba.so"), "/opt/liba.so": shared()},
        [("/bin/p", "liba.so")],
    ),
    "runpath": ({"/bin/p": program("liba.so", runpath="/x:/opt"), "/opt/liba.so": shared()}, []),
    "runpath with origin": (
        {
            "/usr/local/bin/p": program("liba.so", runpath="$ORIGIN/../share"),
            "/usr/local/share/liba.so": shared(),
        },
        [],
    ),
    "origin in braces": (
        {"/opt/bin/p": program("liba.so", rpath="${ORIGIN}"), "/opt/bin/liba.so": shared()},
        [],
    ),
    "rpath serves what is loaded": (
        {
            "/bin/p": program("liba.so", rpath="/opt"),
            "/opt/liba.so": shared("libb.so"),
            "/opt/libb.so": shared(),
        },
        [],
    ),
    "runpath does not": (
        {
            "/bin/p": program("liba.so", runpath="/opt"),
            "/opt/liba.so": shared("libb.so"),
            "/opt/libb.so": shared(),
        },
        [("/opt/liba.so", "libb.so")],
    ),
    "rpath counts for nothing beside a runpath": (
        {"/bin/p": program("liba.so", rpath="/opt", runpath="/x"), "/opt/liba.so": shared()},
        [("/bin/p", "liba.so")],
    ),
    "nor for what is loaded": (
        {
            "/bin/p": program("liba.so", rpath="/opt", runpath="/x"),
            "/lib/liba.so": shared("libb.so"),
            "/opt/libb.so": shared(),
        },
        [("/lib/liba.so", "libb.so")],
    ),
    "library of another machine is passed over": (
        {"/bin/p": program("liba.so"), "/lib/liba.so": shared(machine=images.AARCH64)},
        [("/bin/p", "liba.so")],
    ),
    "file that is no library": (
        {"/bin/p": program("liba.so"), "/lib/liba.so": b"GROUP()"},
        [("/bin/p", "liba.so")],
    ),
    "needed by path": ({"/bin/p": program("/opt/liba.so"), "/opt/liba.so": shared()}, []),
    "needed by an absent path": ({"/bin/p": program("/opt/liba.so")}, [("/bin/p", "/opt/liba.so")]),
    "already loaded under its soname": (
        {
            "/bin/p": program("liba.so", "libc.so", runpath="/opt"),
            "/opt/liba.so": shared(),
            "/opt/libc.so": shared("liba.so", soname="libc.so"),
        },
        [],
    ),
    "library that no program loads": ({"/lib/plugin.so": shared("libq.so")}, [("/lib/plugin.so", "libq.so")]),
    "libraries in a circle": (
        {"/bin/p": program("liba.so"), "/lib/liba.so": shared("libb.so"), "/lib/libb.so": shared("liba.so")},
        [],
    ),
    "scripts and damaged files": ({"/bin/s": b"#!/bin/sh\n", "/bin/d": program("liba.so")[:90]}, []),
}


@pytest.mark.parametrize("name", CLOSURES)
def test_closure(tmp_path: Path, name: str) -> None:
    files, missing = CLOSURES[name]
    assert elf.closure(root_of(tmp_path, {**BASE, **files})) == elf.Unmet(tuple(missing))


GLIBC = shared(soname="libc.so.6", defines=["GLIBC_2.2.5", "GLIBC_2.36", "GLIBC_PRIVATE"])
C = "libc.so.6"
OLDER = ("GLIBC_2.2.5", "GLIBC_2.36", "GLIBC_PRIVATE")
VERSIONS: dict[str, tuple[dict[str, bytes | str], list[elf.UnmetVersion]]] = {
    "defined": ({"/bin/p": shared(C, versions={C: ["GLIBC_2.2.5", "GLIBC_2.36"]})}, []),
    "not defined": (
        {"/bin/p": shared(C, versions={C: ["GLIBC_2.36", "GLIBC_2.99"]})},
        [elf.UnmetVersion("/bin/p", C, "GLIBC_2.99", "/lib/libc.so.6", OLDER)],
    ),
    "weak": ({"/bin/p": shared(C, versions={C: ["GLIBC_2.99"]}, weak=["GLIBC_2.99"])}, []),
    "library without versions": (
        {"/bin/p": shared("liba.so", versions={"liba.so": ["A_1"]}), "/lib/liba.so": shared()},
        [],
    ),
    "needed by a library": (
        {"/bin/p": shared("liba.so"), "/lib/liba.so": shared(C, versions={C: ["GLIBC_2.37"]})},
        [elf.UnmetVersion("/lib/liba.so", C, "GLIBC_2.37", "/lib/libc.so.6", OLDER)],
    ),
    "of the second library": (
        {
            "/bin/p": shared(C, "liba.so", versions={C: ["GLIBC_2.36"], "liba.so": ["A_1", "A_2", "A_3"]}),
            "/lib/liba.so": "/opt/liba.so.1",
            "/opt/liba.so.1": shared(defines=["A_1", "A_3"]),
        },
        [elf.UnmetVersion("/bin/p", "liba.so", "A_2", "/opt/liba.so.1", ("A_1", "A_3"))],
    ),
    "already loaded under its soname": (
        {
            "/bin/p": shared("liba-1.so", "libb.so"),
            "/lib/liba-1.so": shared(soname="liba.so", defines=["A_1"]),
            "/lib/libb.so": shared("liba.so", versions={"liba.so": ["A_2"]}),
        },
        [elf.UnmetVersion("/lib/libb.so", "liba.so", "A_2", "/lib/liba-1.so", ("A_1",))],
    ),
    "library that is missing": ({"/bin/p": shared("liba.so", versions={"liba.so": ["A_1"]})}, []),
}


@pytest.mark.parametrize("name", VERSIONS)
def test_versions_of_symbols(tmp_path: Path, name: str) -> None:
    files, unmet = VERSIONS[name]
    root = root_of(tmp_path, {**BASE, "/lib/libc.so.6": GLIBC, **files})
    assert elf.closure(root).versions == tuple(unmet)


def test_versions_of_what_other_roots_bring(tmp_path: Path) -> None:
    """A library of a root below is checked if a file of this one loads it."""
    files = root_of(tmp_path / "ext", {"/bin/p": shared("liba.so")})
    broken = shared(C, versions={C: ["GLIBC_2.37"]})
    below: dict[str, bytes | str] = {
        "/lib/liba.so": broken,
        "/lib/unused.so": broken,
        "/lib/libc.so.6": GLIBC,
    }
    unmet = elf.closure(files, root_of(tmp_path / "base", below)).versions
    assert [need.file for need in unmet] == ["/lib/liba.so"]


def test_damaged_versions(tmp_path: Path) -> None:
    """A table that counts more entries than any library has."""
    good = shared(C, versions={C: [f"V_{number}" for number in range(9)]})
    whole = elf.dynamic(write(tmp_path, "good", good))
    assert whole.versions[8] == elf.VersionNeed(C, "V_8")
    at = good.rindex(b"libc.so.6\0") + 10
    entries = struct.pack("<HHIIIHHIII", 1, 0xFFFF, 1, 32, 16, 1, 0xFFFF, 1, 16, 0)
    endless = good[:at] + entries + good[at + 32 :]
    with pytest.raises(UserError, match=r"endless is a damaged ELF file: impossible number of versions"):
        elf.dynamic(write(tmp_path, "endless", endless))


@pytest.mark.parametrize(
    ("content", "machine"),
    [
        (shared(machine=images.AARCH64), "EM_AARCH64"),
        (shared(machine=images.I386, bits=32), "EM_386"),
        (images.elf(), "EM_X86_64"),
        (module(), ""),
        (b"#!/bin/sh\n", ""),
        (shared()[:30], ""),
    ],
)
def test_machine_of_a_program(tmp_path: Path, content: bytes, machine: str) -> None:
    assert elf.program_machine(write(tmp_path, "x", content)) == machine


def test_short_names_of_machines() -> None:
    names = [elf.short_machine_name(name) for name in ("EM_AARCH64", "EM_386", "EM_X86_64")]
    assert names == ["aarch64", "32-bit x86", "x86-64"]


def test_an_absent_interpreter_is_missing(tmp_path: Path) -> None:
    """Release binaries of Go ask for /lib64, which Tiny Core has not."""
    assert elf.closure(root_of(tmp_path, {"/bin/p": program()})) == elf.Unmet((("/bin/p", LD),))


def test_what_other_roots_bring(tmp_path: Path) -> None:
    files = root_of(tmp_path / "ext", {"/usr/local/bin/p": program("liba.so", "libb.so")})
    base = root_of(tmp_path / "base", {**BASE, "/lib/liba.so": shared("libx.so")})
    assert elf.closure(base).libraries == (("/lib/liba.so", "libx.so"),)
    assert elf.closure(files, base).libraries == (("/usr/local/bin/p", "libb.so"),)
    assert elf.closure(files, provided=[LD, "/usr/lib/liba.so", "/lib/libb.so"]) == elf.Unmet()


@FUZZ
@given(
    kind=st.sampled_from(
        [
            module(),
            shared("liba.so", soname="x", rpath="/y", interpreter=LD),
            shared(C, versions={C: ["A", "B"], "d": ["E"]}, defines=["F", "G"]),
            images.vmlinux(),
        ]
    ),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    keep=st.one_of(st.none(), st.integers(0, 3000)),
)
def test_damaged_files_are_user_errors(
    tmp_path_factory: pytest.TempPathFactory,
    kind: bytes,
    changes: list[tuple[int, int]],
    keep: int | None,
) -> None:
    content = bytearray(kind)
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "fuzzed.ko"
    path.write_bytes(content[:keep])
    for read in (elf.modinfo, elf.dynamic):
        try:
            read(path)
        except UserError as error:
            assert str(path) in error.message
    assert elf.closure({"/lib/fuzzed": path}) is not None


def test_a_command_starts_without_the_parser() -> None:
    """Nearly every command loads this module, and few read an ELF file."""
    ask = "import sys, tasks.cli.commands, tasks.vm.run; print(*sys.modules)"
    command = [sys.executable, "-c", ask]
    done = subprocess.run(command, cwd=CHECKOUT.root, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "tasks.formats.elf" in loaded
    assert "elftools" not in loaded
