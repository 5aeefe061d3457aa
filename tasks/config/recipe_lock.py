"""Where the locks of recipes stand, and what a recipe's origins are by them.

A recipe's own lock is committed beside it, `extensions/NAME/lock.toml`; which of its entries
the last fetch used stands in `artifacts/PROFILE/origins/NAME.toml`.  What an entry is, says
tasks/origins/origin_lock.py.
"""

from __future__ import annotations

import functools
from pathlib import Path

from tasks.config import inputs, recipe
from tasks.config.recipe import Recipe
from tasks.config.settings import Settings
from tasks.origins import origin_lock
from tasks.origins.kinds.base import LockedOrigin, Resources
from tasks.origins.origin_lock import OriginFile, OriginLock
from tasks.util.errors import UserError


def path(name: str) -> Path:
    """Return the committed lock of the recipe `name`, whether it is there or not."""
    return recipe.folder(name) / "lock.toml"


def used_path(settings: Settings, name: str) -> Path:
    """Return where the last fetch of `name` wrote what it used."""
    return settings.output / "origins" / f"{name}.toml"


def committed_lock(name: str) -> OriginLock:
    """Return the committed lock of the recipe `name`.  Raises `UserError` if it is malformed."""
    return origin_lock.load(path(name))


def used_lock(settings: Settings, name: str) -> OriginLock:
    """Return what the last fetch of `name` used.  Raises `UserError` if that is malformed."""
    return origin_lock.load(used_path(settings, name))


def lockable_origins(made: Recipe) -> list[LockedOrigin]:
    """Return the origins that the recipe itself must lock."""
    return [origin for origin in made.origin if isinstance(origin, LockedOrigin)]


def unlocked_origins(name: str, made: Recipe) -> list[LockedOrigin]:
    """Return the origins of `made` that the committed lock of `name` does not know.

    Raises `UserError` if the lock is malformed.
    """
    known = committed_lock(name)
    return [origin for origin in lockable_origins(made) if not known.of(origin.identity())]


def is_cached(settings: Settings, name: str) -> bool:
    """Tell whether all that the last fetch of `name` brought still lies in the cache."""
    try:
        known = used_lock(settings, name)
    except UserError:  # damaged: to be written anew
        return False
    return all(file.cached_in(settings.cache).is_file() for file in known.file)


def fetched_files(settings: Settings, name: str, origin: LockedOrigin) -> tuple[OriginFile, ...]:
    """Return the files of an origin of `name` that the last fetch used.

    Raises `UserError` if nothing of it was fetched yet.
    """
    files = used_lock(settings, name).of(origin.identity())
    if not files:
        raise UserError(f"{origin.identity()} was not fetched yet", f"./doit fetch:{name}")
    return files


def resources(settings: Settings) -> Resources:
    """Return what the origins of recipes may use in this run."""
    return Resources(
        cache=settings.cache,
        offline=settings.offline,
        logs=settings.logs,
        debs=functools.partial(inputs.package_files, settings),
        recipe=_locked_origins,
    )


def _locked_origins(name: str) -> list[tuple[LockedOrigin, tuple[OriginFile, ...]]]:
    known = committed_lock(name)
    return [(origin, known.of(origin.identity())) for origin in lockable_origins(recipe.load(name))]
