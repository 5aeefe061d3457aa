# SPDX-License-Identifier: MIT
"""Extensions in a running guest: kernel modules, which modprobe finds, and a program made of its source."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import recipe_lock
from tasks.config.profile import Extension
from tasks.config.settings import Settings
from tasks.extensions import external, modules
from tasks.fetch import recipe_inputs
from tasks.formats.tcz import file_names
from tasks.image import iso
from tasks.initramfs import core
from tasks.util.checkout import CHECKOUT
from tasks.vm.guest import Guest
from tasks.vm.machine import Disk
from tests.support.built import compiled
from tests.support.sources import ACPI_CALL, TREE, TREE_BUILD, write_recipe
from tests.vm.contract import LIMIT, booted, machine, make_disc, make_tcz, on_tiny_cores_root, own_root


@pytest.fixture
def from_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[list[Path]]:
    """The files of two extensions of Debian's sources: a module for the built kernel, and a program.

    Its parameter is what the program's recipe says of the toolchain.
    """
    image = compiled()
    release = (image.paths.kernel / "release").read_text().strip()
    profile = replace(image.profile, kernel=replace(image.profile.kernel, release=release))
    settings, names = replace(image, profile=profile), (f"acpi-call-{release}", "tree")
    monkeypatch.setattr(CHECKOUT, "trees", (tmp_path / "tree",))
    write_recipe(tmp_path / "tree", "acpi-call-KERNEL", f'kind = "module"\n{ACPI_CALL.table()}')
    # The profile's own toolchain is there already; it has make and a compiler.
    toolchain = getattr(request, "param", f'toolchain = "{profile.toolchain}"\n')
    program = f'kind = "source"\n{TREE.table()}{TREE_BUILD}{toolchain}'
    write_recipe(tmp_path / "tree", "tree", program)
    made: list[Path] = []
    for name in names:
        recipe_inputs.lock(settings, name)
        recipe_inputs.fetch(settings, name)
        external.build(settings, name)
        made += [settings.paths.tcz / file for file in file_names(name)]
    yield made
    for path in (*made, *(recipe_lock.used_path(settings.paths, name) for name in names)):
        path.unlink()


@pytest.fixture
def split(from_source: list[Path], own_programs: None, make_settings: Callable[..., Settings]) -> Settings:
    """The built image, with its modules split and extensions beside the core."""
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
        Extension("acpi-call-KERNEL", "ondemand"),
        Extension("tree", "ondemand"),
    )
    made = replace(made, profile=replace(made.profile, kernel=kernel, extensions=extensions))
    make_tcz(made.paths.tcz, "needs-nat", {"usr/local/share/mounted": ""}, "ipv6-netfilter-KERNEL.tcz\n")
    make_tcz(made.paths.tcz, "copied", {"usr/local/share/copied": ""})
    for path in from_source:
        shutil.copyfile(path, made.paths.tcz / path.name)
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
        # One from elsewhere: it calls a method of the machine's ACPI, the address of its PCI bus.
        loaded = guest.run("tce-load -i /mnt/sr0/cde/optional/acpi-call-KERNEL.tcz")
        assert f"acpi-call-{release}.tcz: OK" in loaded
        guest.run("sudo modprobe acpi_call && grep -q ^acpi_call /proc/modules")
        guest.run(r"echo '\_SB.PCI0._ADR' | sudo tee /proc/acpi/call")
        assert guest.run("sudo cat /proc/acpi/call").startswith("0x0")
        assert "tree.tcz: OK" in guest.run("tce-load -i /mnt/sr0/cde/optional/tree.tcz")
        assert guest.run("tree --noreport -L 1 /mnt/sr0/cde").splitlines()[0] == "/mnt/sr0/cde"


# Its loader lies in /lib, and it has glibc 2.30.
TINY_CORE_11 = """\
toolchain = "debian11-source"
options = ["LDFLAGS=-Wl,--dynamic-linker=/lib/ld-linux-x86-64.so.2"]
"""


@pytest.mark.slow
@pytest.mark.parametrize("from_source", [TINY_CORE_11], indirect=True, ids=["11"])
def test_they_run_on_tiny_cores_own_root(from_source: list[Path], own_programs: None, tmp_path: Path) -> None:
    """Of 11.0, by its own tce-load."""
    image = on_tiny_cores_root(own_root(), tmp_path / "tiny-core")
    optional = tmp_path / "disc/cde/optional"
    optional.mkdir(parents=True)
    for path in from_source:
        shutil.copyfile(path, optional / path.name)
    names = sorted(path.name for path in from_source if path.suffix == ".tcz")
    (optional.parent / "onboot.lst").write_text("".join(f"{name}\n" for name in names))
    disc = make_disc(tmp_path / "disc.iso", tmp_path / "disc")
    with Guest(machine(image, "nodhcp cde", disc), tmp_path / "log", limit=LIMIT) as guest:
        guest.login(timeout=LIMIT)
        assert "Core 11.0" in guest.console
        assert guest.run("ls -1 /usr/local/tce.installed").split() == [
            name.removesuffix(".tcz") for name in names
        ]
        guest.run("sudo modprobe acpi_call && grep -q ^acpi_call /proc/modules")
        guest.run(r"echo '\_SB.PCI0._ADR' | sudo tee /proc/acpi/call")
        assert guest.run("sudo cat /proc/acpi/call").startswith("0x0")
        assert guest.run("tree --noreport -L 1 /mnt/sr0/cde").splitlines()[0] == "/mnt/sr0/cde"
        guest.power_off()
