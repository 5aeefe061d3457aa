# SPDX-License-Identifier: MIT
"""32-bit PCs: profile apt32 with a small kernel, and Tiny Core's own 32-bit root of 11.0 on that kernel.

The kernel is Tiny Core's config cut down (tests/data/tinycore-cut.config), without modules: it compiles
in about two minutes.  The ISO boots by BIOS, by 32-bit UEFI and directly in qemu-system-i386.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT
from tests.support.built import Outcome, copy_checkout, doit, outcome
from tests.support.tinycore import real

CUT = CHECKOUT.root / "tests/data/tinycore-cut.config"
# What Tiny Core's root waits for, devices without udev, and what the set-uid programs of ours need.
MORE = "CONFIG_DEVTMPFS=y\nCONFIG_BLK_DEV_INITRD=y\n"
KERNEL = """
[kernel]
base = {{ kind = "file", path = "{base}" }}
fragments = ["tinycore"]
"""
OWN = """description = "Profile apt32 with a small kernel"
inherit = "apt32"
"""
TINY_CORE = """description = "Tiny Core's own 32-bit root with a kernel of ours"
arch = "x86"
source_date_epoch = 1576195200
toolchain = "debian12"
suite = {{ distribution = "debian", name = "bookworm" }}

[core]
archives = [{{ kind = "file", path = "{root}" }}]

[boot]
bootcodes = ["cde", "console=tty0", "console=ttyS0,115200"]

[[extensions]]
name = "hello"

[[extensions]]
name = "copied"
place = "copy2fs"

[[extensions]]
name = "inside"
place = "initrd"

[[extensions]]
name = "later"
place = "ondemand"
"""
RECIPE = '[info]\ntitle = "{name}"\ndescription = "a script of its own"\n'


class Small:
    """A copy of the checkout with profiles of its own, and a cache that they share."""

    def __init__(self, folder: Path) -> None:
        self.folder = copy_checkout(folder / "checkout")
        self.shared = folder / "shared"
        self.base = folder / "base.config"
        lines = [line for line in CUT.read_text().splitlines() if line != "CONFIG_64BIT=y"]
        text = "\n".join([*lines, MORE]).replace("=m\n", "=y\n").replace("-tinycore64", "-tinycore")
        self.base.write_text(text)

    def profile(self, name: str, text: str) -> None:
        lock = (self.folder / "profiles/apt32.lock.toml").read_text()
        (self.folder / f"profiles/{name}.lock.toml").write_text(lock)
        (self.folder / f"profiles/{name}.toml").write_text(text)

    def doit(self, *words: str) -> Outcome:
        command = [sys.executable, "-m", "tasks.cli.main", *words, f"cache={self.shared}"]
        done = outcome(command, self.folder, {**os.environ, "CI": "1"})
        assert done.status == 0, done.output
        return done


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    made = Small(tmp_path_factory.mktemp("x86"))
    made.profile("small", OWN + KERNEL.format(base=made.base))
    made.doit("iso", "profile=small")
    return made


def test_the_kernel_is_a_valid_one_for_32_bits(small: Small) -> None:
    checked = doit(CHECKOUT.root, "check", str(small.folder / "artifacts/small/kernel/vmlinuz"))
    assert checked.status == 0, checked.output
    assert "bootable 32-bit x86 Linux kernel" in checked.output


def test_the_iso_boots_by_bios_by_32_bit_uefi_and_directly(small: Small) -> None:
    said = small.doit("qemu:test", "profile=small").output
    assert [f"{firmware}: " in said for firmware in ("bios", "uefi", "direct")] == [True] * 3
    assert (small.folder / "artifacts/small/core.gz").is_file()


def test_tiny_cores_own_root_boots_with_extensions_in_all_places(small: Small) -> None:
    """Tiny Core's userland of 11.0 for 32-bit PCs; its inittab has no serial shell of its own."""
    root = real("x86/rootfs.gz")
    for name in ("hello", "copied", "inside", "later"):
        program = small.folder / f"extensions/{name}/files/usr/local/bin/{name}"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\necho {name}\n")
        program.chmod(0o755)
        recipe = small.folder / f"extensions/{name}/recipe.toml"
        recipe.write_text(RECIPE.format(name=name))
    source = '\nsource = { kind = "apt", package = "linux-source-[0-9]*" }\nbase_mode = "allnoconfig"\n'
    kernel = KERNEL.format(base=small.base).replace("[kernel]\n", f"[kernel]{source}")
    kernel += 'localversion = "-tcbuild"\n'
    text = TINY_CORE.format(root=root)
    small.profile("real", text.replace("\n[core]", f"{kernel}\n[core]"))
    said = small.doit("iso", "profile=real").output
    assert "objects" not in said  # the kernel comes from the cache
    said = small.doit("qemu:test", "profile=real").output
    assert [f"{firmware}: " in said for firmware in ("bios", "uefi", "direct")] == [True] * 3
