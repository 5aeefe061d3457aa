# SPDX-License-Identifier: MIT
"""Files told apart by their first bytes."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile

import pytest

from tasks.formats.magic import HEAD_BYTES, TYPES, classify
from tests.support import images


def placed(offset: int, magic: bytes, size: int = 40_000) -> bytes:
    """Return `size` bytes that are no text, with `magic` at `offset`."""
    data = bytearray(b"\x01\x00" * (size // 2))
    data[offset : offset + len(magic)] = magic
    return bytes(data)


def ext_image(*, block: int = 2, revision: int = 1) -> bytes:
    data = bytearray(4096)
    struct.pack_into("<I", data, 0x418, block)
    struct.pack_into("<H", data, 0x438, 0xEF53)
    struct.pack_into("<I", data, 0x44C, revision)
    return bytes(data)


def mbr(status: int = 0x80, kind: int = 0x83) -> bytes:
    data = bytearray(1024)
    data[0x1BE], data[0x1C2] = status, kind
    data[0x1FE:0x200] = b"\x55\xaa"
    return bytes(data)


def tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("vmlinuz"))
    return stream.getvalue()


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("vmlinuz", b"x")
    return stream.getvalue()


FILES = [
    ("bzImage", images.bzimage()),
    ("arm64-image", placed(0x38, b"ARM\x64")),
    ("arm64-image", b"MZ" + placed(0x38, b"ARM\x64")[2:]),
    ("arm-zimage", placed(0x24, struct.pack("<I", 0x016F2818))),
    ("riscv-image", placed(0x38, b"RSC\x05")),
    ("uimage", struct.pack(">I", 0x27051956) + bytes(60)),
    ("devicetree", struct.pack(">I", 0xD00DFEED) + bytes(60)),
    ("cpio", b"070701" + b"0" * 104),
    ("cpio", b"070702" + b"0" * 104),
    ("cpio-old", b"070707" + b"0" * 70),
    ("squashfs", b"hsqs" + bytes(92)),
    ("iso", placed(0x8001, b"CD001")),
    ("iso", mbr()[:0x200] + placed(0x8001, b"CD001")[0x200:]),
    ("ext", ext_image()),
    ("qcow2", b"QFI\xfb" + bytes(60)),
    ("disk", mbr()),
    ("disk", placed(0x200, b"EFI PART")),
    ("bootsector", mbr(kind=0)),
    ("bootsector", mbr(status=0x13)),
    ("tar", tar()),
    ("deb", b"!<arch>\ndebian-binary   0"),
    ("ar", b"!<arch>\nmain.o/"),
    ("ar", b"!<thin>\n//"),
    ("zip", zipped()),
    ("html", b"\n<!DOCTYPE html><html><title>404 Not Found</title>"),
    (
        "kconfig",
        b"#\n# Automatically generated file; DO NOT EDIT.\n#\nCONFIG_64BIT=y\n# CONFIG_X is not set\n",
    ),
    ("system-map", b"0000000000000000 D __per_cpu_start\nffffffff81000000 T _text\n"),
    ("text", b"hello\n"),
    ("text", "Grüße".encode()),
    ("text", ("x" * 100 + "ü").encode()[:-1]),
]


@pytest.mark.parametrize(("kind", "data"), FILES, ids=[f"{n}-{kind}" for n, (kind, _) in enumerate(FILES)])
def test_kinds(kind: str, data: bytes) -> None:
    found = classify(data[:HEAD_BYTES])
    assert found is not None
    assert found.kind == kind
    assert found.description
    assert found.hint


def test_every_type_has_a_sample() -> None:
    """A line added to the table without a sample here fails."""
    assert {kind.kind for _, kind in TYPES} == {kind for kind, _ in FILES}


@pytest.mark.parametrize(
    "data",
    [b"", bytes(5000), b"\xff\xfe\xfd" * 50, ext_image(block=9), ext_image(revision=7), b"text\0with NUL"],
)
def test_unknown(data: bytes) -> None:
    assert classify(data) is None
