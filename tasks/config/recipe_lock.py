# SPDX-License-Identifier: MIT
"""The locks of recipes, and the files of a recipe's origins in them.

A recipe's lock, `extensions/NAME/lock.toml`, is committed beside the recipe.
`artifacts/PROFILE/origins/NAME.toml` holds the entries that the last fetch used.
tasks/origins/origin_lock.py defines the entries.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from tasks.config import inputs, recipe
from tasks.config.recipe import Recipe
from tasks.config.settings import Paths, Settings
from tasks.origins import origin_lock
from tasks.origins.kinds.base import LockedOrigin, Resources
from tasks.origins.origin_lock import OriginFile, OriginLock
from tasks.util.errors import UserError
from tasks.util.files import Stamp, stamp


def path(name: str) -> Path:
    """Return the path of the committed lock of the recipe `name`; it may not exist."""
    return recipe.folder(name) / "lock.toml"


def used_path(paths: Paths, name: str) -> Path:
    """Return the path of the lock that the last fetch of `name` wrote."""
    return paths.output / "origins" / f"{recipe.name_of(name)}.toml"


def committed_lock(name: str) -> OriginLock:
    """Return the committed lock of the recipe `name`.

    Raises `UserError`, which says what writes it, if it is malformed.
    """
    try:
        return _load(path(name), stamp(path(name)))
    except UserError as error:
        hint = f"restore it, or write it anew: ./doit lock:{recipe.name_of(name)} relock=1"
        raise error.reworded(error.message, hint) from None


@functools.cache
def _load(path: Path, state: Stamp | None) -> OriginLock:
    """Read a committed lock once for each state of its file: loading dodo.py asks for it several times."""
    return origin_lock.load(path)


def used_lock(paths: Paths, name: str) -> OriginLock:
    """Return the lock that the last fetch of `name` wrote.  Raises `UserError` if it is malformed."""
    return origin_lock.load(used_path(paths, name))


def lockable_origins(made: Recipe) -> list[LockedOrigin]:
    """Return the origins that the recipe's own lock must hold."""
    return [origin for origin in made.origin if isinstance(origin, LockedOrigin) and origin.is_locked]


def lockable(recipes: Mapping[str, Recipe]) -> list[str]:
    """Return the names of those of `recipes` that have an origin for their own lock."""
    return [name for name, made in recipes.items() if lockable_origins(made)]


def unlocked_origins(name: str, made: Recipe) -> list[LockedOrigin]:
    """Return the origins of `made` that the committed lock of `name` lacks.

    Raises `UserError` if the lock is malformed.
    """
    known = committed_lock(name)
    return [origin for origin in lockable_origins(made) if not known.of(origin.identity())]


def is_cached(paths: Paths, name: str) -> bool:
    """Tell whether all files of the last fetch of `name` still lie in the cache."""
    try:
        known = used_lock(paths, name)
    except UserError:  # the lock is damaged; the next fetch writes it again
        return False
    return all(file.cached_in(paths.cache).is_file() for file in known.file)


def fetched_files(paths: Paths, name: str, origin: LockedOrigin) -> tuple[OriginFile, ...]:
    """Return the files that the last fetch of `name` used of `origin`.

    Raises `UserError` if it was not fetched yet.
    """
    files = used_lock(paths, name).of(origin.identity())
    if not files:
        raise UserError(f"{origin.identity()} was not fetched yet", f"./doit fetch:{recipe.name_of(name)}")
    return files


def resources(settings: Settings, name: str) -> Resources:
    """Return what the origins of the recipe `name` need to fetch and unpack their files in this run."""
    part = settings.paths.extension_lock(name)
    return Resources(
        cache=settings.paths.cache,
        offline=settings.network.offline,
        logs=settings.paths.logs,
        epoch=settings.profile.source_date_epoch,
        debs=functools.partial(inputs.package_files, settings.paths, part),
        recipe=_locked_origins,
    )


def _locked_origins(name: str) -> list[tuple[LockedOrigin, tuple[OriginFile, ...]]]:
    known = committed_lock(name)
    return [(origin, known.of(origin.identity())) for origin in lockable_origins(recipe.load(name))]
