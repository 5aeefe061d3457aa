# SPDX-License-Identifier: MIT
"""The cause of a failed make: the first error in its log.

With several jobs the cause may stand hundreds of lines above the log's end.  make_errors.toml says
which lines are errors, and what helps against causes that are known.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.util import host
from tasks.util.errors import UserError
from tasks.util.process import CommandFailed
from tasks.util.text import shortened

LINES_BEFORE, LINES_AFTER = 6, 8
TARGETS_SHOWN = 8
# By sh; by make itself for a command without shell syntax.
NOT_FOUND = re.compile(
    r"([\w.+-]+): (?:command )?not found$|^make(?:\[\d+\])?: ([\w.+-]+): No such file or directory$"
)


@dataclass(frozen=True)
class Rules:
    """make_errors.toml: see there."""

    error: re.Pattern[str]
    before: re.Pattern[str]
    progress: re.Pattern[str]
    progress_inside: re.Pattern[str]
    target: re.Pattern[str]
    hints: Sequence[tuple[re.Pattern[str], str]]


@dataclass(frozen=True)
class Cause:
    """Why a make failed.

    line: the first error; lines: it and what belongs to it; targets: what could not be made;
    hint: what helps, "" if that is not known.
    """

    line: str
    lines: tuple[str, ...]
    targets: tuple[str, ...]
    hint: str


@functools.cache
def rules() -> Rules:
    """Return the content of make_errors.toml."""
    with Path(__file__).with_name("make_errors.toml").open("rb") as stream:
        found = tomllib.load(stream)
    return Rules(
        error=re.compile("|".join(f"(?:{pattern})" for pattern in found["errors"])),
        before=re.compile("|".join(f"(?:{pattern})" for pattern in found["before"])),
        progress=re.compile(found["progress"]),
        progress_inside=re.compile(found["progress_inside"]),
        target=re.compile(found["target"]),
        hints=tuple((re.compile(entry["pattern"], re.MULTILINE), entry["hint"]) for entry in found["hints"]),
    )


def explained(error: CommandFailed) -> UserError:
    """Return the error of a failed make with its cause in place of the log's end, if the log shows it."""
    if error.log is None:
        return error
    try:
        with error.log.open(encoding="utf-8", errors="replace") as stream:
            found = find_cause((line.rstrip("\n") for line in stream), error.logged)
    except OSError:
        return error
    if found is None:
        return error
    detail = [f"  | {line}" for line in found.lines]
    if len(found.targets) > 1:
        some = shortened(found.targets, TARGETS_SHOWN)
        detail.append(f"  {len(found.targets)} targets failed: {some}")
    detail += [f"  command: {error.command}", f"  log: {error.log}"]
    return UserError(f"{error.message}: {found.line.strip()}", found.hint or error.hint, "\n".join(detail))


def find_cause(log: Iterable[str], command: str = "") -> Cause | None:
    """Return the cause in the lines of a log, those after its last line `+ COMMAND`; None if there is none.

    Scripts that trace what they do (`sh -x`) write lines `+ ...`, too: these do not count.  If no line
    is a known error, the cause is what stands before make's own first message.
    """
    lines = _without_progress_inside(_of_last_run(log, command))
    known = rules()
    first = next((index for index, line in enumerate(lines) if known.error.search(line)), None)
    failed = next((index for index, line in enumerate(lines) if known.target.match(line)), None)
    if first is None and failed is None:
        return None
    if first is None:
        assert failed is not None
        said = [line for line in lines[:failed] if not known.progress.match(line)][-LINES_BEFORE:]
        block = [*said, lines[failed]]
        line = lines[failed]
    else:
        block, line = _block(lines, first), lines[first]
    text = "\n".join(block)
    return Cause(line, tuple(block), _targets(lines), _hint(text))


def _of_last_run(log: Iterable[str], command: str) -> list[str]:
    lines: list[str] = []
    for line in log:
        if line == f"+ {command}":
            lines.clear()
        else:
            lines.append(line)
    return lines


def _without_progress_inside(lines: Iterable[str]) -> list[str]:
    """Return the lines with each that another job's line of progress cuts in two put together again.

    ld writes a message in a dozen pieces, so with several jobs such a line can stand between any two.
    """
    found: list[str] = []
    begun = ""
    for rest in lines:
        line = begun + rest
        cut = rules().progress_inside.search(line)
        begun = line[: cut.start()] if cut else ""
        if cut and begun.strip():
            found.append(cut[0])
        else:
            found.append(line)
            begun = ""
    return [*found, begun] if begun else found


def _block(lines: Sequence[str], first: int) -> list[str]:
    """Return the line `first` and those that belong to it, without lines of other jobs."""
    known = rules()
    block = [lines[first]]
    for line in reversed(lines[max(0, first - 4 * LINES_BEFORE) : first]):
        if known.progress.match(line):
            continue
        if not known.before.search(line) or len(block) > LINES_BEFORE:
            break
        block.insert(0, line)
    after = len(block)
    for line in lines[first + 1 : first + 1 + 4 * LINES_AFTER]:
        if len(block) >= after + LINES_AFTER or known.target.match(line) or known.before.search(line):
            break
        if not known.progress.match(line):
            block.append(line)
    return block


def _targets(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the targets that failed, without those that are folders or goals of makes that make started."""
    matches = filter(None, map(rules().target.match, lines))
    names = (found[1] for found in matches if found[2] != "Error 2" or "." in Path(found[1]).name)
    return tuple(dict.fromkeys(names))


def _hint(text: str) -> str:
    for line in text.splitlines():
        missing = NOT_FOUND.search(line)
        if missing:
            program = missing[1] or missing[2]
            package = host.package_of(program)
            return f"apt-get install {package}" if package else f"install a package that provides {program}"
    return next((hint for pattern, hint in rules().hints if pattern.search(text)), "")
