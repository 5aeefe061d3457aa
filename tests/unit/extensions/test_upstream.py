# SPDX-License-Identifier: MIT
"""The extensions taken from mirrors: what is missing or damaged is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.config.settings import Settings
from tasks.extensions import upstream
from tasks.fetch import stage_inputs
from tasks.util.errors import UserError
from tests.support.profiles import locked
from tests.support.settings import with_values


def test_an_extension_that_was_not_fetched(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings("apt")
    settings.paths.output.mkdir(parents=True)
    with pytest.raises(UserError, match="extension a was not fetched yet"):
        stage_inputs.fetch_extension(settings, "a")
    settings.paths.used_lock.write_text(locked(a="").to_toml())
    with pytest.raises(UserError, match="offline=1"):
        stage_inputs.fetch_extension(with_values(settings, offline=True), "a")
    with pytest.raises(UserError, match=r"a\.tcz is not in the cache"):
        upstream.install(settings.paths, settings.profile, "a")


def test_a_damaged_cache_is_noticed_and_nothing_is_left(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings("apt", offline=True)
    lock = locked(a="")
    settings.paths.output.mkdir(parents=True)
    settings.paths.used_lock.write_text(lock.to_toml())
    cached = lock.extension[0].cached_in(settings.paths.cache)
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"hsqs but another")
    with pytest.raises(UserError, match=r"a\.tcz.*offline=1"):
        stage_inputs.fetch_extension(settings, "a")
    assert not settings.paths.tcz.exists()
