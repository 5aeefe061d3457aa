# SPDX-License-Identifier: MIT
"""Settings like others, but for some values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from tasks.config import inputs
from tasks.config.profile import Profile
from tasks.config.settings import Paths, Settings
from tasks.origins.lock import Lock
from tasks.util.files import write_atomic


def with_values(settings: Settings, **values: Any) -> Settings:
    """Return `settings` with other `values`; each goes to the part that has a field of its name.

    `fragments` are those of the profile's kernel.
    """
    profile = values.pop("profile", settings.profile)
    if "fragments" in values:
        profile = replace(profile, kernel=replace(profile.kernel, fragments=values.pop("fragments")))
    names = {field.name for field in fields(Paths)}
    paths = {name: value for name, value in values.items() if name in names}
    network = {name: value for name, value in values.items() if name not in names}
    return Settings(replace(settings.paths, **paths), profile, replace(settings.network, **network))


def record_lock(
    settings: Settings, lock: Lock, packages: Mapping[str, tuple[str, ...]] | None = None
) -> None:
    """Write `lock` as task fetch does: as the used lock, and its parts; packages: those of recipes."""
    upstream = [item.name for item in lock.extension]
    for user, part in inputs.lock_parts(lock, settings.profile, packages or {}, upstream).items():
        write_atomic(settings.paths.lock_part(user), part.to_toml())
    write_atomic(settings.paths.used_lock, lock.to_toml())


def both(settings: Settings) -> tuple[Paths, Profile]:
    """Return the two parts that most stages take."""
    return settings.paths, settings.profile
