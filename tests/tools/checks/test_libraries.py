# SPDX-License-Identifier: MIT
"""Libraries of real extensions and programs, held against Tiny Core's own root of 11.0."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tasks.checks import libraries
from tasks.config import architecture
from tasks.formats import initramfs_file
from tasks.formats.libraries import extract
from tasks.util.errors import UserError
from tests.support.tinycore import real

# The list that came without its .dep files: what parted needs (tce-load's own names).
PC = architecture.load("x86_64")
NEEDED = ("readline", "ncursesw", "liblvm2", "udev-lib")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Return the libraries of the real root."""
    members = initramfs_file.merged(initramfs_file.read_core(real("x86_64/rootfs64.gz"))).values()
    return extract(members, tmp_path_factory.mktemp("real") / "base")


def unpacked(name: str, folder: Path) -> dict[str, Path]:
    """Return the files of a real extension by their paths in the guest."""
    target = folder / name
    packed = real(f"x86_64/tcz/{name}.tcz")
    subprocess.run(["unsquashfs", "-no-progress", "-quiet", "-dest", target, packed], check=True)
    return {f"/{path.relative_to(target)}": path for path in target.rglob("*") if path.is_file()}


def test_parted_finds_its_libraries_in_its_dependencies_and_not_without_one(
    base: Mapping[str, Path], tmp_path: Path
) -> None:
    own = unpacked("parted", tmp_path)
    below = {f"extension {name}": unpacked(name, tmp_path) for name in NEEDED}
    libraries.check("parted", PC, own, {"the base": base, **below}, [])
    del below["extension liblvm2"]
    with pytest.raises(UserError, match=r"needs libdevmapper\.so\.1\.02"):
        libraries.check("parted", PC, own, {"the base": base, **below}, [])


def test_a_program_of_this_machine_needs_a_newer_libc(base: Mapping[str, Path]) -> None:
    program = shutil.which("xz")
    assert program
    with pytest.raises(
        UserError, match=r"needs GLIBC_2\.3\d of libc\.so\.6; the base has up to 2\.30"
    ) as caught:
        libraries.check("xz", PC, {"/usr/local/bin/xz": Path(program)}, {"the base": base}, [])
    assert "usr/local/bin/xz" in str(caught.value)
