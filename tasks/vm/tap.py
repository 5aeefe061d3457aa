# SPDX-License-Identifier: MIT
"""Results as TAP, the Test Anything Protocol.

It is version 13, which every reader takes (https://testanything.org/tap-version-13-specification.html).
Parts are subtests as in version 14, four blanks further in; older readers leave such lines out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from tasks.util.text import printable
from tasks.vm.results import Record, Result

BLANKS = "    "


def text(record: Record) -> bytes:
    """Return the results as TAP, in UTF-8."""
    lines = ["TAP version 13", *_tests(record.results)]
    return "".join(f"{line}\n" for line in lines).encode()


def _tests(results: Sequence[Result]) -> Iterator[str]:
    yield f"1..{len(results)}"
    for number, result in enumerate(results, 1):
        name = _described(result.name)
        if result.results:
            yield f"# Subtest: {name}"
            yield from (f"{BLANKS}{line}" for line in _tests(result.results))
        line = f"{'not ok' if result.outcome == 'failed' else 'ok'} {number} - {name}"
        yield f"{line} # SKIP {_described(result.message)}".rstrip() if result.outcome == "skipped" else line
        yield from (f"  {line}" for line in _diagnostics(result))


def _diagnostics(result: Result) -> Iterator[str]:
    """Yield the block of YAML behind a test."""
    yield "---"
    yield f"duration_ms: {result.seconds * 1000:.0f}"
    if result.message:
        yield f"message: {json.dumps(printable(result.message))}"
    if result.detail.strip():
        yield "detail: |"
        yield from (f"  {line}" for line in printable(result.detail).expandtabs().splitlines())
    yield "..."


def _described(said: str) -> str:
    """Return a text as a description: one line in which nothing begins a directive."""
    return " ".join(printable(said).split()).replace("\\", "\\\\").replace("#", "\\#")
