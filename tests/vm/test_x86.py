# SPDX-License-Identifier: MIT
"""32-bit PCs, by BIOS and by 32-bit UEFI: profile quick32, and Tiny Core's own 32-bit root of 11.0.

The kernel is Debian's own for i386, so nothing is compiled.  Its isofs is a module, so Tiny Core's root
takes no extension from the disc there: it has one in the core.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tasks.cli import variables
from tasks.config.profile import Extension
from tasks.config.settings import Settings
from tasks.config.sources import Core
from tasks.image import iso
from tasks.initramfs import core
from tasks.origins.sources.file import FileSource
from tasks.util.checkout import CHECKOUT
from tasks.vm import boots
from tasks.vm.machine import Firmware
from tests.support.built import doit
from tests.support.settings import both
from tests.support.tinycore import real
from tests.vm.contract import QUICK, starting

COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|\r")

FIRMWARE: tuple[Firmware, ...] = ("bios", "uefi")


@pytest.fixture(scope="module")
def small() -> Settings:
    """The image of profile quick32, built by the command a person uses."""
    done = doit(CHECKOUT.root, "iso", "profile=quick32")
    assert done.status == 0, done.output
    return variables.resolve({"profile": "quick32"}, CHECKOUT.root / "artifacts")


def test_the_kernel_is_a_valid_one_for_32_bits(small: Settings) -> None:
    checked = doit(CHECKOUT.root, "check", str(small.paths.vmlinuz))
    assert checked.status == 0, checked.output
    assert "bootable 32-bit x86 Linux kernel" in checked.output


def test_the_iso_boots_by_bios_and_by_32_bit_uefi(
    small: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    boots.test(*both(small), FIRMWARE, ("cd",))
    said = capsys.readouterr().out
    assert all(f"{firmware}-cd: 7 checks passed" in said for firmware in FIRMWARE), said


@pytest.fixture(scope="module")
def tiny_core(small: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Tiny Core's own root, with an extension in the core."""
    root = real("x86/rootfs.gz")
    made = replace(small, paths=replace(small.paths, output=tmp_path_factory.mktemp("x86")))
    for name in ("kernel", "modules"):
        (made.paths.output / name).symlink_to(small.paths.output / name)
    starting(made.paths.tcz, "early")
    changed = replace(
        made.profile,
        core=Core(archives=(FileSource(path=str(root)),)),
        boot=replace(made.profile.boot, bootcodes=("console=tty0", "console=ttyS0,115200", QUICK)),
        extensions=(Extension("early", "initrd"),),
    )
    made = replace(made, profile=changed)
    core.build(*both(made))
    iso.build(*both(made))
    return made


@pytest.mark.parametrize("firmware", FIRMWARE)
def test_tiny_cores_own_root_boots(
    firmware: Firmware, tiny_core: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command a person uses, with no bootcode for what the kernel lacks: it lacks nothing."""
    boots.test(*both(tiny_core), (firmware,), ("cd",))
    assert f"{firmware}-cd: 5 checks passed" in capsys.readouterr().out
    said = COLOUR.sub(
        "", (tiny_core.paths.output / f"tests/{firmware}-cd/console.log").read_text(errors="replace")
    )
    assert "Booting Core 11.0" in said
    assert "tc@box:" in said
