# SPDX-License-Identifier: MIT
"""Results of tests in guests, and the records of them.

A result may have results below it, at any depth: a boot has its checks, and a check may have subtests.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tasks.util import dated_records, toml_schema
from tasks.util.errors import UserError
from tasks.util.files import remove_tree, write_atomic

Outcome = Literal["passed", "failed", "skipped"]
COMMAND = "qemu:test"
"""The command whose tests are boots of the image."""
KERNEL_TESTS = ("kselftest", "kunit")
"""The commands that run the kernel's own tests.  Each has one boot, with its name."""
FOLDER = "tests"
"""The folder of results in the output folder, which holds a folder for each boot of the last run."""
RECORDS = "records"
ENDING = "json"


@dataclass(frozen=True)
class Result:
    """What came of a test.

    seconds: how long it took.  message: one line on why it failed or was skipped.
    detail: lines on that, as the end of the console.  results: those of its parts.
    """

    name: str
    outcome: Outcome
    seconds: float = 0.0
    message: str = ""
    detail: str = ""
    results: tuple[Result, ...] = ()

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)

    def leaves(self, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Result]]:
        """Yield each test without parts, with the names of what it is a part of, outermost first."""
        if not self.results:
            yield above, self
        for part in self.results:
            yield from part.leaves((*above, self.name))


def whole(name: str, parts: Sequence[Result], seconds: float) -> Result:
    """Return the result of a test that is made of `parts`: it has failed if one of them has."""
    failed = any(part.outcome == "failed" for part in parts)
    return Result(name, "failed" if failed else "passed", seconds, results=tuple(parts))


def leaves(results: Sequence[Result]) -> list[tuple[tuple[str, ...], Result]]:
    """Return the tests of all `results` that have no parts, as `Result.leaves` does."""
    return [leaf for result in results for leaf in result.leaves()]


@dataclass(frozen=True)
class Record:
    """A run of tests.  started: seconds since the epoch; seconds: how long it took; command: what made it."""

    started: float
    seconds: float
    results: tuple[Result, ...]
    command: str = COMMAND

    def __post_init__(self) -> None:
        _check_seconds(self.started)
        _check_seconds(self.seconds)

    def counts(self) -> Counter[Outcome]:
        """Return how many tests without parts had each outcome."""
        return Counter(result.outcome for _, result in leaves(self.results))


def save(output: Path, record: Record) -> None:
    """Write the record of a run into an output folder, and remove the oldest (dated_records)."""
    folder = output / FOLDER / RECORDS
    folder.mkdir(parents=True, exist_ok=True)
    name = dated_records.name(record.started, ENDING)
    write_atomic(folder / name, json.dumps(asdict(record), indent=1) + "\n")
    dated_records.remove_oldest(folder, ENDING)


def clear(output: Path, command: str) -> None:
    """Remove the files of the last run of a command: those of a boot that is not made now would look new."""
    for folder in (output / FOLDER).glob("*/"):
        others = folder.name in (RECORDS, *KERNEL_TESTS)
        if folder.name == command or (command == COMMAND and not others):
            remove_tree(folder)


def load(output: Path) -> tuple[list[Record], list[str]]:
    """Return the records of an output folder, oldest first, and a message for each damaged one."""
    records, faults = [], []
    for path in dated_records.paths(output / FOLDER / RECORDS, ENDING):
        try:
            records.append(read(path))
        except UserError as error:
            faults.append(f"{path.name} is damaged and left out: {error.message}")
    return records, faults


def read(path: Path) -> Record:
    """Return the record in a file.  Raises `UserError` for a damaged one."""
    try:
        made: Record = toml_schema.build(json.loads(path.read_text()), Record, path.name, "")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path.name}: {type(error).__name__}: {error}") from None
    return made


def _check_seconds(value: float) -> None:
    # A page cannot show infinity, or dates beyond the calendar.
    if not 0 <= value < 1e11:
        raise ValueError(f"no number of seconds: {value!r}")
