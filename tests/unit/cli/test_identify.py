# SPDX-License-Identifier: MIT
"""`doit check`: every kind of file gets its name, its reason and a way out."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.cli import identify
from tasks.util.errors import UserError
from tests.support import images

FUZZ = settings(max_examples=200, deadline=None, database=None)
GOOD = images.bzimage()
CPIO = b"070701" + b"0" * 2000
COMPRESSED_VMLINUX = images.elf(
    segments=[(1, 0, b"\xfc" * 4096)], sections={".head.text": b"\x90", ".rodata..compressed": b"\x1f\x8b"}
)
BANNER = b"Linux version 6.1 (a program that carries a kernel's banner, as perf does)"
PE = bytearray(GOOD)
images.put(PE, "boot_flag", 0)
images.put(PE, "header", 0)
UKI = bytearray(PE)
UKI[0x180:0x188] = b".linux\0\0"

KINDS = [
    ("empty", b"", "empty file", "build it again"),
    ("truncated", GOOD[:-1000], "1,000 bytes are missing", "build or copy it again"),
    ("truncated", GOOD[:4000], "only the setup part", "build or copy it again"),
    ("truncated", GOOD[:0x240], "ends in the setup header", "build or copy it again"),
    ("zimage", images.bzimage(fields={"loadflags": 0}), "zImage doesn't support", "make bzImage"),
    ("old-protocol", images.bzimage(fields={"version": 0x020A}), "2.10 is too old", "newer kernel"),
    (
        "old-protocol",
        images.bzimage(fields={"version": 0x0202}),
        "version too old for 32-bit boot",
        "newer kernel",
    ),
    ("damaged", images.bzimage(fields={"xloadflags": 0}), "expected 32-bit x86", "damaged"),
    ("damaged", b"\0" + images.bzimage(fields={"xloadflags": 0})[1:], "the payload is ELF64", "damaged"),
    ("damaged", images.bzimage(payload=b"\x1f\x8b\x08" + bytes(60)), "payload at", "damaged"),
    ("damaged", images.bzimage(fields={"setup_sects": 200}), "setup_sects is 200", "damaged"),
    ("damaged", images.bzimage(fields={"version": 0x0999}), "protocol 9.153 does not exist", "damaged"),
    ("vmlinux", images.vmlinux(), "error: invalid magic number", "arch/x86/boot/bzImage"),
    ("vmlinux", images.elf(sections={".init.text": b"", "__ksymtab": b""}), "as it was linked", "bzImage"),
    ("vmlinux-compressed", COMPRESSED_VMLINUX, "arch/x86/boot/compressed/vmlinux", "bzImage"),
    ("module", images.module(), f"vermagic '{images.RELEASE} SMP mod_unload'", "modprobe"),
    ("elf-other", images.vmlinux(machine=images.AARCH64), "AArch64, a Linux kernel", "x86_64"),
    ("elf-other", images.elf(machine=images.I386, bits=32), "80386", "x86_64"),
    ("elf", images.shared("libc.so.6", interpreter="/lib64/ld.so"), "a program or shared library", "bzImage"),
    ("elf", images.elf(sections={".interp": b"/ld", ".rodata": BANNER}), "a program for Linux", "bzImage"),
    ("elf", images.elf(kind=images.ET_REL), "an object file", "bzImage"),
    ("damaged-elf", images.vmlinux()[:50], "damaged ELF file", "bzImage"),
    ("gzip-cpio", gzip.compress(CPIO), "initramfs", "initrd"),
    ("xz-cpio", lzma.compress(CPIO), "initramfs", "initrd"),
    ("zstd-cpio", zstandard.ZstdCompressor().compress(CPIO), "initramfs", "initrd"),
    ("bzip2-cpio", bz2.compress(CPIO), "initramfs", "initrd"),
    ("gzip-vmlinux", gzip.compress(images.vmlinux()), "payload", "bzImage"),
    ("gzip-elf-other", gzip.compress(images.vmlinux(machine=images.AARCH64)), "another machine", "bzImage"),
    ("gzip-arm64-image", gzip.compress(bytes(0x38) + b"ARM\x64"), "ARM64", "ARCH=x86_64"),
    ("gzip-bzImage", gzip.compress(GOOD), "(bzImage) inside", "unpack it first"),
    ("gzip-module", gzip.compress(images.module()), "kernel module", "modprobe"),
    ("gzip-kconfig", gzip.compress(b"CONFIG_64BIT=y\n"), "kernel configuration", "built from"),
    ("gzip-data", gzip.compress(b"\xff\xfe" * 9), "no known kind inside", "bzImage"),
    ("gzip", b"\x1f\x8b\x08" + b"\xff" * 50, "unreadable", "damaged"),
    ("lzo", b"\x89LZO\x00\r\n\x1a\n" + bytes(50), "LZO is not supported", "lzop"),
    ("cpio", CPIO, "cpio archive (newc)", "initrd"),
    ("arm64-image", bytes(0x38) + b"ARM\x64" + bytes(900), "ARM64", "ARCH=x86_64"),
    ("arm-zimage", bytes(0x24) + b"\x18\x28\x6f\x01" + bytes(900), "32-bit ARM", "ARCH=x86_64"),
    ("squashfs", b"hsqs" + bytes(900), "Tiny Core extension (.tcz)", "tce-load"),
    ("iso", bytes(0x8001) + b"CD001", "whole CD", "-cdrom"),
    ("bootsector", bytes(0x1FE) + b"\x55\xaa" + bytes(900), "version too old for 32-bit boot", "bzImage"),
    ("pe", bytes(PE), "PE program for x86-64", "chainloader"),
    ("uki", bytes(UKI), "unified kernel image", "chainloader"),
    ("dos", b"MZ" + b"\x90" * 100, "DOS program", "bzImage"),
    ("text", b"hello\n", "premature end of file", "bzImage"),
    ("unknown", bytes(5000), "it starts with 00 00", "bzImage"),
]


@pytest.mark.parametrize(
    ("kind", "data", "words", "hint"), KINDS, ids=[f"{n}-{row[0]}" for n, row in enumerate(KINDS)]
)
def test_what_cannot_be_booted(tmp_path: Path, kind: str, data: bytes, words: str, hint: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    verdict = identify.identify(path)
    assert (verdict.kind, verdict.ok) == (kind, False)
    assert words in str(verdict)
    assert hint in verdict.hint
    with pytest.raises(UserError, match="cannot be booted as a kernel"):
        identify.check_file(path)


@pytest.mark.parametrize("method", images.PACK)
def test_a_kernel_can_be_booted(tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str) -> None:
    path = tmp_path / "vmlinuz64"
    path.write_bytes(images.bzimage(method=method))
    verdict = identify.identify(path)
    assert (verdict.kind, verdict.ok, verdict.hint) == ("bzImage", True, "")
    identify.check_file(path)
    assert f"a bootable x86-64 Linux kernel {images.RELEASE}" in capsys.readouterr().out


def test_a_kernel_packed_with_lzo_is_judged_by_its_header(tmp_path: Path) -> None:
    lzo = b"\x89LZO\x00\r\n\x1a\n" + bytes(60)
    path = tmp_path / "vmlinuz64"
    path.write_bytes(images.bzimage(payload=lzo))
    verdict = identify.identify(path)
    assert verdict.ok
    assert "not unpacked" in str(verdict)
    path.write_bytes(images.bzimage(payload=lzo, fields={"kernel_alignment": 3}))
    assert identify.identify(path).kind == "damaged"


@pytest.mark.parametrize(
    "wrong", ["vmlinux", "arch/x86/boot/compressed/vmlinux", "arch/x86/boot/vmlinux.bin"]
)
def test_the_bzimage_of_the_same_build_is_named(tmp_path: Path, wrong: str) -> None:
    right = tmp_path / "arch/x86/boot/bzImage"
    (tmp_path / "arch/x86/boot/compressed").mkdir(parents=True)
    right.write_bytes(GOOD)
    (tmp_path / wrong).write_bytes(bytes(5000) if wrong.endswith("bin") else images.vmlinux())
    assert f"use {right}" in identify.identify(tmp_path / wrong).hint


def test_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz64").write_bytes(GOOD)
    (tmp_path / "dangling").symlink_to("nowhere")
    verdicts = [identify.identify(tmp_path / name) for name in ("vmlinux64", "dangling", "no/such/folder")]
    assert [verdict.kind for verdict in verdicts] == ["missing", "dangling-link", "missing"]
    assert verdicts[0].hint == f"did you mean {tmp_path / 'vmlinuz64'}?"
    assert "nowhere" in verdicts[1].description


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    """None of these may be opened: a pipe without a writer would wait for ever."""
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    kinds = [identify.identify(tmp_path / name).kind for name in ("fifo", "socket")]
    assert kinds == ["fifo", "socket"]
    assert identify.identify(Path("/dev/null")).kind == "char-device"


def test_a_folder_with_a_kernel_in_it(tmp_path: Path) -> None:
    assert "boot/vmlinuz64" in identify.identify(tmp_path).hint
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel/vmlinuz64").write_bytes(GOOD)
    verdict = identify.identify(tmp_path)
    assert (verdict.kind, verdict.hint) == ("directory", f"did you mean {tmp_path / 'kernel/vmlinuz64'}?")


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "loop"])
def test_a_path_that_leads_nowhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    verdict = identify.identify(tmp_path / name)
    assert verdict.kind == "unreadable"
    assert verdict.hint


@pytest.fixture
def nobody() -> Iterator[Path]:
    """Give a folder everybody can enter, and take root's rights away."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        user = os.geteuid()
        path = Path(folder, "vmlinuz64")
        path.write_bytes(GOOD)
        path.chmod(0)
        if user == 0:
            os.seteuid(65534)
        try:
            yield path
        finally:
            os.seteuid(user)


