"""The inputs of a profile, as the last fetch locked them, and where they lie in the cache.

Nothing here uses the network: `tasks/fetch/stage_inputs.py` brings what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks.config.profile import Profile
from tasks.config.settings import Settings
from tasks.origins.lock import Lock, LockedExtension, LockedPackage, load_lock
from tasks.origins.mirrors import Mirrors
from tasks.origins.sources.base import Access, Entry, Source
from tasks.util.errors import UserError


def sources(profile: Profile) -> list[Source]:
    """Return where the kernel, its base config, the core's archives and fetched images come from."""
    base = profile.kernel.base
    return [
        profile.kernel.source,
        *([base] if not isinstance(base, str) else []),
        *profile.core.archives,
        # One that is a file of this machine may change at any time: its digest can be declared.
        *(image.source for image in profile.images if not image.source.is_local),
    ]


# --- what is locked ----------------------------------------------------------


def used_lock(settings: Settings) -> Lock:
    """Return what the last fetch used.  Raises `UserError` if nothing was fetched yet."""
    if not settings.used_lock.exists():
        raise UserError(f"nothing was fetched yet for profile {settings.name}", "./doit fetch")
    return load_lock(settings.used_lock)


def locked_packages(settings: Settings, names: Iterable[str]) -> list[LockedPackage]:
    """Return the lock's entries of the packages `names`, sorted.

    Raises `UserError` for a package that the last fetch did not lock.
    """
    packages = {package.name: package for package in used_lock(settings).package}
    wanted = sorted(set(names))
    for name in wanted:
        if name not in packages:
            raise UserError(f"package {name} was not fetched yet", "./doit fetch")
    return [packages[name] for name in wanted]


def locked_source(settings: Settings, source: Source) -> Entry:
    """Return the lock's entry of `source`.  Raises `UserError` if the last fetch did not lock it."""
    entry = source.locked_in(used_lock(settings))
    if entry is None:
        raise UserError(f"{source.label()} was not fetched yet", "./doit fetch")
    return entry


def locked_extension(settings: Settings, name: str) -> LockedExtension:
    """Return the lock's entry of an upstream extension.

    Raises `UserError` if the last fetch did not lock it.
    """
    used = {item.name: item for item in load_lock(settings.used_lock).extension}
    if name not in used:
        raise UserError(f"extension {name} was not fetched yet", "./doit fetch")
    return used[name]


# --- where it lies -----------------------------------------------------------


def access(settings: Settings) -> Access:
    """Return what sources may use to be fetched in this run."""
    return Access(
        profile=settings.name,
        cache=settings.cache,
        offline=settings.offline,
        frozen=settings.frozen,
        mirrors=Mirrors(settings.profile.mirrors, settings.profile.redirects),
    )


def package_files(settings: Settings, names: Iterable[str]) -> dict[str, Path]:
    """Return the .deb of each of the packages `names`, by package name.

    Raises `UserError` for one that was not fetched, and for one that the cache has not.
    """
    return {
        package.name: _in_cache(settings, package.cached_in(settings.cache))
        for package in locked_packages(settings, names)
    }


def source_file(settings: Settings, source: Source) -> Path:
    """Return the fetched file of `source` (for kind `apt` the .deb).

    Raises `UserError` if it was not fetched, and if the cache has it not.
    """
    if source.is_local:
        return source.local_file()
    return _in_cache(settings, locked_source(settings, source).cached_in(settings.cache))


def extension_file(settings: Settings, name: str) -> Path:
    """Return the fetched .tcz of an upstream extension.

    Raises `UserError` if it was not fetched, and if the cache has it not.
    """
    return _in_cache(settings, locked_extension(settings, name).cached_in(settings.cache))


def _in_cache(settings: Settings, path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path.name} is not in the cache {settings.cache}", "run the same command again")
    return path
