# SPDX-License-Identifier: MIT
"""Read KTAP, the format in which the kernel's own tests print their results.

Source: the kernel's Documentation/dev-tools/ktap.rst, version 1.  Its forerunners are read, too: TAP 13,
which most self tests print, and KUnit's of kernels before 6.2, where a line `# Subtest: NAME` begins a
nested test.  The programs that a script runs one after another print one such text after another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["passed", "failed", "skipped"]

VERSION = re.compile(r"( *)K?TAP version \d+\s*")
SUBTEST = re.compile(r"( *)# Subtest: (.+?)\s*")
PLAN = re.compile(r"( *)1\.\.(\d{1,9})(?:\s*# ?(.*?))?\s*")
RESULT = re.compile(r"( *)(not ok|ok) (\d{1,9})(?![^\s#])\s*(?:- )?([^#]*?)\s*(?:#\s*(.*?))?\s*")
BAIL_OUT = re.compile(r" *Bail out!\s*(.*?)\s*")
DIRECTIVE = re.compile(r"(SKIP|TODO|XFAIL|TIMEOUT|ERROR)\b:?\s*(.*)", re.IGNORECASE)
SKIPS = ("SKIP", "TODO", "XFAIL")  # a test that is expected to fail says nothing of the kernel
MAX_DEPTH = 16
"""Nested tests beyond it are a fault; KUnit has three levels."""
MAX_LINES = 200
"""The lines before a result that are kept, the last ones."""


@dataclass(frozen=True)
class Case:
    """A test's result.

    message: what the result's line says after `#`.  lines: those before it, which may tell why.
    tests: the results of its parts.
    """

    name: str
    outcome: Outcome
    message: str = ""
    lines: tuple[str, ...] = ()
    tests: tuple[Case, ...] = ()


@dataclass(frozen=True)
class Output:
    """What a program has printed.

    tests: empty if it printed no KTAP.  faults: what is wrong with the KTAP, one line each: a plan that was
    not kept, a result that is missing.  skipped: why the program made no test at all, "" if it made some.
    """

    tests: tuple[Case, ...] = ()
    faults: tuple[str, ...] = ()
    skipped: str = ""


@dataclass
class _Block:
    """The results at one indentation that belong together, under one plan."""

    indent: int
    name: str = ""
    plan: int | None = None
    tests: list[Case] = field(default_factory=list)
    parts: list[Case] = field(default_factory=list)  # of the test whose result comes next

    @property
    def is_new(self) -> bool:
        return self.plan is None and not self.tests and not self.parts


def parse(lines: Iterable[str]) -> Output:
    """Return the results in the lines of an output, without printk's times.  Nothing raises an error."""
    parser = _Parser()
    for line in lines:
        parser.feed(line.rstrip("\r\n"))
    return parser.end()


class _Parser:
    def __init__(self) -> None:
        self.open: list[_Block] = []  # the outermost first
        self.tests: list[Case] = []
        self.faults: list[str] = []
        self.lines: list[str] = []
        self.skipped = ""

    def feed(self, line: str) -> None:
        """Read one line."""
        if match := VERSION.fullmatch(line):
            self._begin(len(match[1]))
            self.lines.clear()
        elif match := SUBTEST.fullmatch(line):
            block = self._block(len(match[1]))
            if not block.is_new or block.name:
                block = self._begin(len(match[1]))
            block.name = match[2]
        elif match := PLAN.fullmatch(line):
            self._plan(len(match[1]), int(match[2]), match[3] or "")
        elif match := RESULT.fullmatch(line):
            self._result(match)
        elif match := BAIL_OUT.fullmatch(line):
            self.faults.append(f"the test gave up: {match[1] or 'it does not say why'}")
        elif line.strip():
            self.lines.append(line)
            del self.lines[:-MAX_LINES]

    def end(self) -> Output:
        """Return what was read."""
        self._close(0)
        return Output(tuple(self.tests), tuple(dict.fromkeys(self.faults)), self.skipped)

    def _plan(self, indent: int, count: int, said: str) -> None:
        block = self._block(indent)
        if not block.is_new:
            # A plan may stand behind the results that it counts, as in TAP.
            if block.plan is None and len(block.tests) == count:
                block.plan = count
                return
            block = self._begin(indent)
        block.plan = count
        directive = DIRECTIVE.fullmatch(said)
        if not count and directive and directive[1].upper() == "SKIP":
            self.skipped = directive[2] or "it does not say why"

    def _result(self, match: re.Match[str]) -> None:
        block = self._block(len(match[1]))
        number, name = int(match[3]), match[4] or block.name or f"test {match[3]}"
        said = match[5] or ""
        directive = DIRECTIVE.fullmatch(said)
        word = directive[1].upper() if directive else ""
        outcome: Outcome = "passed" if match[2] == "ok" else "failed"
        if word in SKIPS:
            outcome = "skipped"
        elif word:  # TIMEOUT, ERROR
            outcome = "failed"
        message = directive[2] if directive and word == "SKIP" else said
        if number != len(block.tests) + 1:
            self.faults.append(f"{name} has the number {number}, expected {len(block.tests) + 1}")
        block.tests.append(Case(name, outcome, message, tuple(self.lines), tuple(block.parts)))
        block.parts.clear()
        self.lines.clear()

    def _block(self, indent: int) -> _Block:
        """Return the block of an indentation; those further in end, and are parts of its next test."""
        self._close(indent + 1)
        if self.open and self.open[-1].indent == indent:
            return self.open[-1]
        return self._begin(indent)

    def _begin(self, indent: int) -> _Block:
        """Begin a block; one of the same indentation ends."""
        self._close(indent)
        if len(self.open) == MAX_DEPTH:
            self.faults.append(f"tests are nested more than {MAX_DEPTH} times")
            return self.open[-1]
        self.open.append(_Block(indent))
        return self.open[-1]

    def _close(self, indent: int) -> None:
        """End the blocks of this indentation, and those further in."""
        while self.open and self.open[-1].indent >= indent:
            block = self.open.pop()
            if block.parts:
                self.faults.append("a test has parts, and no result of its own")
                block.tests.append(Case("without a result", "failed", "no result", (), tuple(block.parts)))
            if block.plan is not None and block.plan != len(block.tests):
                whose = f"{block.name}: " if block.name else ""
                self.faults.append(f"{whose}{block.plan} tests were planned, and {len(block.tests)} came")
            if self.open:
                self.open[-1].parts += block.tests
            else:
                self.tests += block.tests
