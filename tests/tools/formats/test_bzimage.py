# SPDX-License-Identifier: MIT
"""The kernel that tcbuild built is a valid vmlinuz; its neighbours in the build folder are not.

TCBUILD_BZIMAGE=FILE puts another image under test.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tasks.cli import identify
from tasks.formats import bzimage
from tasks.formats.bzimage import check_bzimage, read_header
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError


@pytest.fixture(scope="module")
def image() -> Path:
    named = os.environ.get("TCBUILD_BZIMAGE")
    found = [Path(named)] if named else sorted((CHECKOUT.root / "artifacts").glob("*/kernel/vmlinuz64"))
    if not found:
        pytest.skip("no kernel built: run ./doit kernel, or name one by TCBUILD_BZIMAGE")
    return found[0]


def beside(image: Path, *names: str) -> Path:
    """Return the first file that exists, below the profile's artifacts or the build folder named by hand."""
    roots = [image.parent.parent, *image.parents[:4]]
    for path in (root / name for root in roots for name in names):
        if path.exists():
            return path
    pytest.skip(f"no {' or '.join(names)} beside {image}")


def release_of(image: Path) -> str:
    return beside(image, "kernel/release", "include/config/kernel.release").read_text().strip()


def test_the_built_kernel_is_a_valid_vmlinuz(image: Path) -> None:
    release = release_of(image)
    found = check_bzimage(image, release=release)
    assert found.size == image.stat().st_size == found.header.image_size
    assert found.release == release
    assert found.header.version >= 0x020C
    assert release in found.banner
    assert found.vmlinux_size > found.header.payload_length
    assert found.pe is not None, "EFI_STUB=y is in both configurations"


def test_its_payload_is_what_the_kernels_own_script_unpacks(image: Path) -> None:
    """scripts/extract-vmlinux searches for magics instead of reading the header."""
    script = beside(image, "linux/scripts/extract-vmlinux", "source/scripts/extract-vmlinux")
    unpacked = subprocess.run(["sh", script, image], capture_output=True, check=True).stdout
    data = memoryview(image.read_bytes())
    _, content = bzimage.payload(data, read_header(data))
    assert content == unpacked


def test_check_says_it_can_be_booted(image: Path) -> None:
    verdict = identify.identify(image)
    assert (verdict.kind, verdict.ok) == ("bzImage", True), str(verdict)


@pytest.mark.parametrize("missing", [1, 100_000])
def test_a_cut_copy_is_refused_with_the_number_of_missing_bytes(
    image: Path, tmp_path: Path, missing: int
) -> None:
    cut = tmp_path / "vmlinuz64"
    cut.write_bytes(image.read_bytes()[:-missing])
    verdict = identify.identify(cut)
    assert verdict.kind == "truncated"
    assert f"{missing:,} bytes are missing" in str(verdict)


def test_one_changed_byte_in_the_payload_is_found(image: Path, tmp_path: Path) -> None:
    data = bytearray(image.read_bytes())
    header = read_header(data)
    data[header.setup_size + header.payload_offset + header.payload_length // 2] ^= 0x10
    changed = tmp_path / "vmlinuz64"
    changed.write_bytes(data)
    with pytest.raises(UserError, match="kernel payload at"):
        check_bzimage(changed)


def test_the_image_of_another_release_is_refused(image: Path) -> None:
    with pytest.raises(UserError, match=r"expected 0\.0\.1"):
        check_bzimage(image, release="0.0.1")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("vmlinux", "vmlinux"),
        ("arch/x86/boot/compressed/vmlinux", "vmlinux-compressed"),
        ("arch/x86/boot/setup.bin", "truncated"),
        ("System.map", "system-map"),
        (".config", "kconfig"),
    ],
)
def test_what_people_boot_by_mistake(image: Path, name: str, kind: str) -> None:
    path = beside(image, f"build/{name}", name)
    verdict = identify.identify(path)
    assert (verdict.kind, verdict.ok) == (kind, False)
    assert "bzImage" in verdict.hint or "vmlinuz64" in verdict.hint
    if kind.startswith("vmlinux"):
        assert "error: invalid magic number" in str(verdict)
        with path.open("rb") as file:
            assert f"finds {file.read(0x200)[0x1FE:].hex(' ')}" in str(verdict)
        named = Path(verdict.hint.removeprefix("use ").split(",")[0])
        assert identify.identify(named).ok, verdict.hint
