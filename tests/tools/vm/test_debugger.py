# SPDX-License-Identifier: MIT
"""The vmlinux that gdb gets is that of the image; gdb knows the kernel's data and its modules."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.cli import variables
from tasks.config.settings import Settings
from tasks.formats import elf
from tasks.kernel import build, install
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.process import run
from tasks.vm import debugger
from tasks.vm.debugger import Symbols
from tasks.vm.guest import Guest
from tasks.vm.machine import Machine
from tests.support import smallkernel
from tests.support.built import compiled

SMALL = {
    **dict.fromkeys(("64BIT", "MODULES", "PRINTK", "TTY", "SERIAL_8250", "SERIAL_8250_CONSOLE"), "y"),
    **dict.fromkeys(("BLK_DEV_INITRD", "BINFMT_ELF", "KALLSYMS", "SYSFS", "PROC_FS"), "y"),
    **dict.fromkeys(("DEBUG_KERNEL", "DEBUG_INFO", "DEBUG_INFO_DWARF4", "GDB_SCRIPTS"), "y"),
    "CRC7": "m",
    "MODULE_UNLOAD": "y",  # lx-lsmod prints how often a module is used
}
# A program for x86-64 that loads the module in /m.ko, and waits for ever.  Behind its ELF header and one
# program header, which load the file at 0x400000, stands at 0x78:
LOADER = bytes.fromhex(
    "488d3d2e000000"  # lea rdi, [rip + 0x2e]  # "/m.ko", at 0xad
    "31f6b8020000000f05"  # xor esi, esi; mov eax, 2; syscall  # open
    "89c7488d3522000000"  # mov edi, eax; lea rsi, [rip + 0x22]  # "", at 0xb3
    "31d2b8390100000f05"  # xor edx, edx; mov eax, 313; syscall  # finit_module
    "b8220000000f05"  # mov eax, 34; syscall  # pause
    "ebf7"  # jmp back to it
)


def image_with(folder: Path, vmlinux: Path | None) -> Settings:
    """The built image's settings, with a build folder of its own."""
    settings = compiled()
    made = replace(settings, paths=replace(settings.paths, output=folder))
    made.paths.build.mkdir(parents=True)
    made.paths.kernel.symlink_to(settings.paths.kernel)
    if vmlinux:
        shutil.copy(vmlinux, made.paths.build / "vmlinux")
    return made


def test_only_the_vmlinux_of_the_image_is_taken(tmp_path: Path) -> None:
    settings = compiled()
    real = settings.paths.build / "vmlinux"
    symbols = Symbols.of(settings.paths, settings.profile)
    assert (symbols.vmlinux, symbols.debug, symbols.scripts) == (real, False, None)
    whole = image_with(tmp_path / "whole", real)
    assert Symbols.of(whole.paths, whole.profile).vmlinux == whole.paths.build / "vmlinux"
    none = image_with(tmp_path / "none", None)
    with pytest.raises(UserError, match="vmlinux does not exist: the shared cache had the kernel"):
        Symbols.of(none.paths, none.profile)
    other = image_with(tmp_path / "other", Path("/usr/bin/qemu-system-x86_64"))
    with pytest.raises(UserError, match=r"is of another build: its build-id is \w{40}, the image's \w{40}"):
        Symbols.of(other.paths, other.profile)


def test_a_build_id_is_that_of_readelf() -> None:
    path = compiled().paths.build / "vmlinux"
    assert f"Build ID: {elf.build_id(path)}" in run(["readelf", "-n", path]).stdout


def test_a_kernel_that_others_built_has_no_vmlinux() -> None:
    quick = variables.resolve({"profile": "quick"}, CHECKOUT.root / "artifacts")
    with pytest.raises(UserError, match="which others built"):
        Symbols.of(quick.paths, quick.profile)


def initramfs(folder: Path, module: Path) -> Path:
    """Write an initramfs whose init loads a module."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += bytes.fromhex("02003e000100000078004000000000004000000000000000")
    header += bytes(8 + 4) + bytes.fromhex("400038000100000000000000")
    code = LOADER.ljust(0xAD - 0x78, b"\x90") + b"/m.ko\0\0"
    size = (0x78 + len(code)).to_bytes(8, "little")
    program = bytes.fromhex("0100000005000000000000000000000000004000000000000000400000000000")
    (folder / "init").write_bytes(header + program + size + size + bytes.fromhex("0010000000000000") + code)
    (folder / "init").chmod(0o755)
    shutil.copy(module, folder / "m.ko")
    archive = folder.parent / "initramfs"
    command = ["cpio", "-o", "-H", "newc", "--quiet"]
    done = subprocess.run(command, cwd=folder, input=b"init\nm.ko\n", capture_output=True, check=True)
    archive.write_bytes(done.stdout)
    return archive


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A small kernel with debug information and a module."""
    monkeypatch.setattr(CHECKOUT, "artifacts", tmp_path / "artifacts")
    settings = smallkernel.prepare(tmp_path / "artifacts/small", SMALL)
    build.build(settings)
    install.install(settings)
    yield settings
    shutil.rmtree(settings.paths.linux)


@pytest.mark.slow
def test_gdb_knows_the_kernels_data_and_its_modules(small: Settings, tmp_path: Path) -> None:
    """`lx-symbols` is the kernel's own; the module that is installed has no debug information."""
    installed = next((small.paths.kernel / "modules").rglob("crc7.ko"))
    assert not elf.has_debug_information(installed)
    assert elf.has_debug_information(small.paths.build / "lib/crc7.ko")
    (tmp_path / "root").mkdir()
    initrd = initramfs(tmp_path / "root", installed)
    machine = Machine("direct", kernel=small.paths.vmlinuz, initrd=initrd, append="console=ttyS0", memory=128)
    with debugger.opened(small.paths, small.profile, machine, halted=True) as made:
        file = small.paths.output / "gdb" / f"{made.gdb}.gdb"
        commands = ["print init_uts_ns.name.sysname", "break do_init_module", "continue", "print mod->name"]
        commands += ["finish", "info symbol crc7_be", "info line crc7_be", "lx-lsmod", "lx-version"]
        words = [word for command in commands for word in ("-ex", command)]
        with Guest(made, tmp_path / "log", limit=300):
            told = run(["gdb", "-nx", "-batch", "-x", file, *words]).stdout
    assert '"Linux", ' in told
    assert re.search(r'= "crc7"', told)
    assert "crc7_be in section .text of " in told
    assert re.search(r'Line \d+ of "[^"]*lib/crc7\.c"', told)
    assert re.search(r"0x[0-9a-f]+ crc7 ", told)
