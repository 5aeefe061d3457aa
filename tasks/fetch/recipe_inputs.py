# SPDX-License-Identifier: MIT
"""`./doit fetch:NAME` and `./doit lock:NAME`: the origins of one recipe, except those of kind apt.

Only `lock:NAME` downloads a file whose sha256 is not locked.  A locked sha256 changes only
with `relock=1`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from tasks.config import inputs, plan, recipe, recipe_lock
from tasks.config.recipe import Recipe
from tasks.config.settings import Settings
from tasks.fetch import toolchain
from tasks.origins.kinds.base import Resources
from tasks.origins.origin_lock import OriginFile, OriginLock
from tasks.util.errors import UserError, WrongAddress, WrongSha256
from tasks.util.files import scratch_folder, write_if_changed
from tasks.util.log import logger


def fetch(settings: Settings, name: str) -> None:
    """Fetch the locked files of the origins of `name` that the profile uses into the cache.

    Writes the used entries to `artifacts/PROFILE/origins/NAME.toml`.  Files in the cache need
    no network.  Raises `UserError` if an origin is not locked or not available.
    """
    if settings.network.relock:
        raise UserError(
            "relock=1 changes what is locked, and fetch never does", f"./doit lock:{name} relock=1"
        )
    made = plan.recipe_to_build(settings.profile, name)
    for origin in recipe_lock.unlocked_origins(name, made):
        which = f" {origin.alternative}" if origin.alternative else ""
        message = f"no sha256 is locked for {origin.identity()}, which {recipe.label(name)} needs"
        raise UserError(message, f"./doit lock:{recipe.name_of(name)}{which} fetches it once and pins it")
    known = recipe_lock.committed_lock(name)
    used: list[OriginFile] = []
    for origin in recipe_lock.lockable_origins(made):
        files = known.of(origin.identity())
        with name_recipe_in_errors(name):
            origin.fetch(resources(settings, name), files)
        used += files
    write_if_changed(recipe_lock.used_path(settings.paths, name), OriginLock(tuple(used)).to_toml())
    logger.info(f"fetched: {len(used)} files of {name} ({recipe_lock.used_path(settings.paths, name)})")


def fetch_missing(settings: Settings, name: str) -> None:
    """Fetch files of the last fetch of `name` again that the cache lacks or holds damaged.

    This step comes before an extension is built; the build itself only reads the cache.
    Raises `UserError` if an origin was not fetched yet, and as `fetch` does.
    """
    for origin in recipe_lock.lockable_origins(plan.recipe_of(settings.profile, name)):
        files = recipe_lock.fetched_files(settings.paths, name, origin)
        if not all(file.is_cached_in(settings.paths.cache) for file in files):
            with name_recipe_in_errors(name):
                origin.fetch(resources(settings, name), files)


def lock(settings: Settings, name: str, wanted: Sequence[str] = ()) -> None:
    """Pin the origins of `name` in its lock.toml: those the profile uses, or of the alternatives `wanted`.

    Locked entries stay, unless `relock` is set.  Entries of origins that the recipe no longer
    has are removed.  Raises `UserError` for an origin that is not available or fails its check;
    then the lock does not change.
    """
    if settings.network.offline:
        raise UserError("lock uses the network, which offline=1 forbids", "leave out offline=1")
    inputs.refuse_foreign(recipe_lock.path(name), f"the recipe of {recipe.label(name)}")
    whole = recipe.load(name)
    taken = [recipe.with_alternative(name, whole, word) for word in wanted]
    taken = taken or [plan.recipe_of(settings.profile, name)]
    new = pinned(settings, name, whole, taken)
    if write_if_changed(recipe_lock.path(name), new.to_toml()):
        logger.info(f"lock: written: {recipe_lock.path(name)}; check it, then commit it")


def pinned(settings: Settings, name: str, whole: Recipe, taken: Sequence[Recipe]) -> OriginLock:
    """Return the lock of the recipe `whole`, that of `name`, with the origins of `taken` pinned.

    Raises `UserError` as `lock` does.
    """
    old = _old_lock(settings, name)
    there = {origin.identity() for origin in recipe_lock.lockable_origins(whole)}
    kept = {identity: old.of(identity) for identity in there}
    ready = [recipe.with_toolchain(made, settings.profile.programs_toolchain) for made in taken]
    chosen = [origin for made in ready for origin in recipe_lock.lockable_origins(made)]
    for origin in {origin.identity(): origin for origin in chosen}.values():
        if kept[origin.identity()] and not settings.network.relock:
            logger.info(f"lock: {origin.identity()} is locked already")
            continue
        with (
            scratch_folder(settings.paths.cache / "downloads", "lock") as scratch,
            name_recipe_in_errors(name),
        ):
            found = origin.pin(resources(settings, name), scratch)
        _log_changes(kept[origin.identity()], found)
        kept[origin.identity()] = found
    return OriginLock(tuple(file for files in kept.values() for file in files))


def _old_lock(settings: Settings, name: str) -> OriginLock:
    """Return the committed lock of `name`; with `relock`, an empty one for a malformed one."""
    try:
        return recipe_lock.committed_lock(name)
    except UserError:
        if not settings.network.relock:
            raise
        return OriginLock()


def resources(settings: Settings, name: str) -> Resources:
    """Return what the origins of a recipe need to be asked, pinned and fetched in this run."""
    found = recipe_lock.resources(settings, name)
    return replace(found, program=functools.partial(toolchain.program, settings))


def _log_changes(before: Sequence[OriginFile], now: Sequence[OriginFile]) -> None:
    known = {file.name: file.sha256 for file in before}
    for file in now:
        if known.get(file.name, file.sha256) != file.sha256:
            logger.info(f"lock: {file.name} changed: sha256 {known[file.name]} -> {file.sha256}")


@contextmanager
def name_recipe_in_errors(name: str) -> Iterator[None]:
    """Name the recipe in errors and hints; those of downloads name the profile."""
    try:
        yield
    except UserError as error:
        message, hint = f"{recipe.label(name)}: {error.message}", error.hint
        if isinstance(error, WrongSha256):
            hint = "upstream serves another file than the locked one; find out why before you lock it again "
            hint += f"(./doit lock:{recipe.name_of(name)} relock=1)"
        elif isinstance(error, WrongAddress):
            place = name if recipe.is_image(name) else f"extensions/{recipe.name_of(name)}"
            hint = f"check the urls in {place}/recipe.toml"
        raise error.reworded(message, hint) from None
