# SPDX-License-Identifier: MIT
"""Architectures: what a machine's kind decides, one file tasks/config/architectures/NAME.toml each.

A profile names one by `arch`.  Names of files and folders are Tiny Core's.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from tasks.util import toml_schema
from tasks.util.errors import UserError

FOLDER = Path(__file__).with_name("architectures")
DEFAULT = "x86_64"


@dataclass(frozen=True)
class FileNames:
    """The names that Tiny Core gives the kernel, the core, and the two archives that make up the core."""

    kernel: str
    core: str
    rootfs: str
    modules: str


@dataclass(frozen=True)
class Efi:
    """GRUB for the UEFI firmware of one kind of machine.

    format: the format of grub-mkimage (`-O`).
    file: the name in EFI/BOOT/ of what firmware starts from a removable medium.
    """

    format: str
    file: str


@dataclass(frozen=True)
class Emulator:
    """QEMU for this architecture.

    program: the name of the program.
    board: the value of `-machine`.
    uefi_code, uefi_variables: the firmware for UEFI, and the template of its variables.
    uefi_package: the package that has both.
    uefi_options: further options that the firmware asks for.
    """

    program: str
    board: str
    uefi_code: str
    uefi_variables: str
    uefi_package: str
    uefi_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """An architecture.

    description: one line about it.
    kbuild: the value of ARCH= for the kernel's make.
    source: its folder below arch/ of the kernel's source.
    packages: Debian's name of it.
    bits: of ELF files, 32 or 64.
    machine: of ELF files, as pyelftools names it (EM_...).
    loader: the path of ld.so below `/`, in Debian's packages.
    mirror: its folder of a release on Tiny Core's mirrors.
    platform: of container images, as linux/amd64.
    also_runs: machines of further ELF programs that its kernels can run.
    """

    description: str
    kbuild: str
    source: str
    packages: str
    bits: int
    machine: str
    loader: str
    mirror: str
    platform: str
    files: FileNames
    efi: tuple[Efi, ...]
    emulator: Emulator
    also_runs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.bits not in (32, 64):
            raise ValueError(f"bits: expected 32 or 64, got {self.bits}")

    @property
    def runs(self) -> tuple[str, ...]:
        """The machines of all ELF programs that its kernels can run, its own first."""
        return (self.machine, *self.also_runs)


def names() -> list[str]:
    """Return the names of all architectures."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def every() -> list[Architecture]:
    """Return all architectures.  Raises `UserError` as `load` does."""
    return [load(name) for name in names()]


@functools.cache
def load(name: str) -> Architecture:
    """Return the architecture `name`.  Raises `UserError` if there is none or its file is malformed."""
    if name not in names():
        raise UserError(f"unknown architecture {name!r}", f"architectures: {', '.join(names())}")
    return toml_schema.load(FOLDER / f"{name}.toml", Architecture)
