# SPDX-License-Identifier: MIT
"""Results of KTAP (tasks/formats/ktap.py): each test with its parts, and what is wrong with the text."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.formats.ktap import Case, Output
from tasks.util.text import printable
from tasks.vm import checks
from tasks.vm.results import Result

WELL_FORMED = "its KTAP is whole"
OWN = "its own result"


def of_output(output: Output) -> list[Result]:
    """Return a result for each test of an output, and one that has failed if the output has faults."""
    made = of_tests(output.tests)
    if output.faults:
        message = printable("; ".join(output.faults))[: checks.SHOWN]
        made.append(Result(WELL_FORMED, "failed", message=message))
    return made


def of_tests(tests: Iterable[Case]) -> list[Result]:
    """Return a result for each test.

    One that has failed although none of its parts has gets one more part, which says so.
    """
    return [_result(test) for test in tests]


def _result(test: Case) -> Result:
    name, message = printable(test.name), printable(test.message)[: checks.SHOWN]
    detail = checks.detail({"output": "\n".join(test.lines)}) if test.outcome == "failed" else ""
    if not test.tests:
        return Result(name, test.outcome, 0.0, message or _last(test), detail)
    parts = of_tests(test.tests)
    alone = all(part.outcome != "failed" for part in parts)
    if test.outcome == "failed" and alone:
        parts.append(Result(OWN, "failed", message=message or "not ok", detail=detail))
    failed = test.outcome == "failed" or not alone
    outcome = "failed" if failed else test.outcome
    return Result(name, outcome, results=tuple(parts))


def _last(test: Case) -> str:
    """Return what a failed test said last, in place of a message."""
    if test.outcome != "failed":
        return ""
    said = test.lines[-1].strip().removeprefix("#").strip() if test.lines else "not ok"
    return printable(said)[: checks.SHOWN]
