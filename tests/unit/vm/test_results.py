# SPDX-License-Identifier: MIT
"""Results nest, and a failure of a part is one of the whole; the records of runs are read as written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.util.dated_records import MAX_RECORDS
from tasks.vm import results
from tasks.vm.results import Record, Result, leaves, whole

DEEP = whole("check", [Result("a", "passed"), whole("b", [Result("c", "failed", 1.0, "why")], 1.0)], 2.0)


def test_a_whole_has_failed_if_a_part_of_a_part_has() -> None:
    assert whole("x", [Result("a", "passed"), Result("b", "skipped")], 1.0).outcome == "passed"
    assert DEEP.outcome == "failed"
    assert DEEP.seconds == 2.0


def test_the_parts_without_parts_are_named_from_the_outside() -> None:
    told = [(names, part.name) for names, part in leaves([DEEP, Result("d", "passed")])]
    assert told == [(("check",), "a"), (("check", "b"), "c"), ((), "d")]


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    first, second = Record(1000.5, 2.0, (DEEP,)), Record(2000.0, 1.0, (Result("é\x1b", "skipped"),))
    for record in (second, first):
        results.save(tmp_path, record)
    assert results.load(tmp_path) == ([first, second], [])
    assert first.counts() == {"passed": 1, "failed": 1}


def test_a_record_from_before_commands_is_one_of_the_image(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text('{"started": 1.0, "seconds": 1.0, "results": []}')
    assert results.read(path).command == "qemu:test"


def test_a_command_removes_the_files_of_its_own_boots(tmp_path: Path) -> None:
    folder = tmp_path / results.FOLDER
    for name in ("bios-cd", "direct", "kselftest", "kunit", "records"):
        (folder / name).mkdir(parents=True)
    results.clear(tmp_path, "kunit")
    assert sorted(path.name for path in folder.iterdir()) == ["bios-cd", "direct", "kselftest", "records"]
    results.clear(tmp_path, "qemu:test")
    assert sorted(path.name for path in folder.iterdir()) == ["kselftest", "records"]


def test_the_last_records_are_kept(tmp_path: Path) -> None:
    for number in range(MAX_RECORDS + 3):
        results.save(tmp_path, Record(1000.0 + number, 1.0, ()))
    there, _ = results.load(tmp_path)
    assert [record.started for record in there] == [1003.0 + number for number in range(MAX_RECORDS)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "JSONDecodeError"),
        ("[]", "expected a table"),
        ('{"started": 1.0, "seconds": 1.0}', "missing key 'results'"),
        ('{"started": 1.0, "seconds": Infinity, "results": []}', "no number of seconds: inf"),
        ('{"started": NaN, "seconds": 1.0, "results": []}', "no number of seconds: nan"),
        (
            '{"started": 1.0, "seconds": 1.0, "results": [{"name": "a", "outcome": "good"}]}',
            "results[0].outcome: expected one of 'passed', 'failed', 'skipped', got 'good'",
        ),
        ("[" * 100_000, "RecursionError"),
    ],
)
def test_a_damaged_record_is_left_out_aloud(tmp_path: Path, content: str, words: str) -> None:
    good = Record(1000.0, 1.0, ())
    results.save(tmp_path, good)
    (tmp_path / "tests/records/20260101T000000.000Z.json").write_text(content)
    there, faults = results.load(tmp_path)
    assert there == [good]
    assert len(faults) == 1
    assert faults[0].startswith("20260101T000000.000Z.json is damaged and left out: ")
    assert words in faults[0]
