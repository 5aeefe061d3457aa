# SPDX-License-Identifier: MIT
"""Digests that a check has found good: kept for the same rules, forgotten for others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.util.verified_digests import VerifiedDigests, digest


def test_pieces_put_together_otherwise_have_another_digest() -> None:
    assert len({digest(b"ab", b"c"), digest(b"a", b"bc"), digest(b"abc"), digest(b"abc", b"")}) == 4


def test_what_was_kept_is_there_for_the_same_rules(tmp_path: Path) -> None:
    file = tmp_path / "good"
    VerifiedDigests(file, "rules").keep(["b", "a", "b"])
    assert file.read_text() == "rules\na\nb\n"
    assert "a" in VerifiedDigests(file, "rules")
    assert "c" not in VerifiedDigests(file, "rules")
    assert "a" not in VerifiedDigests(file, "other rules")


def test_keeping_forgets_what_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "good"
    VerifiedDigests(file, "rules").keep(["a"])
    VerifiedDigests(file, "rules").keep(["b"])
    assert VerifiedDigests(file, "rules").good == {"b"}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a\nrules\n"])
def test_a_damaged_file_counts_as_empty(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "good"
    file.write_bytes(content)
    assert VerifiedDigests(file, "rules").good == set()
