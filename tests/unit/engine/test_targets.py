# SPDX-License-Identifier: MIT
"""Whether what a task has made is still as it made it."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.engine.targets import KEY, UnchangedTargets, file_records


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "made"
    path.write_bytes(b"whole")
    return path


def differing(check: UnchangedTargets, values: dict[str, Any], *targets: Path) -> list[str]:
    task = SimpleNamespace(targets=[str(path) for path in targets])
    return list(check.changed_files(task, values))


def test_a_file_as_it_was_made_does_not_differ(target: Path) -> None:
    values = {KEY: file_records([str(target)])}
    assert differing(UnchangedTargets(), values, target) == []
    os.utime(target, (1, 1))  # another time alone: the content decides
    assert differing(UnchangedTargets(), values, target) == []


@pytest.mark.parametrize("content", [b"longer than before", b"whol3"])
def test_another_content_differs(target: Path, content: bytes) -> None:
    values = {KEY: file_records([str(target)])}
    target.write_bytes(content)
    os.utime(target, (1, 1))
    assert differing(UnchangedTargets(), values, target) == [str(target)]


def test_files_of_folders_count(target: Path) -> None:
    check = UnchangedTargets([target.parent])
    values = {KEY: file_records([str(target)])}
    assert differing(check, values) == []
    target.unlink()
    assert differing(check, values) == [str(target)]


def test_without_a_record_nothing_differs(target: Path) -> None:
    assert differing(UnchangedTargets(), {}, target) == []


def test_what_does_not_exist_is_not_recorded(target: Path) -> None:
    assert list(file_records([str(target), str(target.parent / "none")])) == [str(target)]


def test_success_saves_what_was_made(target: Path) -> None:
    task = SimpleNamespace(targets=[str(target)], value_savers=[])
    assert UnchangedTargets()(task, {}) is True
    saved = task.value_savers[0]()
    target.write_bytes(b"other")
    assert UnchangedTargets()(task, saved) is False
