# SPDX-License-Identifier: MIT
"""gdb for the guest's kernel: `./doit qemu --gdb`.

QEMU answers gdb (its documentation, "GDB usage").  A file of commands gives gdb the vmlinux of the image,
its source, the kernel's own scripts (kernel Documentation, process/debugging/gdb-kernel-debugging), and the
addresses of modules.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.formats import bzimage, elf
from tasks.kernel.fragments import parse_config
from tasks.util.errors import UserError
from tasks.util.files import write_atomic
from tasks.util.log import logger
from tasks.vm.machine import LOOPBACK, Machine, free_port

FIRST_PORT = 1234  # gdb's users know it from QEMU's -s
FOLDER = "gdb"
FIXED = "nokaslr"
"""The kernel stays at the addresses that vmlinux names (kernel-parameters.txt)."""
STOP = ["thbreak start_kernel", "continue"]  # by hardware: the kernel is not unpacked yet


@dataclass(frozen=True)
class Symbols:
    """What gdb needs of a kernel.

    scripts: the kernel's own for gdb, None if it was built without.
    debug: whether vmlinux has debug information; symbols it has anyway.
    """

    vmlinux: Path
    source: Path
    scripts: Path | None
    debug: bool

    @classmethod
    def of(cls, paths: Paths, profile: Profile) -> Symbols:
        """Return those of the built kernel.

        Raises `UserError` if its vmlinux is not here: the build-id tells whether one is of the same build.
        """
        vmlinux, scripts = paths.build / "vmlinux", paths.build / "vmlinux-gdb.py"
        if profile.kernel.image is not None:
            raise UserError(
                "there is no vmlinux of this kernel, which others built",
                "take a profile whose kernel tcbuild compiles, as profile=apt",
            )
        again = f"remove {paths.kernel}, and compile it here: ./doit kernel profile={paths.name} cache=none"
        if not vmlinux.is_file():
            raise UserError(f"{vmlinux} does not exist: the shared cache had the kernel", again)
        wanted, found = bzimage.build_id(paths.vmlinuz), elf.build_id(vmlinux)
        if not wanted or wanted != found:
            told = f"its build-id is {found or 'none'}, the image's {wanted or 'none'}"
            raise UserError(f"{vmlinux} is of another build: {told}", again)
        debug = elf.has_debug_information(vmlinux)
        return cls(vmlinux, paths.linux, scripts if debug and scripts.is_file() else None, debug)

    def commands(self) -> list[str]:
        """Return gdb's commands that load them."""
        lines = [f"file {self.vmlinux}", f"directory {self.source}"]
        return [*lines, f"source {self.scripts}"] if self.scripts else lines

    @property
    def modules(self) -> list[str]:
        """gdb's commands that load the symbols of modules, now and whenever one is loaded."""
        # It looks for them below the current folder.
        return [f"cd {self.vmlinux.parent}", "lx-symbols"] if self.scripts else []


def fixed(machine: Machine, config: str) -> Machine:
    """Return the machine with a kernel at the addresses of its vmlinux.  config: the text of its .config.

    Raises `UserError` if the kernel chooses others, and the machine's firmware takes its command line from
    the image.
    """
    if parse_config(config).get("RANDOMIZE_BASE", "n") == "n":
        return machine
    if machine.firmware != "direct":
        hint = f"--firmware direct starts it with {FIXED}; the fragment debug builds a kernel without it"
        raise UserError("--gdb: the kernel moves itself at each boot (CONFIG_RANDOMIZE_BASE)", hint)
    return replace(machine, append=f"{machine.append} {FIXED}")


@contextmanager
def opened(
    paths: Paths, profile: Profile, machine: Machine, taken: Collection[int] = (), *, halted: bool = False
) -> Iterator[Machine]:
    """Give the machine with a port for gdb, and say the command; gdb's file goes at last.

    taken: ports of this machine that the guest will have.
    halted: it starts when gdb has connected.  Raises `UserError` as `Symbols.of` and `fixed` do.
    """
    symbols = Symbols.of(paths, profile)
    made = replace(fixed(machine, (paths.kernel / "config").read_text()), halted=halted)
    made = replace(made, gdb=free_port(FIRST_PORT, taken))
    file = paths.output / FOLDER / f"{made.gdb}.gdb"
    write_atomic(file, script(symbols, made))
    if not symbols.debug:
        logger.info("gdb: this kernel has symbols, and no debug information: the fragment debug adds it")
    logger.info(f"gdb: debug the guest's kernel by: gdb -x {shlex.quote(str(file))}")
    try:
        yield made
    finally:
        file.unlink(missing_ok=True)


def script(symbols: Symbols, machine: Machine) -> str:
    """Return gdb's commands, one a line, which connect it to a machine."""
    lines = ["# Of a guest of `./doit qemu --gdb` that runs: gdb -x FILE.", *symbols.commands()]
    lines += [f"target remote {LOOPBACK}:{machine.gdb}", *(STOP if machine.halted else [])]
    return "\n".join([*lines, *symbols.modules, ""])
