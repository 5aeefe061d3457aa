# SPDX-License-Identifier: MIT
"""What the report says of tests in guests."""

from __future__ import annotations

import re
from pathlib import Path

from tasks.report import guest_tests
from tasks.vm.results import Record, Result, whole

KERNEL = whole("kernel", [Result("WARNING: <b>", "failed", 0.0, "a fault", "  | Call Trace:")], 0.0)
FIRST = Record(1000.0, 30.0, (whole("direct", [Result("up", "passed", 20.0)], 30.0),))
LAST = Record(
    2000.0,
    70.0,
    (
        whole("bios-cd", [Result("up", "passed", 25.0), KERNEL, Result("two", "skipped", 0.0, "why")], 40.0),
        whole("uefi-cd", [Result("up", "passed", 25.0)], 30.0),
    ),
)


def rows(table: str) -> list[list[str]]:
    """Return the texts of the cells of a table's body."""
    body = table.partition("<tbody>")[2]
    return [
        [re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL)]
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    ]


def test_no_test_has_no_part(tmp_path: Path) -> None:
    assert guest_tests.of(tmp_path, []) is None


def test_the_last_run_is_shown_test_by_test(tmp_path: Path) -> None:
    made = guest_tests.of(tmp_path, [FIRST, LAST])
    assert made
    assert rows(made.table) == [
        ["bios-cd", "up", "passed", "25 s", ""],
        ["bios-cd", "kernel: WARNING: &lt;b&gt;", "failed", "0.0 s", "a fault  | Call Trace:"],
        ["bios-cd", "two", "skipped", "0.0 s", "why"],
        ["uefi-cd", "up", "passed", "25 s", ""],
    ]
    (run,) = made.last
    assert (run.command, run.said) == ("qemu:test", "2 passed, 1 failed, 1 skipped")
    assert "1970-01-01 00:33:20 UTC" in run.when


def test_each_command_has_its_last_run(tmp_path: Path) -> None:
    """A run of the kernel's own tests does not hide what the image's checks said."""
    kernel = Record(3000.0, 9.0, (whole("kunit", [Result("list", "passed")], 9.0),), "kunit")
    made = guest_tests.of(tmp_path, [FIRST, LAST, kernel])
    assert made
    assert [(run.command, run.said) for run in made.last] == [
        ("kunit", "1 passed"),
        ("qemu:test", "2 passed, 1 failed, 1 skipped"),
    ]
    assert [row[0] for row in rows(made.table)] == ["kunit", "bios-cd", "bios-cd", "bios-cd", "uefi-cd"]
    assert rows(made.history)[0][1] == "kunit"


def test_the_runs_before_it_are_a_table_newest_first(tmp_path: Path) -> None:
    made = guest_tests.of(tmp_path, [FIRST, LAST])
    assert made
    assert rows(made.history) == [
        ["1970-01-01 00:33:20 UTC", "bios-cd, uefi-cd", "2", "1", "1", "1 min 10 s", "failed"],
        ["1970-01-01 00:16:40 UTC", "direct", "1", "0", "0", "30 s", "passed"],
    ]


def test_the_files_that_are_there_are_linked(tmp_path: Path) -> None:
    for name in ("bios-cd/console.log", "bios-cd/dmesg.txt", "uefi-cd/console.log", "direct/console.log"):
        (tmp_path / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tests" / name).write_text("")
    made = guest_tests.of(tmp_path, [FIRST, LAST])
    assert made
    assert re.findall('href="([^"]+)"', made.links) == [
        "tests/bios-cd/console.log",
        "tests/bios-cd/dmesg.txt",
        "tests/uefi-cd/console.log",
    ]
