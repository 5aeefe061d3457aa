# SPDX-License-Identifier: MIT
"""The report's part on tests in guests: the last run of `./doit qemu:test`, and those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from tasks.report import chart
from tasks.report.chart import Cell
from tasks.vm.results import FOLDER, Record, Result

FILES = ("console.log", "dmesg.txt")
WHY = Markup("<details><summary>{}</summary><pre>{}</pre></details>")
LINK = Markup('<a href="{0}/{1}/{2}">{2}</a>')


@dataclass(frozen=True)
class GuestTests:
    """What the page shows.

    when: time of the last run; said: how it ended; links: the files of its boots; table: its tests;
    history: the runs, newest first.
    """

    when: Markup
    said: str
    links: Markup
    table: Markup
    history: Markup


def of(output: Path, records: Sequence[Record]) -> GuestTests | None:
    """Return that of an output folder, None without a record.  records: oldest first."""
    if not records:
        return None
    last = records[-1]
    rows = [_row((boot.name, *names[1:]), leaf) for boot in last.results for names, leaf in boot.leaves()]
    heads = ("Boot", "Test", "Outcome", "Took", "Why")
    return GuestTests(
        chart.time_tag(last.started),
        _said(last),
        _links(output, last),
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


def _links(output: Path, last: Record) -> Markup:
    """Return links to the files of the last run's boots, as far as they are still there."""
    found = [
        Markup("{}: {}").format(
            boot.name, Markup(", ").join(LINK.format(FOLDER, boot.name, name) for name in there)
        )
        for boot in last.results
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
