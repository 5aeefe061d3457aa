# SPDX-License-Identifier: MIT
"""The files that extensions consist of, as tasks name them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import plan
from tasks.config.settings import Settings
from tasks.extensions import targets
from tasks.formats import tcz
from tests.support.profiles import locked, profile_maker, up


def test_an_extension_is_its_files_and_those_of_all_it_needs(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = profile_maker(tmp_path, monkeypatch)(up("top"), up("other"))
    settings = replace(make_settings(), profile=profile)
    planned = plan.plan(profile, locked(top="left right", left="base", right="base", base="", other=""))
    files = targets.tcz_files(settings.paths, settings.profile, planned, ["top"])
    images = [path.name for path in files if path.suffix == ".tcz"]
    assert sorted(images) == ["base.tcz", "left.tcz", "right.tcz", "top.tcz"]
    assert images[0] == "base.tcz"
    expected = {
        settings.paths.tcz / file
        for name in ("base", "left", "right", "top")
        for file in tcz.file_names(name, tcz.UPSTREAM_SIDE_FILES)
    }
    assert set(files) == expected
    assert len(files) == len(expected)
