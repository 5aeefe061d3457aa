# SPDX-License-Identifier: MIT
"""Faults that a kernel has written into its log: warnings, oopses, a panic (kernel_log.toml)."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.util import toml_schema
from tasks.util.text import check_pattern, printable
from tasks.vm.results import Result, whole

RULES = Path(__file__).with_name("kernel_log.toml")
NAME = "the kernel's log"
ALLOWED = "allowed by --allow-warnings"
STAMP = re.compile(r"^(<\d+>)?\[ *\d+\.\d+\](\[ *[TC]\d+\])? ")  # printk's time, and its caller
BEGIN = "[ cut here ]"


@dataclass(frozen=True)
class Pattern:
    """A regular expression of lines that a fault begins with."""

    pattern: str


@dataclass(frozen=True)
class Exempt:
    """A regular expression of lines that are no faults, and why not."""

    pattern: str
    why: str


@dataclass(frozen=True)
class Rules:
    """The content of kernel_log.toml.

    end: a regular expression of the last line of a fault.  lines: the most lines that a fault has.
    fault: what begins one.  allowed: what does not.
    """

    end: str
    lines: int
    fault: tuple[Pattern, ...]
    allowed: tuple[Exempt, ...] = ()

    def __post_init__(self) -> None:
        patterns = [one.pattern for one in self.fault] + [one.pattern for one in self.allowed]
        for pattern in (self.end, *patterns):
            check_pattern(pattern)

    @functools.cached_property
    def begins(self) -> re.Pattern[str]:
        """What begins a fault."""
        return _any(one.pattern for one in self.fault)

    @functools.cached_property
    def harmless(self) -> re.Pattern[str]:
        """What does not, although it looks so."""
        return _any(one.pattern for one in self.allowed)


@dataclass(frozen=True)
class Fault:
    """A fault: its first line without the time, and all its lines."""

    title: str
    lines: tuple[str, ...]


@functools.cache
def rules() -> Rules:
    """Return kernel_log.toml."""
    return toml_schema.load(RULES, Rules)


def faults(log: str) -> list[Fault]:
    """Return the faults in a kernel's log, or in the text of a console, in their order."""
    known = rules()
    found: list[list[str]] = []
    is_open = False
    for line in log.splitlines():
        if is_open:
            is_open = BEGIN not in line and len(found[-1]) < known.lines
        if is_open:
            found[-1].append(line)
            is_open = re.search(known.end, line) is None
        elif known.begins.search(line) and not known.harmless.search(line):
            found.append([line])
            is_open = True
    return [Fault(printable(STAMP.sub("", lines[0].rstrip())), tuple(lines)) for lines in found]


def result(log: str, *, allowed: bool = False) -> Result:
    """Return the result of a log, with a part for each fault.  allowed: faults are only told."""
    parts = [
        Result(
            fault.title,
            "skipped" if allowed else "failed",
            message=ALLOWED if allowed else "a fault in the kernel's log",
            detail="\n".join(f"  | {printable(line)}" for line in fault.lines),
        )
        for fault in faults(log)
    ]
    return whole(NAME, parts, 0.0)


def _any(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)")
