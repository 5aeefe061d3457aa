# SPDX-License-Identifier: MIT
"""The report's part on tests in guests: the last run of each command that makes some, and those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from tasks.report import chart
from tasks.report.chart import Cell
from tasks.vm.results import FOLDER, Record, Result

FILES = ("console.log", "dmesg.txt", "output.txt")
WHY = Markup("<details><summary>{}</summary><pre>{}</pre></details>")
LINK = Markup('<a href="{0}/{1}/{2}">{2}</a>')


@dataclass(frozen=True)
class LastRun:
    """A command's last run.  when: its time; said: how it ended."""

    command: str
    when: Markup
    said: str


@dataclass(frozen=True)
class GuestTests:
    """What the page shows.

    last: the last runs, newest first; links: the files of their boots; table: their tests;
    history: all runs, newest first.
    """

    last: tuple[LastRun, ...]
    links: Markup
    table: Markup
    history: Markup


def of(output: Path, records: Sequence[Record]) -> GuestTests | None:
    """Return that of an output folder, None without a record.  records: oldest first."""
    if not records:
        return None
    by_command = {record.command: record for record in records}
    last = sorted(by_command.values(), key=lambda record: record.started, reverse=True)
    results = [boot for record in last for boot in record.results]
    rows = [_row((boot.name, *names[1:]), leaf) for boot in results for names, leaf in boot.leaves()]
    heads = ("Boot", "Test", "Outcome", "Took", "Why")
    return GuestTests(
        tuple(LastRun(one.command, chart.time_tag(one.started), _said(one)) for one in last),
        _links(output, results),
        chart.table("Tests of the last run", heads, rows),
        _history(records),
    )


def _row(names: Sequence[str], test: Result) -> list[Cell]:
    why: str | Markup = WHY.format(test.message, test.detail) if test.detail else test.message
    return [
        Cell(names[0]),
        Cell(": ".join((*names[1:], test.name))),
        Cell(chart.outcome(test.outcome)),
        chart.number(test.seconds, chart.seconds_text(test.seconds)),
        Cell(why, test.message),
    ]


def _links(output: Path, results: Sequence[Result]) -> Markup:
    """Return links to the files of the boots, as far as they are still there."""
    found = [
        Markup("{}: {}").format(
            boot.name, Markup(", ").join(LINK.format(FOLDER, boot.name, name) for name in there)
        )
        for boot in results
        if (there := [name for name in FILES if (output / FOLDER / boot.name / name).is_file()])
    ]
    return Markup("; ").join(found)


def _history(records: Sequence[Record]) -> Markup:
    rows = []
    for record in reversed(records):
        counts = record.counts()
        failed = [boot.name for boot in record.results if boot.outcome == "failed"]
        rows.append(
            [
                Cell(chart.time_tag(record.started), record.started),
                Cell(", ".join(boot.name for boot in record.results)),
                *(chart.number(counts[one], str(counts[one])) for one in ("passed", "failed", "skipped")),
                chart.number(record.seconds, chart.seconds_text(record.seconds)),
                Cell(chart.outcome("failed") if failed else chart.outcome("passed")),
            ]
        )
    return chart.table("Runs", ("Run", "Boots", "Passed", "Failed", "Skipped", "Took", "Outcome"), rows)


def _said(record: Record) -> str:
    counts = record.counts()
    return ", ".join(f"{counts[one]} {one}" for one in ("passed", "failed", "skipped") if counts[one])
