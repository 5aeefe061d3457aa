# SPDX-License-Identifier: MIT
"""Real gdb debugs a guest's kernel, and reads the memory of one that has panicked."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tasks.util.process import run
from tasks.vm import crash_dump, debugger
from tasks.vm.guest import Guest, Panicked
from tasks.vm.machine import Machine
from tests.support.built import compiled
from tests.support.settings import both


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine whose kernel panics, because it finds no init."""
    empty = tmp_path / "empty.cpio"
    archive = subprocess.run(["cpio", "-o", "-H", "newc"], input=b"", capture_output=True, check=True).stdout
    empty.write_bytes(archive)
    kernel = compiled().paths.vmlinuz
    return Machine("direct", kernel=kernel, initrd=empty, append="console=ttyS0", memory=256)


def gdb(*words: str | Path, commands: tuple[str, ...]) -> str:
    """Return what gdb prints, which reads no file of this machine's own."""
    more = [word for command in commands for word in ("-ex", command)]
    return run(["gdb", "-nx", "-batch", *words, *more]).stdout


def banner() -> str:
    return (compiled().paths.kernel / "release").read_text().strip()


def test_gdb_stops_the_kernel_and_reads_it_and_its_dump(machine: Machine, tmp_path: Path) -> None:
    paths, profile = both(compiled())
    dump = tmp_path / "dump"
    with debugger.opened(paths, profile, machine, halted=True) as made:
        file = paths.output / "gdb" / f"{made.gdb}.gdb"
        with (
            pytest.raises(Panicked),
            Guest(made, tmp_path / "log", limit=300) as guest,
            crash_dump.on_panic(guest, paths, profile, dump),
        ):
            told = gdb(
                "-x", file, commands=("x/s &linux_banner", "break panic", "continue", "bt 2", "detach")
            )
            guest.expect("never printed", 200)
    assert re.search(r"Temporary breakpoint 1, .*start_kernel", told)
    assert f'"Linux version {banner()} (' in told
    assert re.search(r"Breakpoint 2, .*\bpanic\b", told)
    assert not file.exists(), "it goes with the guest"
    words = shlex.split(crash_dump.command(paths, profile, dump))
    assert words == ["gdb", str(paths.build / "vmlinux"), str(dump)]
    assert f'"Linux version {banner()} (' in gdb(*words[1:], commands=("x/s &linux_banner",))


def test_a_dump_of_a_kernel_that_has_moved_itself(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every boot by firmware is such.  This kernel's panic does not say how far."""
    paths, profile = both(compiled())
    dump = tmp_path / "dump"
    with (
        pytest.raises(Panicked),
        Guest(machine, tmp_path / "log", limit=300) as guest,
        crash_dump.on_panic(guest, paths, profile, dump),
    ):
        guest.expect("never printed", 200)
    (told,) = re.findall(r"read it by: (gdb .*)", capsys.readouterr().out)
    assert re.search(r"symbol-file \S+ -o 0x[1-9a-f]", told)
    said = gdb(*shlex.split(told)[1:], commands=("x/s &linux_banner", "x/s &init_uts_ns"))
    assert f'"Linux version {banner()} (' in said
