# SPDX-License-Identifier: MIT
"""Whether what a task has made is still as it made it."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.engine import targets
from tasks.engine.targets import KEY, UnchangedTargets, file_records
from tasks.util.files import sha256_file


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


def test_a_change_that_keeps_size_and_mtime_is_seen(target: Path) -> None:
    records = file_records([str(target)])
    before = os.stat(target)
    target.write_bytes(b"whol3")
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(target).st_mtime_ns == before.st_mtime_ns
    assert differing(UnchangedTargets(), {KEY: records}, target) == [str(target)]


def test_only_an_equal_stamp_spares_the_content(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "is_settled", lambda _: True)
    values = {KEY: file_records([str(target)])}
    read: list[Path] = []

    def digest(path: Path) -> str:
        read.append(path)
        return sha256_file(path)

    monkeypatch.setattr(targets, "sha256_file", digest)
    assert differing(UnchangedTargets(), values, target) == []
    assert read == []
    os.utime(target, (1, 1))
    assert differing(UnchangedTargets(), values, target) == []
    assert read == [target]


def test_a_fresh_stamp_is_not_trusted(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write in the same step of the clock would leave it equal."""
    monkeypatch.setattr(targets, "is_settled", lambda _: False)
    (record,) = file_records([str(target)]).values()
    assert record[:4] == (5, 0, 0, 0)


def test_a_record_of_an_older_version_compares_the_content(target: Path) -> None:
    """It has size, mtime and sha256."""
    status = os.stat(target)
    old = [status.st_size, status.st_mtime_ns, sha256_file(target)]
    values = {KEY: {str(target): old}}
    assert differing(UnchangedTargets(), values, target) == []
    target.write_bytes(b"whol3")
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
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
