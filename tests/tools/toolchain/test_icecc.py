# SPDX-License-Identifier: MIT
"""A farm of icecc: a scheduler and two real daemons, which get the compiler from here."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.config.compiler import Compiler
from tasks.config.settings import Settings
from tasks.toolchain import icecc, prepare
from tests.support import farm
from tests.support.farm import Machine

Make = Callable[..., Settings]
# The daemons look at the load of the whole machine, and take no job when it is busy with
# the test itself; each gets the files of a machine that has nothing to do.
IDLE = {
    "stat": "cpu  1000 0 1000 1000000 0 0 0 0 0 0\ncpu0 1000 0 1000 1000000 0 0 0 0 0 0\nbtime 1700000000\n",
    "loadavg": "0.00 0.00 0.00 1/100 1000\n",
}
START = """
set -e
mount --bind "$1/stat" /proc/stat
mount --bind "$1/loadavg" /proc/loadavg
shift
exec "$@"
"""


@pytest.fixture
def two() -> Iterator[list[Machine]]:
    prepare.install_programs("icecc", offline=False)
    if os.geteuid() != 0:
        pytest.skip("iceccd needs root to take jobs: it runs the compiler in a chroot")
    with farm.machines(2) as machines:
        yield machines


@pytest.fixture
def scheduler(two: list[Machine]) -> Iterator[str]:
    """Yield the address of a scheduler here that knows both hosts."""
    folder = two[0].folder
    folder.chmod(0o777)  # for the daemons' sockets
    for name, text in IDLE.items():
        (folder / name).write_text(text)
    port = farm.free_port()
    argv = ["icecc-scheduler", "-p", str(port), "-v"]
    with (folder / "scheduler").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        for machine in two:
            serve(machine, port)

        def both() -> bool:
            with contextlib.suppress(OSError):
                return len(icecc.list_hosts("127.0.0.1", port)) == 2
            return False

        farm.until(both, "both daemons at the scheduler")
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def serve(machine: Machine, port: int) -> None:
    """Start the daemon of `machine`, which asks the scheduler at `port` of this machine."""
    compilers = machine.folder / f"{machine.name}-compilers"
    compilers.mkdir()
    shutil.chown(compilers, "icecc")
    where = f"{machine.client}:{port}"
    argv = ["iceccd", "-s", where, "-N", machine.name, "-m", "4", "-b", str(compilers), "-v"]
    link = {"ICECC_TEST_SOCKET": str(machine.folder / f"{machine.name}.socket")}
    machine.start(["sh", "-c", START, "sh", str(machine.folder), *argv], "iceccd", link)


def test_work_reaches_both_hosts_and_one_may_die(
    two: list[Machine],
    scheduler: str,
    make_settings: Make,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    settings = make_settings()
    farm.write_project(settings.paths.output)
    ours = farm.built_here(settings, tmp_path / "here")
    settings = farm.with_compiler(settings, Compiler("icecc", scheduler=scheduler))
    farm.build(settings)
    assert farm.objects(settings) == ours
    line = capfd.readouterr().out.splitlines()[-1]
    told = {address: int(count) for count, address in re.findall(r"(\d+) jobs on ([0-9.]+)", line)}
    assert set(told) == {machine.address for machine in two}, line

    with farm.killed_midway(two[0], settings):
        farm.build(settings)
    assert farm.objects(settings) == ours
    assert f"jobs on {two[1].address}" in capfd.readouterr().out.splitlines()[-1]

    # What ccache does not have goes to the farm as well.
    settings = farm.with_compiler(settings, Compiler("ccache", scheduler=scheduler))
    farm.build(settings)
    assert farm.objects(settings) == ours
    line = capfd.readouterr().out.splitlines()[-1]
    assert line.startswith("ccache: 0 hits, ") and f"jobs on {two[1].address}" in line


def test_without_a_scheduler_the_build_goes_on(
    make_settings: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare.install_programs("icecc", offline=False)
    settings = make_settings()
    farm.write_project(settings.paths.output, 2)
    ours = farm.built_here(settings, tmp_path / "here")
    port = farm.free_port()
    settings = farm.with_compiler(settings, Compiler("icecc", scheduler=f"127.0.0.1:{port}"))
    capfd.readouterr()
    farm.build(settings)
    first, second = capfd.readouterr().out.splitlines()[:2]
    assert f"does not answer at 127.0.0.1:{port + 1}" in first
    assert "all is compiled here" in second
    assert farm.objects(settings) == ours
