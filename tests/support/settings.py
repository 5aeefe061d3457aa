# SPDX-License-Identifier: MIT
"""Settings like others, but for some values."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from tasks.config.profile import Profile
from tasks.config.settings import Paths, Settings


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


def both(settings: Settings) -> tuple[Paths, Profile]:
    """Return the two parts that most stages take."""
    return settings.paths, settings.profile
