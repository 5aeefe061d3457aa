# SPDX-License-Identifier: MIT
"""A bzImage passes whole; with any one thing wrong it is refused, and the message says which."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.formats import bzimage
from tasks.formats.bzimage import check_bzimage
from tasks.util.errors import UserError
from tests.support import images
from tests.support.images import RELEASE

FUZZ = settings(max_examples=150, deadline=None, database=None)
GOOD = images.bzimage()


def check(tmp_path: Path, image: bytes, release: str | None = None, bits: int = 64) -> bzimage.BzImage:
    path = tmp_path / "vmlinuz64"
    path.write_bytes(image)
    return check_bzimage(path, bits=bits, release=release)


@pytest.mark.parametrize("method", images.PACK)
def test_a_good_image_passes_with_every_compression(tmp_path: Path, method: str) -> None:
    found = check(tmp_path, images.bzimage(method=method), RELEASE)
    assert (found.release, found.method, found.checksum) == (RELEASE, method, "right")
    assert found.entry == 0x1000000
    assert found.vmlinux_size == len(images.vmlinux())
    assert found.banner.startswith(f"Linux version {RELEASE} (")


def test_the_report_says_what_a_person_wants_to_know(tmp_path: Path) -> None:
    text = str(check(tmp_path, GOOD))
    words = (
        f"kernel {RELEASE}",
        "protocol 2.15",
        "64-bit entry",
        "EFI stub",
        "payload: gzip",
        "checksum right",
    )
    assert [word for word in words if word not in text] == []
    assert f"{len(GOOD):,} bytes" in text


def test_an_image_without_efi_stub_passes(tmp_path: Path) -> None:
    found = check(tmp_path, images.bzimage(efi=False), RELEASE)
    assert found.pe is None
    assert "no EFI stub" in str(found)


@pytest.mark.parametrize("bits", [0, 32])
def test_a_32_bit_image_passes_where_it_may_be_one(tmp_path: Path, bits: int) -> None:
    found = check(tmp_path, images.bzimage(bits=32), RELEASE, bits)
    assert found.machine == "32-bit x86"
    assert "32-bit entry" in str(found)
    assert "ELF32 32-bit x86 vmlinux" in str(found)
    assert "32-bit handover" in str(found)


@pytest.mark.parametrize(
    ("image", "bits", "words"),
    [
        (images.bzimage(bits=32), 64, "32-bit kernel: xloadflags has no XLF_KERNEL_64"),
        (images.bzimage(), 32, "64-bit kernel: xloadflags has XLF_KERNEL_64"),
        (images.bzimage(bits=32, payload=images.PACK["gzip"](images.vmlinux())), 32, "expected ELF32 for"),
        (images.bzimage(bits=32, fields={"pe_machine": 0x8664}), 0, "expected 32-bit x86"),
        (images.bzimage(bits=32, fields={"handover_offset": 0}), 32, "XLF_EFI_HANDOVER_32"),
    ],
)
def test_an_image_of_the_other_width_is_refused(tmp_path: Path, image: bytes, bits: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check(tmp_path, image, RELEASE, bits)


WRONG_FIELDS = [
    ({"boot_flag": 0x55AA}, "boot_flag at 0x1fe is 0x55aa"),
    ({"header": 0}, 'no "HdrS"'),
    ({"version": 0x0300}, "protocol 3.00 does not exist"),
    ({"version": 0x0001}, "protocol 0.01 does not exist"),
    ({"version": 0x020B}, "protocol 2.11 is too old"),
    ({"loadflags": 0}, "zImage"),
    ({"xloadflags": 0}, "32-bit kernel: xloadflags has no XLF_KERNEL_64"),
    ({"jump": 0x6AE9}, "jump at 0x200 is 0x6ae9"),
    ({"jump": 0x10EB}, "jump at 0x200 is 0x10eb"),
    ({"setup_sects": 65}, "setup_sects is 65"),
    ({"setup_sects": 8}, "truncated.*: 512 bytes are missing"),
    ({"setup_sects": 6}, "512 bytes that are not zero follow"),
    ({"syssize": 0x20}, "no room for the entry points"),
    ({"syssize": 0x7FFFFFF}, "more than the 1 GiB"),
    ({"init_size": 512}, "init_size is 512"),
    ({"init_size": len(GOOD)}, None),
    ({"kernel_alignment": 0}, "kernel_alignment is 0x0"),
    ({"kernel_alignment": 0x300000}, "kernel_alignment is 0x300000"),
    ({"cmdline_size": 100}, "cmdline_size is 100"),
    ({"payload_offset": 0}, "does not lie inside the code"),
    ({"payload_offset": 1 << 20}, "does not lie inside the code"),
    ({"payload_length": 1 << 20}, "does not lie inside the code"),
    ({"payload_length": 3}, "does not lie inside the code"),
    ({"payload_offset": images.PAYLOAD_OFFSET + 1}, "payload at .*: no compressed stream"),
    ({"payload_length": 200}, "payload at .*: gzip stream at offset 0 is truncated"),
    ({"kernel_version": 0}, "points to no version string"),
    ({"kernel_version": 0xF000}, "points to no version string"),
    ({"mz": 0}, "XLF_EFI_HANDOVER_64, but there is no EFI stub"),
    ({"pe_magic": 0}, 'damaged EFI stub: "MZ" at 0, but no PE header follows'),
    ({"pe_start": 0x10000000}, "damaged EFI stub"),
    ({"pe_machine": 0x014C}, "PE header is for 32-bit x86, expected x86-64"),
    ({"pe_machine": 0xAA64}, "PE header is for ARM64"),
    ({"pe_optional_magic": 0x10B}, "expected x86-64"),
    ({"pe_entry": 0x10}, "entry point 0x10 lies outside the code"),
    ({"pe_entry": 1 << 24}, "entry point 0x1000000 lies outside the code"),
    ({"handover_offset": 0}, "no usable handover_offset"),
    ({"handover_offset": 1 << 24}, "no usable handover_offset"),
    (
        {"pe_certificates": 64, "pe_certificates_size": 8},
        "truncated: the PE header puts 8 bytes of signature",
    ),
    ({"pe_certificates": 1 << 20, "pe_certificates_size": 8}, "truncated: the PE header"),
]


@pytest.mark.parametrize(("fields", "words"), WRONG_FIELDS, ids=[str(fields) for fields, _ in WRONG_FIELDS])
def test_each_field_alone(tmp_path: Path, fields: dict[str, int], words: str | None) -> None:
    image = images.bzimage(fields=fields)
    if words is None:
        check(tmp_path, image, RELEASE)
        return
    with pytest.raises(UserError, match=words) as caught:
        check(tmp_path, image, RELEASE)
    assert caught.value.message.startswith(str(tmp_path / "vmlinuz64"))


def test_a_cut_file_says_how_much_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"truncated: .* 1,000 bytes are missing"):
        check(tmp_path, GOOD[:-1000])


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (bytes(4095), None),
        (bytes(4096), "4,096 bytes follow the kernel"),
        (b"\0\0x", "3 bytes that are not zero follow the kernel"),
    ],
)
def test_padding_is_allowed_and_nothing_else(tmp_path: Path, tail: bytes, words: str | None) -> None:
    if words is None:
        assert check(tmp_path, GOOD + tail, RELEASE).size == len(GOOD) + len(tail)
        return
    with pytest.raises(UserError, match=words):
        check(tmp_path, GOOD + tail)


def test_a_signed_image_passes_with_its_old_checksum(tmp_path: Path) -> None:
    """Signing fills two PE fields after the checksum was made and appends the signature."""
    signed = bytearray(GOOD + b"signature" * 100)
    images.put(signed, "pe_checksum", 0x12345678)
    images.put(signed, "pe_certificates", len(GOOD))
    images.put(signed, "pe_certificates_size", 900)
    found = check(tmp_path, bytes(signed), RELEASE)
    assert found.checksum == "right"
    assert "signed" in str(found)


def test_another_release_than_the_one_built(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"is Linux {RELEASE}, expected 6.12.2-tcbuild"):
        check(tmp_path, GOOD, "6.12.2-tcbuild")


def test_a_release_is_compared_whole(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected 6\.12\.1\n"):
        check(tmp_path, GOOD, RELEASE.removesuffix("-tcbuild"))


def test_header_and_kernel_of_two_builds(tmp_path: Path) -> None:
    image = images.bzimage(version="6.12.2-other (tc@box) #1 SMP")
    with pytest.raises(
        UserError, match=f"header says Linux 6.12.2-other, but the kernel inside is {RELEASE}"
    ):
        check(tmp_path, image)


PAYLOADS = [
    (b"plain data, not packed", "no compressed stream at offset 0: found 70 6c 61 69"),
    (b"\x89LZO\x00\r\n\x1a\n" + bytes(40), "LZO is not supported"),
    (images.PACK["xz"](images.vmlinux())[:-4] + struct.pack("<I", 5), "but the size stated behind it is 5"),
    (images.PACK["gzip"](images.vmlinux()) + b"12", "gzip stream ends at"),
    (images.PACK["gzip"](b"no ELF file at all"), "the unpacked payload is not an ELF file"),
    (images.PACK["gzip"](bytes(2 << 20)), "unpacks to more than the allowed 1048576 bytes"),
    (
        images.PACK["gzip"](images.vmlinux(machine=images.AARCH64)),
        "ELF64 for AArch64, expected ELF64 for x86-64",
    ),
    (images.PACK["gzip"](images.vmlinux(machine=images.I386, bits=32)), "ELF32 for Intel 80386"),
    (images.PACK["gzip"](images.vmlinux(entry=0x10)), "entry 0x10 lies in none of its segments"),
    (images.PACK["gzip"](images.elf(entry=0x1000000)), "no PT_LOAD segment"),
    (
        images.PACK["gzip"](images.elf(entry=0x1000000, segments=[(1, 0x1000000, b"hello" * 9)])),
        'no "Linux version" banner',
    ),
    (images.PACK["gzip"](images.vmlinux()[:300]), "beyond its end|damaged ELF"),
]


@pytest.mark.parametrize(("payload", "words"), PAYLOADS, ids=[words for _, words in PAYLOADS])
def test_each_wrong_payload(tmp_path: Path, payload: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check(tmp_path, images.bzimage(payload=payload))


def test_one_flipped_bit_is_found_by_the_checksum(tmp_path: Path) -> None:
    """Unpacking would not see it: the byte lies in the unpacking code."""
    image = bytearray(GOOD)
    image[images.SETUP_SIZE + 0x210] ^= 1
    assert check(tmp_path, bytes(image)).checksum == "wrong"
    with pytest.raises(UserError, match="CRC-32 is wrong"):
        check(tmp_path, bytes(image), RELEASE)


@pytest.mark.parametrize(("version", "state"), [("6.14.9", "wrong"), ("6.15.0", "none"), ("7.0", "none")])
def test_kernels_since_6_15_have_no_checksum(version: str, state: str) -> None:
    image = images.bzimage(crc=False)
    assert bzimage.checksum(memoryview(image), None, version) == state


@FUZZ
@given(
    changes=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4),
    header=st.lists(st.tuples(st.integers(0x1F1, 0x26C), st.integers(0, 255)), max_size=3),
    keep=st.one_of(st.none(), st.integers(0, len(GOOD))),
)
def test_damage_is_a_user_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[int, int]],
    header: list[tuple[int, int]],
    keep: int | None,
) -> None:
    image = bytearray(GOOD)
    for place, value in [*changes, *header]:
        image[place] = value
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(image[:keep])
    try:
        found = check_bzimage(path)
    except UserError as error:
        assert error.message.startswith(f"{path}: ")
        return
    assert found.release == RELEASE
    assert str(found)
