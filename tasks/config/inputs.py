# SPDX-License-Identifier: MIT
"""The inputs of a profile: their lock entries and their files in the cache.

This module does not use the network.  `tasks/fetch/stage_inputs.py` fetches missing files.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks.config.profile import Profile
from tasks.config.settings import Paths, Settings
from tasks.origins.lock import Lock, LockedExtension, LockedPackage, load_lock
from tasks.origins.mirrors import Mirrors
from tasks.origins.sources.base import Access, Entry, Source
from tasks.util.errors import UserError


def sources(profile: Profile) -> list[Source]:
    """Return the sources of the kernel, its base config, the core's archives and fetched images."""
    base = profile.kernel.base
    return [
        profile.kernel.source,
        *([base] if not isinstance(base, str) else []),
        *profile.core.archives,
        # A local image may change at any time, so it is not locked; a profile can declare its digest.
        *(image.source for image in profile.images if not image.source.is_local),
    ]


# --- lock entries ----------------------------------------------------------


def used_lock(paths: Paths) -> Lock:
    """Return the lock that the last fetch wrote.  Raises `UserError` if there is none."""
    if not paths.used_lock.exists():
        raise UserError(f"nothing was fetched yet for profile {paths.name}", "./doit fetch")
    return load_lock(paths.used_lock)


def locked_packages(paths: Paths, names: Iterable[str]) -> list[LockedPackage]:
    """Return the lock entries of the packages `names`, sorted.

    Raises `UserError` for a package that the last fetch did not lock.
    """
    packages = {package.name: package for package in used_lock(paths).package}
    wanted = sorted(set(names))
    for name in wanted:
        if name not in packages:
            raise UserError(f"package {name} was not fetched yet", "./doit fetch")
    return [packages[name] for name in wanted]


def locked_source(paths: Paths, source: Source) -> Entry:
    """Return the lock entry of `source`.  Raises `UserError` if the last fetch did not lock it."""
    entry = source.locked_in(used_lock(paths))
    if entry is None:
        raise UserError(f"{source.label()} was not fetched yet", "./doit fetch")
    return entry


def locked_extension(paths: Paths, name: str) -> LockedExtension:
    """Return the lock entry of an upstream extension.

    Raises `UserError` if the last fetch did not lock it.
    """
    used = {item.name: item for item in load_lock(paths.used_lock).extension}
    if name not in used:
        raise UserError(f"extension {name} was not fetched yet", "./doit fetch")
    return used[name]


# --- files in the cache -----------------------------------------------------------


def access(settings: Settings) -> Access:
    """Return what sources need to fetch their files in this run."""
    return Access(
        profile=settings.paths.name,
        cache=settings.paths.cache,
        offline=settings.network.offline,
        frozen=settings.network.frozen,
        mirrors=Mirrors(settings.profile.mirrors, settings.profile.redirects),
    )


def package_files(settings: Settings, names: Iterable[str]) -> dict[str, Path]:
    """Return the .deb of each of the packages `names`, by package name.

    Raises `UserError` for a package that was not fetched or is missing from the cache.
    """
    return {
        package.name: _in_cache(settings.paths, package.cached_in(settings.paths.cache))
        for package in locked_packages(settings.paths, names)
    }


def source_file(paths: Paths, source: Source) -> Path:
    """Return the fetched file of `source` (for kind `apt` the .deb).

    Raises `UserError` if it was not fetched or is missing from the cache.
    """
    if source.is_local:
        return source.local_file()
    return _in_cache(paths, locked_source(paths, source).cached_in(paths.cache))


def extension_file(paths: Paths, name: str) -> Path:
    """Return the fetched .tcz of an upstream extension.

    Raises `UserError` if it was not fetched or is missing from the cache.
    """
    return _in_cache(paths, locked_extension(paths, name).cached_in(paths.cache))


def base_archives(paths: Paths, profile: Profile) -> list[Path]:
    """Return the archives that a profile's core begins with, in order.  Raises `UserError` if it has none."""
    core = profile.core
    files = [paths.output / "rootfs64.gz"] if core.rootfs else []
    files += [source_file(paths, source) for source in core.archives]
    if not files:
        raise UserError(
            f"profile {paths.name} has no base for its core",
            "set core.rootfs = true, or list archives in core.archives",
        )
    return files


def _in_cache(paths: Paths, path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path.name} is not in the cache {paths.cache}", "run the same command again")
    return path
