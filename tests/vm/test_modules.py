# SPDX-License-Identifier: MIT
"""Kernel modules in extensions: tce-load brings them, and modprobe finds them in a running guest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.profile import Extension
from tasks.config.settings import Settings
from tasks.extensions import modules
from tasks.image import iso
from tasks.initramfs import core
from tasks.vm.machine import Disk
from tests.vm.contract import booted, make_tcz, own_root


@pytest.fixture
def split(own_programs: None, make_settings: Callable[..., Settings]) -> Settings:
    """The built image, with its modules split and two extensions beside the core."""
    image = own_root()
    made = make_settings(image.paths.name)
    shutil.copytree(image.paths.kernel, made.paths.kernel, symlinks=True)
    shutil.copyfile(image.paths.output / "rootfs64.gz", made.paths.output / "rootfs64.gz")
    release = (image.paths.kernel / "release").read_text().strip()
    kernel = replace(made.profile.kernel, modules="split", release=release)
    extensions = (
        Extension("needs-nat"),
        Extension("copied", "copy2fs"),
        Extension("net-bridging-KERNEL", "ondemand"),
    )
    made = replace(made, profile=replace(made.profile, kernel=kernel, extensions=extensions))
    make_tcz(made.paths.tcz, "needs-nat", {"usr/local/share/mounted": ""}, "ipv6-netfilter-KERNEL.tcz\n")
    make_tcz(made.paths.tcz, "copied", {"usr/local/share/copied": ""})
    modules.split(made.paths, made.profile)
    core.build(made.paths, made.profile)
    iso.build(made.paths, made.profile)
    return made


def test_modules_come_by_extension(split: Settings, tmp_path: Path) -> None:
    release = split.profile.kernel.release
    with booted(split, tmp_path / "log", "nodhcp cde", Disk(split.paths.iso, "cdrom")) as guest:
        installed = guest.run("ls -1 /usr/local/tce.installed").split()
        assert {"needs-nat", "copied", f"ipv6-netfilter-{release}"} <= set(installed)
        guest.run("sudo modprobe overlay")  # of the core
        guest.run("sudo modprobe nf_nat && grep -q ^nf_conntrack /proc/modules")
        guest.run("[ -L /usr/local/share/mounted ] && [ -f /usr/local/share/copied ]")
        guest.run("[ ! -L /usr/local/share/copied ] && ! grep -q /copied /proc/mounts")
        guest.run("! sudo modprobe -q bridge")
        loaded = guest.run("tce-load -i /mnt/sr0/cde/optional/net-bridging-KERNEL.tcz")
        assert f"net-bridging-{release}.tcz: OK" in loaded
        guest.run("sudo modprobe br_netfilter && grep -q ^bridge /proc/modules")
