# SPDX-License-Identifier: MIT
"""What a manifest says of the checkout, with the real git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.provenance import materials
from tasks.util.checkout import CHECKOUT


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    head = subprocess.run(
        ["git", "-C", CHECKOUT.root, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    commit, dirty = materials._git()
    assert commit in (head.stdout.strip(), "")
    assert dirty or commit
    monkeypatch.setattr(CHECKOUT, "root", tmp_path)
    assert materials._git() == ("", True)
