# SPDX-License-Identifier: MIT
"""What the tests of Tiny Core's contract boot: guests, extensions and disks made on the spot."""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.kernel_image import KernelImage
from tasks.config.profile import Kernel
from tasks.config.settings import Settings
from tasks.config.sources import Core
from tasks.formats.tcz import file_names
from tasks.initramfs import core, embedded
from tasks.kernel import stock
from tasks.origins.sources.file import FileSource
from tasks.vm.guest import Guest
from tasks.vm.machine import Disk, Machine
from tests.support.built import built
from tests.support.settings import both
from tests.support.tinycore import real

CONSOLE = "loglevel=3 console=tty0 console=ttyS0,115200"
QUICK = "norandmaps"
"""The bootcode by which a boot loader's guest, too, takes half the time (tasks/vm/machine.py)."""
LIMIT = 300.0
SCRIPT = "#!/bin/sh\n"
INSTALLED = "usr/local/tce.installed"
PLACE = "isos/tiny-core.iso"
"""Where `make_stick` puts an ISO."""
GRUB = f"""\
set iso_path=/{PLACE}
set timeout=0
export iso_path timeout
search --no-floppy --set=root --file $iso_path
loopback loop $iso_path
set root=(loop)
configfile /boot/grub/loopback.cfg
"""


def own_root() -> Settings:
    """Return the settings of the built image, if its root is ours."""
    settings = built()
    if not settings.profile.core.rootfs:
        pytest.skip("this profile boots Tiny Core's own root")
    return settings


def on_tiny_cores_root(image: Settings, output: Path) -> Settings:
    """Return settings of the built kernel, as one that others built, with Tiny Core's own root of 11.0.

    That is remastering: nothing is configured or compiled.  Kernel and core are made in `output`; the
    test is skipped where this machine has no such root.
    """
    root = real("x86_64/rootfs64.gz")
    kernel = Kernel(source=KernelImage(folder=str(image.paths.kernel)))
    profile = replace(image.profile, kernel=kernel, core=Core(archives=(FileSource(path=str(root)),)))
    made = replace(image, paths=replace(image.paths, output=output), profile=profile)
    stock.take(*both(made))
    core.build(*both(made))
    return made


def machine(image: Settings, bootcodes: str, *disks: Disk, **changes: object) -> Machine:
    """Return the machine that starts the image's kernel directly."""
    what = {
        "kernel": image.paths.kernel / "vmlinuz64",
        "initrd": image.paths.core,
        "append": f"{CONSOLE} {bootcodes}",
    }
    return Machine("direct", disks=disks, **(what | changes))  # type: ignore[arg-type]


@contextmanager
def booted(
    image: Settings, log: Path, bootcodes: str = "", *disks: Disk, **changes: object
) -> Iterator[Guest]:
    """A guest at its first prompt, powered off by `sudo poweroff` at the end."""
    with Guest(machine(image, bootcodes, *disks, **changes), log, limit=LIMIT) as guest:
        guest.login()
        yield guest
        guest.power_off()


def make_tcz(folder: Path, name: str, files: Mapping[str, str], deps: str = "") -> Path:
    """Make NAME.tcz (and .dep, .list, .md5.txt) in `folder`; scripts (`#!`) become executable."""
    root = folder.parent / f".{name}"
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
        (root / path).chmod(0o755 if content.startswith("#!") else 0o644)
    folder.mkdir(parents=True, exist_ok=True)
    tcz = folder / f"{name}.tcz"
    options = ("-b", "4096", "-no-xattrs", "-all-root", "-noappend", "-quiet", "-no-progress")
    subprocess.run(["mksquashfs", root, tcz, *options], check=True, capture_output=True)
    Path(f"{tcz}.list").write_text("".join(f"{path}\n" for path in sorted(files)))
    if deps:
        Path(f"{tcz}.dep").write_text(deps, newline="")
    digest = hashlib.md5(tcz.read_bytes()).hexdigest()
    Path(f"{tcz}.md5.txt").write_text(f"{digest}  {name}.tcz\n")
    return tcz


def starting(folder: Path, name: str, files: Mapping[str, str] | None = None, deps: str = "") -> Path:
    """Make an extension whose start script adds a line to /tmp/started: its name and its user."""
    script = SCRIPT + f'echo "{name} $(id -un)" >> /tmp/started\n'
    return make_tcz(folder, name, {f"{INSTALLED}/{name}": script, **(files or {})}, deps)


