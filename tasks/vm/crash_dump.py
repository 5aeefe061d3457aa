# SPDX-License-Identifier: MIT
"""The memory of a guest whose kernel has panicked, as a file: `--dump-on-panic FILE`.

QEMU writes it as an ELF core (its documentation, "QMP", dump-guest-memory), which gdb reads.
"""

from __future__ import annotations

import mmap
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.formats import elf_core
from tasks.util.errors import UserError
from tasks.util.files import atomic_path
from tasks.util.log import logger
from tasks.vm import monitor
from tasks.vm.debugger import Symbols
from tasks.vm.guest import PANIC, Guest, Panicked

SECONDS = 600.0  # of a guest with much memory on a slow disk
END_SECONDS = 5.0  # from a panic's line to the end of what it says
LOOK_SECONDS = 0.5
END = "end Kernel panic"
BANNER = "linux_banner"
"""The symbol of a text that every kernel has once at a place that does not change."""
ALIGNMENT = 0x200000  # of the kernel's place: the default of CONFIG_PHYSICAL_ALIGN
TEXT = {64: 0xFFFFFFFF80000000, 32: 0}
"""The lowest address of the kernel's own text; 64-bit kernels see the same memory lower, too."""


@contextmanager
def on_panic(guest: Guest, paths: Paths, profile: Profile, file: Path | None) -> Iterator[None]:
    """Write the dump if the guest panics meanwhile, and raise `Panicked` further.  file: None for no dump."""
    try:
        yield
    except Panicked:
        if file:
            _try(guest.scratch, paths, profile, file, lambda: guest.console)
        raise


def watch(
    console: Path, lives: Callable[[], bool], scratch: Path, files: tuple[Paths, Profile, Path]
) -> None:
    """Write the dump once the log of a console tells of a panic; return then, or when the guest has ended.

    console: the log; lives: whether the guest runs; files: of the profile, and the file of the dump.
    """

    def said() -> str:
        return console.read_text(errors="replace") if console.is_file() else ""

    while lives():
        if PANIC.search(said()):
            return _try(scratch, *files, said)
        time.sleep(LOOK_SECONDS)
    return None


def _try(scratch: Path, paths: Paths, profile: Profile, file: Path, said: Callable[[], str]) -> None:
    """Write the dump, and say how it is read.  What fails is a warning: the panic is the news."""
    until = time.monotonic() + END_SECONDS
    while END not in said() and time.monotonic() < until:
        time.sleep(0.1)
    try:
        write(scratch, file)
        how = command(paths, profile, file)
        logger.info(f"dump: {file}: {file.stat().st_size:,} bytes; read it by: {how}")
    except UserError as error:
        logger.warning(f"--dump-on-panic: {error}")


def write(scratch: Path, file: Path) -> None:
    """Write the memory of the machine in `scratch`, which stands still meanwhile.

    Addresses are those of the kernel.  Raises `UserError` if QEMU cannot, or if the path is not UTF-8.
    """
    try:
        str(file).encode()
    except UnicodeEncodeError:
        raise UserError(f"{str(file)!a}: QEMU takes no path that is not UTF-8") from None
    with atomic_path(file) as part:
        monitor.ask(scratch, "dump-guest-memory", within=SECONDS, paging=True, protocol=f"file:{part}")


def command(paths: Paths, profile: Profile, file: Path) -> str:
    """Return the command line by which gdb reads a dump, with symbols where the kernel has moved itself."""
    try:
        vmlinux = Symbols.of(paths, profile).vmlinux
        distance = moved(file, paths, profile.architecture.bits)
    except UserError as error:
        return f"gdb -c {shlex.quote(str(file))} ({error.message})"
    if not distance:
        return shlex.join(["gdb", str(vmlinux), str(file)])
    return shlex.join(["gdb", "-ex", f"symbol-file {vmlinux} -o {distance:#x}", "-c", str(file)])


def moved(file: Path, paths: Paths, bits: int) -> int:
    """Return how far the kernel in a dump is from the addresses of its vmlinux, in bytes.

    The kernel's text of its version is looked for: what a panic prints says nothing without
    CONFIG_RANDOMIZE_MEMORY.  Raises `UserError` if it is not there.
    """
    symbols = (line.split() for line in (paths.kernel / "System.map").read_text().splitlines())
    linked = next((int(words[0], 16) for words in symbols if words[2:] == [BANNER]), 0)
    text = f"Linux version {(paths.kernel / 'release').read_text().strip()} (".encode()
    places = [segment for segment in elf_core.segments(file) if segment.address >= TEXT[bits]]
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        for place in places:
            at, end = place.offset, place.offset + place.size
            while (at := view.find(text, at, end)) >= 0:
                distance = place.address + at - place.offset - linked
                if distance % ALIGNMENT == 0:  # else it is a copy, in the kernel's log
                    return distance
                at += 1
    raise UserError("no kernel of this build is in the dump")
