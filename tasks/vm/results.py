# SPDX-License-Identifier: MIT
"""Results of tests in guests, and the records of them.

A result may have results below it, at any depth: a boot has its checks, and a check may have subtests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "failed", "skipped"]


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