def base_and_top(folder: Path) -> None:
    """Two extensions: `top` depends on `base`, uses its file and brings one that is there already."""
    starting(folder, "base", {"usr/local/share/base": "from base\n"})
    tool = SCRIPT + "cat /usr/local/share/base\n"
    starting(folder, "top", {"usr/local/bin/top-tool": tool, "etc/motd": "not to be taken\n"}, "base.tcz\n")


def carry(image: Settings, tree: Path, names: Sequence[str]) -> None:
    """Lay out built extensions, with all they depend on, as the `cde/` of a CD that loads `names`."""
    optional = tree / "cde/optional"
    optional.mkdir(parents=True)
    release = (image.paths.kernel / "release").read_text().strip()
    for name in embedded.with_dependencies(image.paths.tcz, names, release):
        assert (image.paths.tcz / f"{name}.tcz").is_file(), "run these tests by ./doit test"
        for file in file_names(name):
            shutil.copyfile(image.paths.tcz / file, optional / file)
    (tree / "cde/onboot.lst").write_text("".join(f"{name}.tcz\n" for name in names))


def make_disc(iso: Path, tree: Path) -> Disk:
    """Write a CD of the folder `tree`."""
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-J", "-r", "-o", iso, tree], check=True)
    return Disk(iso, "cdrom")


def make_disk(image: Path, content: Path, label: str = "") -> Disk:
    """Make an ext3 disk of 64 MiB that holds what is in the folder `content`."""
    content.mkdir(parents=True, exist_ok=True)
    command = ["mkfs.ext3", "-q", "-F", "-L", label, "-d", str(content), str(image), "64M"]
    subprocess.run(command, check=True, capture_output=True)
    return Disk(image)


def empty_disk(image: Path, mib: int) -> Disk:
    """Make an empty ext3 disk of `mib` MiB, which the file system has from the first byte on."""
    with image.open("wb") as stream:
        stream.truncate(mib << 20)
    subprocess.run(["mkfs.ext3", "-q", "-F", image], check=True)
    return Disk(image)


def add_partition(image: Path, number: int, content: Path) -> None:
    """Put a file system behind what is in an image, as partition `number` of its MBR.

    An entry is 16 bytes from 446 on; its type stands at 4, first sector and count at 8 (UEFI
    specification, "Legacy Master Boot Record").  The image may be absent.
    """
    image.touch()
    data = content.read_bytes()
    with image.open("r+b") as file:
        start = max(-(-file.seek(0, 2) // (1 << 20)), 1) << 20
        file.truncate(start)
        file.seek(start)
        file.write(data)
        file.seek(446 + 16 * (number - 1))
        file.write(struct.pack("<4xB3xII", 0x83, start // 512, len(data) // 512))
        file.seek(510)
        file.write(b"\x55\xaa")


def add_gpt_partition(image: Path, number: int, content: Path) -> None:
    """Put a file system behind what is in an image with a GPT, as a person would with a stick."""
    size = content.stat().st_size
    with image.open("r+b") as file:
        file.truncate(image.stat().st_size + size + (4 << 20))
    made = ["-n", f"{number}:0:+{size >> 10}K", "-t", f"{number}:8300"]
    subprocess.run(["sgdisk", "-e", *made, image], check=True, capture_output=True)
    told = subprocess.run(["sgdisk", "-i", str(number), image], check=True, capture_output=True, text=True)
    with image.open("r+b") as file:
        file.seek(int(told.stdout.partition("First sector: ")[2].split()[0]) * 512)
        file.write(content.read_bytes())


def make_stick(folder: Path, iso: Path, place: str = PLACE) -> Disk:
    """Make a disk with a FAT partition that holds `iso` at `place`."""
    fat = folder / "fat.img"
    with fat.open("wb") as file:
        file.truncate(iso.stat().st_size + (40 << 20))
    subprocess.run(["mkfs.vfat", "-F", "32", fat], check=True, capture_output=True)
    subprocess.run(["mmd", "-i", fat, f"::/{Path(place).parent}"], check=True)
    subprocess.run(["mcopy", "-i", fat, iso, f"::/{place}"], check=True)
    add_partition(folder / "stick.img", 1, fat)
    return Disk(folder / "stick.img")


def make_grub(folder: Path) -> Disk:
    """Make a CD with a GRUB of somebody else's, and nothing of ours."""
    tree = folder / "grub-tree"
    (tree / "boot/grub").mkdir(parents=True)
    (tree / "boot/grub/grub.cfg").write_text(GRUB)
    options = ["-d", "/usr/lib/grub/i386-pc", "--locales=", "--fonts=", "--themes="]
    subprocess.run(
        ["grub-mkrescue", *options, "-o", folder / "grub.iso", tree], check=True, capture_output=True
    )
    return Disk(folder / "grub.iso", "cdrom")
