# SPDX-License-Identifier: MIT
"""The benchmarks' harness measures right; what it measures is no test."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.util.errors import UserError
from tests.bench import growth, machine, table
from tests.bench.growth import Growth
from tests.bench.measure import OURS, Case, Outcome, Row, Sample, Target, measure, meter, missing

MIB = 1 << 20
# Ends when this very process, and none it starts, has used so much processor time.
BUSY = "import time\nwhile time.process_time() < {seconds}: pass\n"
ALLOCATE = "block = bytearray({size})\nblock[::4096] = b'x' * len(block[::4096])\n"


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def test_processor_time_of_the_command_and_of_what_it_starts_is_counted() -> None:
    """Two busy loops of 0.2 s, one of them in an orphan: its parent ends at once."""
    child = python(BUSY.format(seconds=0.2))
    code = f"import os\nif os.fork() == 0:\n    os.setsid()\n    os.execv({child[0]!r}, {child!r})\n"
    sample = meter(python(code + BUSY.format(seconds=0.2)))
    assert 0.4 <= sample.cpu < 1.0


def test_waiting_costs_no_processor_time() -> None:
    sample = meter(["sleep", "0.5"])
    assert sample.wall >= 0.5
    assert sample.cpu < 0.25


def test_peak_memory_is_that_of_the_largest_process() -> None:
    small = meter(python(ALLOCATE.format(size=1))).peak
    child = python(ALLOCATE.format(size=100 * MIB))
    large = meter(python(f"import subprocess\nsubprocess.run({child!r}, check=True)\n")).peak
    assert 95 * MIB < large - small < 115 * MIB


def test_a_failing_command_is_no_measurement() -> None:
    with pytest.raises(UserError, match="sh failed with exit status 3") as caught:
        meter(["sh", "-c", "echo why; exit 3"])
    assert "why" in caught.value.detail


def test_ours_and_peers_are_run_in_turn(tmp_path: Path) -> None:
    order = tmp_path / "order"
    made = tmp_path / "made"

    def case(who: str, command: str = "true", absent: str = "") -> Case:
        return Case(who, ["sh", "-c", f"echo {who} >> {order}; {command}"], absent=absent, makes=made)

    made.write_bytes(bytes(7))
    cases = [case(OURS), case("peer"), case("lacking", absent=missing("no-such-program", "apt: nsp"))]
    outcome = measure(Row("row", [*cases, case("broken", "echo oh; exit 1")]), 3)
    assert order.read_text().split() == ["tcbuild", "peer", "broken", *["tcbuild", "peer"] * 2]
    assert outcome.values("peer", "size") == [7, 7, 7]
    lines = table.comparison([outcome]).splitlines()
    assert "lacking: not installed (apt: nsp)" in lines[2]
    assert "broken: could not run: sh failed with exit status 1: oh" in lines[3]


def outcome(ours: Sequence[float], theirs: Sequence[float]) -> Outcome:
    target = Target("cpu", "make", 0.5)
    row = Row("row", [Case(OURS), Case("make")], [target])
    samples = {who: [Sample(cpu, 1, MIB) for cpu in cpus] for who, cpus in ((OURS, ours), ("make", theirs))}
    return Outcome(row, samples)


@pytest.mark.parametrize(
    ("ours", "theirs", "ratio", "verdict"),
    [
        ([1, 9, 2], [4, 5, 3], "0.50x", "cpu <= 0.5x: met"),
        ([2.1, 2.1, 2.1], [4, 4, 4], "0.53x", "cpu <= 0.5x: MISSED"),
        ([0.1, 0.1, 0.1], [4, 4, 4], "0.025x", "cpu <= 0.5x: met"),
        ([1], [], "", "not measured"),
    ],
)
def test_ratios_are_of_medians_and_held_against_the_target(
    ours: Sequence[float], theirs: Sequence[float], ratio: str, verdict: str
) -> None:
    found = outcome(ours, theirs)
    line = table.comparison([found]).splitlines()[1]
    assert ratio in line
    assert verdict in line


@pytest.mark.parametrize(("cost", "linear"), [(lambda n: 3 + n, True), (lambda n: 3 + n + n * n, False)])
def test_growth_is_linear_or_not(cost: object, linear: bool) -> None:
    assert callable(cost)
    found = Growth("step", {n: [Sample(cost(n), 1, 1)] for n in growth.COUNTS})
    assert found.linear is linear
    assert ("linear: met" if linear else "linear: MISSED") in table.growth([found])


def test_a_missing_program_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROGRAMS", (("no-such-program", "--version"), ("tar", "--version")))
    found = machine.versions()
    assert found["no-such-program"] == "not installed"
    assert found["tar"][0].isdigit()
