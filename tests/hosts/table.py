# SPDX-License-Identifier: MIT
"""The table of trials, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tests.hosts.trial import COMMANDS, Trial
from tests.support import hosts
from tests.support.hosts import Visitor

VISITORS: dict[Visitor, str] = {
    "root": "root of a container",
    "user": "user of a rootless container",
    "namespaces": "user, namespaces allowed",
}
NOT_RUN = "not run"


def table(trials: Sequence[Trial]) -> str:
    """Return a table with a row for each system and visitor: seconds, or what went wrong."""
    known = hosts.load()
    header = ["host", "Python", "as", *COMMANDS, "same ISO"]
    rows = [header, ["---"] * len(header)]
    for host, described in known.items():
        for visitor, who in VISITORS.items():
            trial = next((one for one in trials if (one.host, one.visitor) == (host, visitor)), None)
            cells = [_cell(trial, column) for column in COMMANDS]
            same = _same(trial.difference) if trial else NOT_RUN
            rows.append([described.title, trial.python if trial else "", who, *cells, same])
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in rows)


def _cell(trial: Trial | None, column: str) -> str:
    if trial is None or column not in trial.ended:
        return NOT_RUN
    end = trial.ended[column]
    return f"fails: {end.failure}" if end.failure else f"{end.seconds:.0f} s"


def _same(difference: str | None) -> str:
    if difference is None:
        return NOT_RUN
    return f"no: {difference}" if difference else "yes"
