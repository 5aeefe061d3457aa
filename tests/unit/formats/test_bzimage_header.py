# SPDX-License-Identifier: MIT
"""The setup header and the PE header, read field by field."""

from __future__ import annotations

import dataclasses
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.formats import bzimage
from tasks.formats.bzimage import BootHeader, read_header, read_pe, version_string
from tasks.util.errors import UserError
from tests.support import images

FUZZ = settings(max_examples=200, deadline=None, database=None)


KNOWN_TWICE = sorted(
    {field.name for field in dataclasses.fields(BootHeader)} & images.FIELDS.keys() - {"header", "boot_flag"}
)


@pytest.mark.parametrize("name", KNOWN_TWICE)
def test_fields_lie_where_the_documentation_says(name: str) -> None:
    image = bytearray(images.bzimage())
    value = 0x020C if name == "version" else 0x5B
    images.put(image, name, value)
    assert getattr(read_header(image), name) == value


def test_fields_do_not_overlap_and_leave_no_gap() -> None:
    place = 0x1F1
    for field in dataclasses.fields(BootHeader):
        assert field.metadata["offset"] == place, field.name
        place += struct.calcsize(field.metadata["form"])
    assert place == 0x26C  # "0268/4 kernel_info_offset" is the last


def test_sizes_follow_from_the_header() -> None:
    image = images.bzimage()
    header = read_header(image)
    assert header.setup_size == images.SETUP_SIZE
    assert header.image_size == len(image)
    assert header.protocol == "2.15"


def test_zero_setup_sects_means_four() -> None:
    assert read_header(images.bzimage(fields={"setup_sects": 0})).setup_sects == 4


@pytest.mark.parametrize(
    ("version", "absent", "present"),
    [
        (0x0203, ("relocatable_kernel", "xloadflags", "init_size"), ("loadflags", "kernel_version")),
        (0x0209, ("xloadflags", "init_size", "pref_address"), ("payload_length", "cmdline_size")),
        (0x020B, ("xloadflags",), ("init_size", "pref_address", "handover_offset")),
    ],
)
def test_fields_newer_than_the_protocol_are_zero(
    version: int, absent: tuple[str, ...], present: tuple[str, ...]
) -> None:
    header = read_header(images.bzimage(fields={"version": version}))
    assert [getattr(header, name) for name in absent] == [0] * len(absent)
    assert all(getattr(header, name) for name in present)


def test_syssize_had_16_bits_before_protocol_2_04() -> None:
    assert read_header(images.bzimage(fields={"version": 0x0203, "syssize": 0x12345})).syssize == 0x2345


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes are too few"),
        (images.bzimage()[:0x200], "512 bytes are too few"),
        (images.bzimage(fields={"boot_flag": 0}), "boot_flag at 0x1fe is 0x0000, expected 0xaa55"),
        (images.bzimage(fields={"header": 0x41414141}), 'no "HdrS" at 0x202 but 41 41 41 41'),
        (images.bzimage()[:0x204], 'no "HdrS" at 0x202 but 48 64'),
        (images.bzimage()[:0x250], "ends in the setup header, before setup_data at 0x250"),
        (images.vmlinux(), "boot_flag at 0x1fe is"),
    ],
)
def test_says_what_is_not_a_header(data: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_header(data)


def test_pe_header() -> None:
    image = bytearray(images.bzimage())
    images.put(image, "pe_certificates", 5000)
    images.put(image, "pe_certificates_size", 64)
    pe = read_pe(image)
    assert pe is not None
    assert (pe.machine, pe.plus, pe.entry) == (bzimage.PE_AMD64, True, images.SETUP_SIZE + 0x100)
    assert (pe.checksum_at, pe.certificates_at) == (0x98, 0xE8)
    assert pe.certificates == (5000, 64)


def test_pe_without_a_certificate_directory() -> None:
    pe = read_pe(images.bzimage(fields={"pe_directories": 4, "pe_certificates_size": 9}))
    assert pe is not None
    assert (pe.certificates_at, pe.certificates) == (0, (0, 0))


@pytest.mark.parametrize("fields", [{"mz": 0}, {"pe_magic": 0}, {"pe_start": 0xFFFFFFF0}])
def test_no_pe_header(fields: dict[str, int]) -> None:
    assert read_pe(images.bzimage(fields=fields)) is None


@pytest.mark.parametrize(
    ("pointer", "text"),
    [(0x200, f"{images.RELEASE} (tc@box) #1 SMP"), (0, ""), (0xFFFF, ""), (images.SETUP_SECTS * 512, "")],
)
def test_version_string(pointer: int, text: str) -> None:
    image = images.bzimage(fields={"kernel_version": pointer})
    assert version_string(image, read_header(image)) == text


@FUZZ
@given(st.binary(max_size=1024), st.booleans())
def test_random_bytes_are_a_header_or_a_user_error(data: bytes, magics: bool) -> None:
    image = bytearray(data)
    if magics and len(image) >= 0x206:
        images.put(image, "boot_flag", 0xAA55)
        images.put(image, "header", 0x53726448)
    try:
        header = read_header(image)
    except UserError:
        return
    assert magics
    assert 1 <= header.setup_sects <= 255
    version_string(image, header)


@FUZZ
@given(st.integers(0, 0xFFFFFFFF), st.binary(max_size=300))
def test_random_pe_headers_never_fail(start: int, rest: bytes) -> None:
    image = bytearray(b"MZ" + bytes(0x3A) + start.to_bytes(4, "little") + b"PE\0\0" + rest)
    pe = read_pe(image)
    assert pe is None or pe.machine <= 0xFFFF
