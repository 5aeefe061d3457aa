# SPDX-License-Identifier: MIT
"""A core compressed in the other ways the built kernel knows boots as the default one does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from tasks.formats import initramfs_file
from tasks.initramfs import core
from tasks.vm.guest import Guest
from tasks.vm.machine import Machine
from tests.support.built import built
from tests.support.settings import with_values


@pytest.mark.parametrize("method", ["xz", "zstd"])
def test_a_core_of_parts_boots(tmp_path: Path, method: Literal["xz", "zstd"]) -> None:
    image = built()
    formats = (image.paths.kernel / "initramfs.formats").read_text().split()
    if method not in formats:
        pytest.skip(f"this kernel cannot unpack {method}")
    chosen = replace(image.profile.core, compression=method, level=1, recompress=True)
    made = with_values(image, profile=replace(image.profile, core=chosen), output=tmp_path / "out")
    made.paths.output.mkdir()
    for name in ("kernel", "rootfs64.gz", "tcz", "modules"):
        if (image.paths.output / name).exists():
            (made.paths.output / name).symlink_to(image.paths.output / name)
    core.build(made.paths, made.profile)
    archives = initramfs_file.read_core(made.paths.core)
    assert {archive.method for archive in archives} == {method}
    assert len(archives) >= 2
    append = "loglevel=3 nodhcp console=ttyS0,115200"
    machine = Machine(
        "direct", kernel=image.paths.kernel / "vmlinuz64", initrd=made.paths.core, append=append
    )
    with Guest(machine, tmp_path / "log", limit=300) as guest:
        guest.login()
        guest.run("[ -s /lib/modules/$(uname -r)/modules.dep ] && [ -u /usr/bin/sudo ] && sudo true")
        guest.power_off()
