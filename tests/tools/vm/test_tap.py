# SPDX-License-Identifier: MIT
"""TAP, as Perl's prove reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.vm import tap
from tasks.vm.results import Record, Result, whole

GOOD = whole("direct", [Result("the system comes up", "passed", 10.0)], 12.0)
BAD = whole(
    "bios-cd",
    [
        Result("50 # of \\x", "failed", 1.25, 'exited with "1"', "console:\n  | a\tb\x1b\n  | not ok 7"),
        Result("two", "skipped", 0.0, "not made: # TODO"),
        whole("kernel", [Result("c\nd", "passed", 0.5)], 2.0),
    ],
    40.0,
)
TEXT = r"""TAP version 13
1..2
# Subtest: bios-cd
    1..3
    not ok 1 - 50 \# of \\x
      ---
      duration_ms: 1250
      message: "exited with \"1\""
      detail: |
        console:
          | a   b\x1b
          | not ok 7
      ...
    ok 2 - two # SKIP not made: \# TODO
      ---
      duration_ms: 0
      message: "not made: # TODO"
      ...
    # Subtest: kernel
        1..1
        ok 1 - c d
          ---
          duration_ms: 500
          ...
    ok 3 - kernel
      ---
      duration_ms: 2000
      ...
not ok 1 - bios-cd
  ---
  duration_ms: 40000
  ...
# Subtest: direct
    1..1
    ok 1 - the system comes up
      ---
      duration_ms: 10000
      ...
ok 2 - direct
  ---
  duration_ms: 12000
  ...
"""


def test_parts_are_subtests_and_nothing_of_a_guest_is_read_as_a_result() -> None:
    assert tap.text(Record(1.0, 52.0, (BAD, GOOD))).decode() == TEXT


@pytest.mark.parametrize(
    ("results", "failed"), [([BAD, GOOD], "Failed 1/2 subtests"), ([GOOD, GOOD], "PASS")]
)
def test_prove_takes_the_verdict(tmp_path: Path, results: list[Result], failed: str) -> None:
    file = tmp_path / "results.tap"
    file.write_bytes(tap.text(Record(1.0, 52.0, tuple(results))))
    done = subprocess.run(["prove", "--exec", "cat", file], capture_output=True, text=True, check=False)
    assert (done.returncode != 0) is ("Failed" in failed)
    assert failed in done.stdout
    assert "Parse errors" not in done.stdout
