# SPDX-License-Identifier: MIT
"""`./doit bench`: measure tcbuild and its peers, and print the table."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError, install_signal_handlers, report_errors
from tasks.util.files import remove_tree, write_atomic
from tasks.util.log import logger
from tests.bench import growth, images, kernels, machine, measure, remaster, table, workplace
from tests.bench.measure import Row
from tests.bench.workplace import Workplace

ARTIFACTS = CHECKOUT.root / "artifacts"


def main(words: list[str] | None = None) -> None:
    """Measure what the command line asks for.  Raises `UserError` for rows that do not exist."""
    given = _arguments(words)
    counts = [int(word) for word in given.counts.split(",")]
    about = machine.describe()
    print(*about, "", sep="\n", flush=True)
    ARTIFACTS.mkdir(exist_ok=True)
    folder = given.folder or tempfile.mkdtemp(prefix="bench-", dir=ARTIFACTS)
    try:
        place = workplace.make(Path(folder), given.config)
        rows = _rows(place)
        wanted = _chooser(given.rows, rows)
        outcomes = []
        for name, make in rows.items():
            if wanted(name):
                place.run("linux")
                outcomes.append(measure.measure(make(), given.runs))
        grown = growth.measure(place, counts, given.runs, wanted)
    finally:
        remove_tree(Path(folder) / workplace.ASIDE if given.folder else Path(folder))
    print("\nours / theirs, of the medians; below 1x is better for us\n")
    notes = [f"{outcome.row.name}: {outcome.row.note}" for outcome in outcomes if outcome.row.note]
    parts = [table.comparison(outcomes), table.growth(grown), "\n".join(notes)]
    print(*filter(None, parts), sep="\n\n", flush=True)
    if given.json:
        result = {"about": about, "config": given.config, **table.as_json(outcomes, grown)}
        write_atomic(Path(given.json), json.dumps(result, indent=2) + "\n")
        logger.info(f"written: {given.json}")


def _rows(place: Workplace) -> dict[str, Callable[[], Row]]:
    return kernels.Rows(place).all() | images.Rows(place).all() | remaster.Rows(place).all()


def _chooser(rows: list[str], known: Iterable[str]) -> Callable[[str], bool]:
    """Return what tells whether a row is wanted: all, or those with one of `rows` in their names."""
    known = [*known, *(f"growth {step.name}" for step in growth.STEPS)]
    for text in rows:
        if not any(text in name for name in known):
            raise UserError(f"no row has {text!r} in its name", f"rows: {', '.join(known)}")
    return lambda name: not rows or any(text in name for text in rows)


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./doit bench")
    parser.add_argument("rows", nargs="*", help="parts of rows' names; all rows if there are none")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--config", choices=("small", "profile"), default="small")
    parser.add_argument("--counts", default=",".join(map(str, growth.COUNTS)))
    parser.add_argument("--json", default="")
    parser.add_argument("--folder", default="")
    return parser.parse_args(words)


if __name__ == "__main__":
    install_signal_handlers()
    with report_errors():
        main()
