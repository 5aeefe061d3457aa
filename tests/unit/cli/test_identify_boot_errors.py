# SPDX-License-Identifier: MIT
"""What GRUB answers, and the search for the right file beside a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.cli import identify
from tests.support import images

VMLINUX = images.vmlinux()


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (VMLINUX, "invalid magic number"),
        (images.bzimage(fields={"boot_flag": 0}), "invalid magic number"),
        (images.bzimage()[:615], "premature end of file"),
        (b"", "premature end of file"),
        (images.bzimage(fields={"header": 0}), "version too old for 32-bit boot"),
        (images.bzimage(fields={"version": 0x0202}), "version too old for 32-bit boot"),
        (images.bzimage(fields={"loadflags": 0}), "zImage doesn't support 32-bit boot"),
        (images.bzimage(), ""),
        (images.bzimage()[:1000], ""),
    ],
)
def test_grub_says(data: bytes, answer: str) -> None:
    said = identify.grub_answer(data, len(data))
    assert ("error: " + answer in said[0]) if answer else said == []


def test_the_bytes_grub_stumbles_over_are_shown() -> None:
    assert f"finds {VMLINUX[0x1FE:0x200].hex(' ')}" in identify.grub_answer(VMLINUX, len(VMLINUX))[0]


@pytest.mark.parametrize(
    ("wrong", "right", "levels"),
    [
        ("vmlinux", "arch/x86/boot/bzImage", 1),
        ("arch/x86/boot/compressed/vmlinux", "arch/x86/boot/bzImage", 2),
        ("build/vmlinux", "kernel/vmlinuz64", 2),
        ("build/arch/x86/boot/compressed/vmlinux", "kernel/vmlinuz64", 6),
        ("core.gz", "vmlinuz64", 1),
        ("boot/core.gz", "boot/vmlinuz64", 1),
    ],
)
def test_the_right_file_is_named(tmp_path: Path, wrong: str, right: str, levels: int) -> None:
    for name, content in ((wrong, VMLINUX), (right, images.bzimage())):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert identify.bootable_near(tmp_path / wrong, levels) == tmp_path / right
    assert str(tmp_path / right) in identify.kernel_hint(tmp_path / wrong, "something else", levels)


def test_a_relative_path_gets_a_relative_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bzImage").write_bytes(images.bzimage())
    monkeypatch.chdir(tmp_path)
    assert identify.bootable_near(Path("vmlinux"), 1) == Path("bzImage")


@pytest.mark.parametrize(
    "content",
    [
        VMLINUX,
        b"",
        images.bzimage()[:600],
        images.bzimage(fields={"loadflags": 0}),
    ],
)
def test_a_file_of_the_right_name_only_is_not_offered(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bzImage").write_bytes(content)
    assert identify.bootable_near(tmp_path / "vmlinux", 1) is None
    assert identify.kernel_hint(tmp_path / "vmlinux", "something else") == "something else"


def test_the_file_itself_and_folders_further_up_are_not_offered(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "bzImage").write_bytes(images.bzimage())
    assert identify.bootable_near(tmp_path / "bzImage", 1) is None
    assert identify.bootable_near(tmp_path / "a/b/vmlinux", 2) is None
