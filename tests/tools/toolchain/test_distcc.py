# SPDX-License-Identifier: MIT
"""A farm of two real distcc hosts: work reaches both, and the bytes are those made here."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.config.compiler import Compiler
from tasks.config.settings import Settings
from tasks.toolchain import prepare
from tests.support import farm
from tests.support.farm import Machine

Make = Callable[..., Settings]


def serve(machine: Machine, *, port: int = 3632, path: str = "", slots: int = 4) -> Path:
    """Start distccd on `machine` and return its log; `path` goes first in its $PATH."""
    argv = ["distccd", "--no-detach", "--daemon", "--user", "nobody", "--allow", machine.client]
    argv += ["--port", str(port), "--jobs", str(slots), "--log-stderr", "--log-level", "info"]
    env = {"PATH": f"{path}:/usr/bin:/bin"} if path else None
    log = machine.start(argv, f"distccd-{port}", env)

    def listens() -> bool:
        try:
            socket.create_connection((machine.address, port), 1).close()
        except OSError:
            return False
        return True

    farm.until(listens, f"distccd of {machine.name}")
    return log


def jobs_done(log: Path) -> int:
    """Return how many compilations a distccd's log tells of, the probe among them."""
    return log.read_text().count("COMPILE_OK")


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    prepare.install_programs("distcc", offline=False)


@pytest.fixture
def two() -> Iterator[list[Machine]]:
    with farm.machines(2) as machines:
        yield machines


@pytest.fixture
def settings(make_settings: Make) -> Settings:
    chosen = make_settings()
    farm.write_project(chosen.paths.output)
    return chosen


def test_work_reaches_both_hosts_and_one_may_die(
    two: list[Machine], settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logs = [serve(machine) for machine in two]
    ours = farm.built_here(settings, tmp_path / "here")
    table = Compiler("distcc", hosts=tuple(f"{machine.address}/4" for machine in two))
    settings = farm.with_compiler(settings, table)

    farm.build(settings)
    assert farm.objects(settings) == ours
    done = [jobs_done(log) for log in logs]
    assert min(done) > 1  # each has compiled a probe
    line = capfd.readouterr().out.splitlines()[-1]
    told = {address: int(count) for count, address in re.findall(r"(\d+) jobs on ([0-9.]+)", line)}
    assert told == {machine.address: count - 1 for machine, count in zip(two, done, strict=True)}, line

    with farm.killed_midway(two[0], settings):
        farm.build(settings)
    assert farm.objects(settings) == ours
    line = capfd.readouterr().out.splitlines()[-1]
    assert f"jobs on {two[1].address}" in line and "came back from a host" in line
    assert two[0].address in (settings.paths.logs / "distcc.log").read_text()
    assert not (settings.paths.output / "launcher").exists()


def test_hosts_that_cannot_be_used_cost_a_line_and_the_build_goes_on(
    two: list[Machine], settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One does not answer; the compiler of the other one has another default."""
    tools = two[0].folder / "tools"
    tools.mkdir()
    (tools / "gcc").write_text('#!/bin/sh\nexec /usr/bin/gcc -fcf-protection=full "$@"\n')
    (tools / "gcc").chmod(0o755)
    serve(two[0], path=str(tools))
    ours = farm.built_here(settings, tmp_path / "here")
    hosts = (f"{two[0].address}/4", f"{two[1].address}/4")
    settings = farm.with_compiler(settings, Compiler("distcc", hosts=hosts))
    capfd.readouterr()
    farm.build(settings)
    said = capfd.readouterr().out.splitlines()
    assert farm.objects(settings) == ours
    refused, silent, none = [line for line in said if line.startswith("warning: ")]
    assert two[0].address in refused and "compiles the probe to other bytes" in refused
    assert two[1].address in silent and "Connection refused" in silent, silent
    assert "all is compiled here" in none


def test_ccache_sends_only_its_misses_to_the_farm(
    two: list[Machine], settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logs = [serve(machine) for machine in two]
    ours = farm.built_here(settings, tmp_path / "here")
    table = Compiler(hosts=tuple(f"{machine.address}/2" for machine in two))
    settings = farm.with_compiler(settings, table)
    farm.build(settings)
    first = [jobs_done(log) for log in logs]
    assert min(first) > 1
    assert farm.objects(settings) == ours
    farm.build(settings)
    assert [jobs_done(log) for log in logs] == [count + 1 for count in first]  # the probe
    assert farm.objects(settings) == ours
    line = capfd.readouterr().out.splitlines()[-1]
    only_incbin = "distcc: 1 jobs here (1 of them came back from a host)"
    assert re.search(rf"ccache: {len(ours) - 1} hits, ", line) and line.endswith(only_incbin), line
