# SPDX-License-Identifier: MIT
"""What tells one compiler of this machine from another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.toolchain import build_root
from tasks.toolchain.identity import compiler
from tasks.util import process


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_path_size_and_time_of_each_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "search_path", lambda: str(tmp_path))
    gcc = program(tmp_path, "gcc-12", "#!/bin/sh\n")
    (tmp_path / "gcc").symlink_to(gcc.name)
    as_ = program(tmp_path, "as", "#!/bin/sh\n:\n")
    os.utime(gcc, ns=(5, 5))
    os.utime(as_, ns=(7, 7))
    assert compiler(build_root.HOST) == [(str(gcc), 10, 5), (str(as_), 12, 7)]  # there is no ld


def test_another_compiler_of_the_same_name_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "search_path", lambda: str(tmp_path))
    program(tmp_path, "gcc", "one")
    before = compiler(build_root.HOST)
    program(tmp_path, "gcc", "other")
    assert compiler(build_root.HOST) != before


def test_a_pinned_toolchain_is_its_digest() -> None:
    assert compiler("debian12") == build_root.digest("debian12")
