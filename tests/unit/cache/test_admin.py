# SPDX-License-Identifier: MIT
"""`./doit cache:list` and `./doit cache:prune`: sizes, ages, and what they say."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.cache import admin, entry
from tasks.cache.store import Folder
from tasks.config.settings import Settings
from tasks.util.errors import UserError
from tasks.util.sizes import format_size
from tests.support.cacheentries import KEY, OTHER, damage, stored
from tests.support.settings import with_values


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s"), (119, "119 s"), (180, "3 min"), (7200, "2 h"), (864000, "10 days")]
)
def test_ages_for_people(seconds: float, text: str) -> None:
    assert admin.format_age(seconds) == text


@pytest.fixture
def settings(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    return with_values(make_settings(), shared_cache=str(tmp_path / "store"))


def test_a_list_says_task_size_and_age(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Folder(tmp_path / "store")
    manifest = stored(store, tmp_path / "one")
    stored(store, tmp_path / "one", OTHER, "another")
    damage(store.top / entry.entry_name(OTHER), "cut", 0.9)
    hours = time.time() - 3 * 3600
    os.utime(store.top / entry.entry_name(KEY), (hours, hours))
    admin.print_list(settings)
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{OTHER[:12]} +[\d.]+ K?i?B +\d+ s  \(damaged\)", lines[0])
    size = format_size(manifest.size + (store.top / entry.entry_name(KEY)).stat().st_size)
    assert re.fullmatch(rf"{KEY[:12]} +{re.escape(size)} +3 h  kernel", lines[1])
    assert re.fullmatch(rf"{tmp_path}/store: 2 entries, [\d.]+ K?i?B in 2 archives", lines[2])


def test_prune_takes_a_size(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(Folder(tmp_path / "store"), tmp_path / "one")
    admin.prune(settings.network, "10GiB")
    assert "1 entries kept" in capsys.readouterr().out
    admin.prune(settings.network, "10 B")
    assert "0 entries kept, 0 bytes; 1 removed" in capsys.readouterr().out


@pytest.mark.parametrize("command", [admin.print_list, lambda chosen: admin.prune(chosen.network, "1G")])
def test_without_a_shared_cache(
    make_settings: Callable[..., Settings], command: Callable[[Settings], None]
) -> None:
    with pytest.raises(UserError, match="there is no shared cache") as error:
        command(make_settings())
    assert "TCBUILD_SHARED_CACHE" in error.value.hint
    assert "./doit toolchain:prune" in error.value.hint
