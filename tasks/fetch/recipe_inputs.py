"""`./doit fetch:NAME` and `./doit lock:NAME`: the origins of one recipe, but those of kind apt.

Only `lock:NAME` takes a file whose sha256 nobody knows.  A hash that is locked stays
until `relock=1` says otherwise, and what is not locked is never fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tasks.config import plan, recipe, recipe_lock
from tasks.config.settings import Settings
from tasks.origins.origin_lock import OriginFile, OriginLock
from tasks.util.errors import UserError, WrongAddress, WrongSha256
from tasks.util.files import scratch_folder, write_if_changed
from tasks.util.log import logger


def fetch(settings: Settings, name: str) -> None:
    """Bring the origins of `name` that the profile takes into the cache, as they are locked.

    Writes what was used to `artifacts/PROFILE/origins/NAME.toml`.  With the files in the
    cache, the network is not asked.  Raises `UserError` if one is not locked or cannot be had.
    """
    if settings.relock:
        raise UserError(
            "relock=1 changes what is locked, and fetch never does", f"./doit lock:{name} relock=1"
        )
    made = plan.recipe_of(settings.profile, name)
    for origin in recipe_lock.unlocked_origins(name, made):
        which = f" {origin.alternative}" if origin.alternative else ""
        message = f"no sha256 is locked for {origin.identity()}, which extension {name} is made of"
        raise UserError(message, f"./doit lock:{name}{which} fetches it once and shows what to pin")
    known = recipe_lock.committed_lock(name)
    used: list[OriginFile] = []
    for origin in recipe_lock.lockable_origins(made):
        files = known.of(origin.identity())
        with _name_recipe_in_errors(name):
            origin.fetch(recipe_lock.resources(settings), files)
        used += files
    write_if_changed(recipe_lock.used_path(settings, name), OriginLock(tuple(used)).to_toml())
    logger.info(f"fetched: {len(used)} files of {name} ({recipe_lock.used_path(settings, name)})")


def fetch_missing(settings: Settings, name: str) -> None:
    """Fetch again what the last fetch of `name` used and the cache does not hold whole.

    This is the step before an extension is built: the build itself only reads the cache.
    Raises `UserError` if something was not fetched yet, and as `fetch` does.
    """
    for origin in recipe_lock.lockable_origins(plan.recipe_of(settings.profile, name)):
        files = recipe_lock.fetched_files(settings, name, origin)
        if not all(file.is_cached_in(settings.cache) for file in files):
            with _name_recipe_in_errors(name):
                origin.fetch(recipe_lock.resources(settings), files)


def lock(settings: Settings, name: str, wanted: Sequence[str] = ()) -> None:
    """Pin the origins of `name` in its lock.toml: those the profile takes, or of the alternatives `wanted`.

    What is locked stays so, unless `relock` is set; what the recipe does not have any more
    leaves the lock.  Raises `UserError` for what cannot be had or checked; then nothing is pinned.
    """
    if settings.offline:
        raise UserError("lock asks the origins themselves, which offline=1 forbids", "leave out offline=1")
    whole = recipe.load(name)
    taken = [recipe.with_alternative(name, whole, word) for word in wanted] or [
        plan.recipe_of(settings.profile, name)
    ]
    old = recipe_lock.committed_lock(name)
    there = {origin.identity() for origin in recipe_lock.lockable_origins(whole)}
    kept = {identity: old.of(identity) for identity in there}
    for origin in {
        one.identity(): one for made in taken for one in recipe_lock.lockable_origins(made)
    }.values():
        if kept[origin.identity()] and not settings.relock:
            logger.info(f"lock: {origin.identity()} is locked already")
            continue
        with scratch_folder(settings.cache / "downloads", "lock") as scratch, _name_recipe_in_errors(name):
            found = origin.pin(recipe_lock.resources(settings), scratch)
        _log_changes(kept[origin.identity()], found)
        kept[origin.identity()] = found
    new = OriginLock(tuple(file for files in kept.values() for file in files))
    if write_if_changed(recipe_lock.path(name), new.to_toml()):
        logger.info(f"lock: written: {recipe_lock.path(name)}; look at it, then commit it")


def _log_changes(before: Sequence[OriginFile], now: Sequence[OriginFile]) -> None:
    known = {file.name: file.sha256 for file in before}
    for file in now:
        if known.get(file.name, file.sha256) != file.sha256:
            logger.info(f"lock: {file.name} changed: sha256 {known[file.name]} -> {file.sha256}")


@contextmanager
def _name_recipe_in_errors(name: str) -> Iterator[None]:
    """Say of what goes wrong which recipe is to blame: the hints of downloads speak of profiles."""
    try:
        yield
    except UserError as error:
        message, hint = f"extension {name}: {error.message}", error.hint
        if isinstance(error, WrongSha256):
            hint = "upstream serves another file than the locked one; find out why before locking it anew "
            hint += f"(./doit lock:{name} relock=1)"
        elif isinstance(error, WrongAddress):
            hint = f"check the urls in extensions/{name}/recipe.toml"
        raise type(error)(message, hint, error.detail) from None
