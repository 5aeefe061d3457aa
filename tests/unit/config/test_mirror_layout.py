# SPDX-License-Identifier: MIT
"""Where the extensions lie on a mirror."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import mirror_layout, profile
from tasks.config.settings import Settings
from tasks.util.checkout import CHECKOUT


def test_the_profile_says_the_folder() -> None:
    loaded = replace(profile.load("tc11"), tcz="/11.x/x86_64/tcz/")
    assert mirror_layout.mirror_folder(loaded) == "11.x/x86_64/tcz"


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ('NAME="x"\nVERSION_ID="14.1"\n', "14.x"),
        ("VERSION_ID=9\n", "9.x"),
        ("NAME=x\n", "unknown.x"),
        (None, "unknown.x"),
    ],
)
def test_the_root_says_it_where_the_profile_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, release: str
) -> None:
    loaded = replace(profile.load("tc11"), tcz="", extensions=())
    monkeypatch.setattr(CHECKOUT, "rootfs", tmp_path / "rootfs")
    if text is not None:
        path = tmp_path / "rootfs/files/etc/os-release"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert mirror_layout.mirror_folder(loaded) == f"{release}/x86_64/tcz"


def test_a_mirror_lies_in_the_output(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    assert mirror_layout.mirror(settings.paths) == settings.paths.output / "mirror"
