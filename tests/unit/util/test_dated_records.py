# SPDX-License-Identifier: MIT
"""Records by their time: their names, their order, and which stay."""

from __future__ import annotations

from pathlib import Path

from tasks.util import dated_records


def test_a_name_is_the_time_to_the_millisecond() -> None:
    assert dated_records.name(0.0, "json") == "19700101T000000.000Z.json"
    assert dated_records.name(1700000000.125, "jsonl") == "20231114T221320.125Z.jsonl"


def test_the_newest_stay_and_nothing_else_is_touched(tmp_path: Path) -> None:
    made = [tmp_path / dated_records.name(float(at), "json") for at in range(dated_records.MAX_RECORDS + 3)]
    others = [
        tmp_path / name for name in ("notes.json", "20231114T221320.125Z.jsonl", "x19700101T000000.000Z.json")
    ]
    for path in (*reversed(made), *others):
        path.write_text("")
    assert dated_records.paths(tmp_path, "json") == made
    dated_records.remove_oldest(tmp_path, "json")
    assert dated_records.paths(tmp_path, "json") == made[3:]
    assert all(path.exists() for path in others)