def test_an_unreadable_file(nobody: Path) -> None:
    verdict = identify.identify(nobody)
    assert verdict.kind == "unreadable"
    assert "permissions" in verdict.hint


def test_several_files_are_all_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in (("good", GOOD), ("bad", b"x"), ("worse", b"")):
        (tmp_path / name).write_bytes(content)
    identify.check_files(tmp_path, ["good", str(tmp_path / "good")])
    with pytest.raises(UserError, match=r"bad cannot be booted as a kernel: text"):
        identify.check_files(tmp_path, ["bad", "good"])
    with pytest.raises(UserError, match="2 of 3 files") as caught:
        identify.check_files(tmp_path, ["bad", "good", "worse"])
    assert "bad" in caught.value.detail
    assert "worse" in caught.value.detail
    assert capsys.readouterr().out.count("a bootable x86-64 Linux kernel") == 4
    with pytest.raises(UserError, match="no file named"):
        identify.check_files(tmp_path, [])


STARTS = [data for _, data, _, _ in KINDS if data] + [GOOD]


@FUZZ
@given(
    start=st.sampled_from(STARTS),
    changes=st.lists(st.tuples(st.integers(0, 4096), st.integers(0, 255)), max_size=5),
    keep=st.one_of(st.none(), st.integers(0, 6000)),
    tail=st.binary(max_size=64),
)
def test_anything_gets_a_verdict(
    tmp_path_factory: pytest.TempPathFactory,
    start: bytes,
    changes: list[tuple[int, int]],
    keep: int | None,
    tail: bytes,
) -> None:
    content = bytearray(start)
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(content[:keep] + tail)
    verdict = identify.identify(path)
    assert verdict.description
    assert verdict.ok or verdict.hint
    assert str(path) in str(verdict)
