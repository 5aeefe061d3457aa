# SPDX-License-Identifier: MIT
"""Measure rows of the table: our command and its peers in turn, several times.

Turn by turn (A B C A B C ...): on a machine that others use too, what slows one slows all.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.util.errors import UserError
from tasks.util.log import logger
from tasks.util.process import TAIL_LINES, end_group

METER = Path(__file__).with_name("meter.py")
OURS = "tcbuild"
LAST = 200


@dataclass(frozen=True)
class Sample:
    """One run: CPU seconds (user and system) of the whole process tree, wall seconds,
    bytes of its largest process, bytes of what it made (0 where that is not asked)."""

    cpu: float
    wall: float
    peak: float
    size: float = 0


METRICS = ("cpu", "wall", "peak", "size")


@dataclass(frozen=True)
class Case:
    """One way to do a row's work.

    prepare: called before every run, not measured; makes: the file whose size counts;
    absent: why it cannot be run here, if it cannot.
    """

    who: str
    argv: Sequence[str | Path] = ()
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] = lambda: None
    makes: Path | None = None
    absent: str = ""


@dataclass(frozen=True)
class Target:
    """What a row is to reach: `metric` of ours at most `limit` times that of `peer`."""

    metric: str
    peer: str
    limit: float


@dataclass(frozen=True)
class Row:
    """One line of the table for each peer; the first case is ours."""

    name: str
    cases: Sequence[Case]
    targets: Sequence[Target] = ()
    note: str = ""


@dataclass
class Outcome:
    """What came of a row: samples by who, and for whom there are none, why."""

    row: Row
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def values(self, who: str, metric: str) -> list[float]:
        """Return one metric of all runs."""
        return [float(getattr(sample, metric)) for sample in self.samples.get(who, [])]

    def ratio(self, peer: str, metric: str) -> float | None:
        """Return our median over the peer's; None where one of them has none."""
        ours, theirs = self.values(OURS, metric), self.values(peer, metric)
        if not ours or not theirs or not statistics.median(theirs):
            return None
        return statistics.median(ours) / statistics.median(theirs)


def meter(
    argv: Sequence[str | Path], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Sample:
    """Run a command to its end and return what it cost.

    Raises `UserError` with the tail of what it said if it fails, or leaves processes behind.
    """
    words = [str(word) for word in argv]
    with tempfile.NamedTemporaryFile("r", suffix=".json") as report, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", METER, report.name, *words],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait()
        except BaseException:  # Ctrl-C: no build may go on behind it
            end_group(process)
            raise
        text = report.read()
        found: dict[str, Any] = json.loads(text) if text else {"status": None, "left": False}
        if found["status"] != 0 or found["left"]:
            said.seek(0)
            lines = said.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
            how = "left processes running" if found["left"] else f"failed with exit status {found['status']}"
            message = f"{Path(words[0]).name} {how}"
            raise UserError(message, detail="\n".join(f"  | {line}" for line in lines))
    return Sample(cpu=found["cpu"], wall=found["wall"], peak=found["peak"])


def missing(program: str, package: str) -> str:
    """Return why a peer cannot be run if its program is not there, else ""."""
    return "" if shutil.which(program) else f"not installed ({package})"


def why(error: UserError) -> str:
    """Return in one line why a peer could not be run."""
    last = error.detail.splitlines()[-1].strip(" |") if error.detail else ""
    # What a program says last may be a whole command line.
    return f"could not run: {error.message}: {last[-LAST:]}"


def measure(row: Row, runs: int) -> Outcome:
    """Run every case of `row` that can be run `runs` times, in turn.

    A peer that fails is reported as such; raises `UserError` if ours does.
    """
    outcome = Outcome(row, absent={case.who: case.absent for case in row.cases if case.absent})
    for number in range(1, runs + 1):
        for case in row.cases:
            if case.who in outcome.absent:
                continue
            try:
                case.prepare()
                sample = meter(case.argv, case.cwd, case.env or None)
                if case.makes and not case.makes.is_file():
                    raise UserError(f"{case.makes.name} was not made")
            except UserError as error:
                if case.who == OURS:
                    raise
                outcome.samples.pop(case.who, None)
                outcome.absent[case.who] = why(error)
                continue
            size = case.makes.stat().st_size if case.makes else 0
            outcome.samples.setdefault(case.who, []).append(
                Sample(sample.cpu, sample.wall, sample.peak, size)
            )
            text = f"{row.name}, {number}/{runs}, {case.who}: {sample.cpu:.2f} s CPU, {sample.wall:.2f} s"
            logger.info(text)
    return outcome
