# SPDX-License-Identifier: MIT
"""The kernel that was built: its release, and the modules for the core."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.kernel import installed
from tasks.util.errors import UserError
from tests.support.settings import both


def declaring(settings: Settings, **kernel: str) -> Settings:
    """Return settings whose profile says other things of its kernel."""
    changed = replace(settings.profile.kernel, **kernel)  # type: ignore[arg-type]
    return replace(settings, profile=replace(settings.profile, kernel=changed))


@pytest.fixture
def built(make_settings: Callable[..., Settings]) -> Settings:
    """Settings with a kernel of release 6.1.0-x."""
    settings = make_settings()
    settings.paths.kernel.mkdir(parents=True)
    (settings.paths.kernel / "release").write_text("6.1.0-x\n")
    return settings


@pytest.mark.parametrize("declared", ["", "6.1.0-x"])
def test_the_release_is_that_of_the_kernel_built(built: Settings, declared: str) -> None:
    assert installed.kernel_release(*both(declaring(built, release=declared))) == "6.1.0-x"


def test_another_release_than_the_declared_one_is_refused(built: Settings) -> None:
    with pytest.raises(
        UserError, match=r"declares kernel\.release = '6\.1', but the kernel's is '6\.1\.0-x'"
    ):
        installed.kernel_release(*both(declaring(built, release="6.1")))


def test_without_a_kernel_the_hint_says_what_to_run(built: Settings) -> None:
    (built.paths.kernel / "release").unlink()
    with pytest.raises(UserError, match="release does not exist") as caught:
        installed.kernel_release(built.paths, built.profile)
    assert "doit kernel" in caught.value.hint


def tcz(folder: Path, number: int) -> Path:
    """Write the head of a squashfs: its superblock names a compressor by `number`."""
    path = folder / "tool.tcz"
    path.write_bytes(struct.pack("<4sIIIIH", b"hsqs", 1, 0, 4096, 1, number) + bytes(74))
    return path


@pytest.mark.parametrize("number", [1, 4])
def test_an_extension_that_the_kernel_can_read(built: Settings, tmp_path: Path, number: int) -> None:
    (built.paths.kernel / "squashfs.formats").write_text("gzip\nxz\n")
    installed.check_readable(built.paths, tcz(tmp_path, number))


@pytest.mark.parametrize(
    ("formats", "number", "message", "hint"),
    [
        ("gzip\nxz\n", 3, "by lzo, but the kernel has no CONFIG_SQUASHFS_LZO to read it", "one of: gzip, xz"),
        ("gzip\n", 5, "by lz4, but the kernel has no CONFIG_SQUASHFS_LZ4 to", "add CONFIG_SQUASHFS_LZ4=y"),
        ("xz\n", 1, "by gzip, but the kernel has no CONFIG_SQUASHFS_ZLIB to", "add CONFIG_SQUASHFS_ZLIB=y"),
        ("gzip\n", 2, "by lzma, which no kernel can read", "compress it again by one of: gzip"),
        ("", 1, "by gzip, but the kernel has no CONFIG_SQUASHFS to read it", "add CONFIG_SQUASHFS=y to"),
    ],
)
def test_an_extension_that_the_kernel_cannot_read(
    built: Settings, tmp_path: Path, formats: str, number: int, message: str, hint: str
) -> None:
    (built.paths.kernel / "squashfs.formats").write_text(formats)
    with pytest.raises(UserError) as caught:
        installed.check_readable(built.paths, tcz(tmp_path, number))
    assert caught.value.message.startswith(f"tool.tcz is compressed {message}")
    assert hint in caught.value.hint


def test_split_modules_have_a_folder_for_the_core(built: Settings) -> None:
    split, whole = (declaring(built, modules=modules, release="6.1.0-x") for modules in ("split", "core"))
    assert installed.core_modules(split.paths, split.profile) == built.paths.output / "modules"
    assert installed.core_modules(whole.paths, whole.profile) == built.paths.kernel / "modules"
