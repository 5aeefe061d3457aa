# SPDX-License-Identifier: MIT
"""The inputs of a profile: their lock entries and their files in the cache.

This module does not use the network.  `tasks/fetch/stage_inputs.py` fetches missing files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from tasks.config import release, system
from tasks.config.profile import Profile
from tasks.config.settings import Paths, Settings
from tasks.origins.lock import (
    CORE,
    Lock,
    LockedArchive,
    LockedCommit,
    LockedExtension,
    LockedFile,
    LockedPackage,
    load_lock,
    readable_lock,
)
from tasks.origins.mirrors import Mirrors
from tasks.origins.published import checked, contradicted
from tasks.origins.sources.base import Access, Entry, Source
from tasks.origins.sources.recipe import RecipeSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import require_file


def sources(profile: Profile) -> list[Source]:
    """Return the sources of the kernel, its base config, the core's archives, fetched images, the backup."""
    return [source for found in by_user(profile).values() for source in found]


def by_user(profile: Profile) -> dict[str, list[Source]]:
    """Return the sources by what they are for: `kernel`, `kconfig`, `archives`, `images`, `backup`."""
    return {
        "kernel": [*profile.kernel.sources],
        "kconfig": _base_config(profile),
        "archives": [*profile.core.archives],
        # A local image may change at any time, so it is not locked; a profile can declare its digest.
        "images": [image.source for image in profile.images if image.source.is_fetched],
        "backup": [] if isinstance(profile.system.mydata, str) else [profile.system.mydata],
    }


def _base_config(profile: Profile) -> list[Source]:
    """Return the source of the kernel's base config, if it is fetched; one that others built needs none."""
    base = profile.kernel.base
    return [] if isinstance(base, str) or profile.kernel.image else [base]


def told(profile: Profile, lock: Lock) -> Iterator[str]:
    """Yield a line for each source that is a file of a mirror: its path, and what vouches for it."""
    for source in dict.fromkeys(sources(profile)):
        path = source.published_path()
        known = release.published().get(path)
        entry = source.locked_in(lock) if path else None
        if isinstance(entry, LockedFile):
            yield contradicted(entry, known) or f"{path}: {checked(entry, known).trust}"
        elif path:
            yield f"{path}: not locked yet (./doit lock); {release.trust(path)}"


def local_archives(profile: Profile) -> list[Path]:
    """Return the archives of this machine that `sources` names, without trees and missing files."""
    paths = [CHECKOUT.path(source.local_name()) for source in sources(profile) if source.is_local]
    return [path for path in paths if path.is_file()]


def check_local(profile: Profile) -> None:
    """Raise `UserError` for a file or folder of this machine that the profile names and that is missing."""
    for source in dict.fromkeys([*sources(profile), *(image.source for image in profile.images)]):
        if source.is_local:
            source.local_file()
    folder = system.mydata_folder(profile.system)
    if folder and not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder", "system.mydata names a folder of the checkout, or of a tree"
        )


# --- lock entries ----------------------------------------------------------


def lock_parts(
    lock: Lock, profile: Profile, packages: Mapping[str, Iterable[str]], upstream: Iterable[str]
) -> dict[str, Lock]:
    """Return the entries of `lock` by their users.

    Users are `linux`, `kconfig`, `rootfs`, `archives`, `images` and `tcz/NAME`; one without inputs to
    fetch has no part.  packages: the apt packages of recipes, by extension;
    upstream: names of extensions.  An entry with several users is in the part of each.
    """
    found_sources = by_user(profile)
    wanted_by = {"linux": found_sources.pop("kernel"), **found_sources}
    del wanted_by["backup"]  # a disk image alone has it
    parts = {}
    for user, wanted in wanted_by.items():
        if wanted:
            entries = [source.locked_in(lock) for source in wanted]
            found = [entry for entry in entries if isinstance(entry, LockedFile)]
            # A task depends on its part, and who vouches for a file changes no byte of it.
            files = tuple(replace(entry, vouched="", published_by=()) for entry in found)
            packages_of_user = tuple(entry for entry in entries if isinstance(entry, LockedPackage))
            commits = tuple(entry for entry in entries if isinstance(entry, LockedCommit))
            parts[user] = Lock(packages_of_user, files, commit=commits)
    if profile.core.rootfs:
        parts["rootfs"] = part_of(lock, CORE, profile.core.packages)
    parts |= {f"tcz/{name}": part_of(lock, name, names) for name, names in packages.items() if names}
    for name in upstream:
        entries_of_name = tuple(item for item in lock.extension if item.name == name)
        parts[f"tcz/{name}"] = Lock(extension=entries_of_name)
    return parts


def needed_packages(lock: Lock, user: str) -> tuple[str, ...]:
    """Return the packages that the lock adds for the libraries of `user`: `core` or an extension."""
    needs = lock.needs_of(user)
    return needs.packages if needs else ()


def part_of(lock: Lock, user: str, names: Iterable[str]) -> Lock:
    """Return the packages `names` that `user` names and those that they need, as a part of the lock.

    The dates of archives are left out: a task depends on its part, and they change no package.  So is
    what is taken, which the task depends on by the recipe.
    """
    needs = lock.needs_of(user)
    wanted = {*names, *needed_packages(lock, user)}
    packages = tuple(package for package in lock.package if package.name in wanted)
    return Lock(packages, needs=(replace(needs, takes=""),) if needs else ())


def refuse_foreign(lock: Path, what: str) -> None:
    """Raise `UserError` if trees are used, and a lock that is to be written does not lie in one of them.

    what: whose lock it is.  With trees, the checkout may be another's, and stays as it is.  So does, in any
    case, what a wheel installed.
    """
    CHECKOUT.refuse_installed(lock, f"the lock of {what}")
    if CHECKOUT.trees and not CHECKOUT.is_in_tree(lock):
        hint = "lock it without tree=, or give the tree one of its own: a profile may inherit this one"
        raise UserError(f"{what} is no tree's, and its lock is not written while trees are used", hint)


def pinned_lock(paths: Paths) -> Lock:
    """Return the profile's committed lock.

    Raises `UserError`, which says what writes it, if it is malformed.
    """
    name = paths.pinned_lock.name.removesuffix(".lock.toml")
    return load_lock(paths.pinned_lock, f"restore it, or write it anew: ./doit lock profile={name} relock=1")


def used_lock(paths: Paths) -> Lock:
    """Return the lock that the last fetch wrote.  Raises `UserError` if there is none, or it is malformed."""
    if not paths.used_lock.exists():
        raise UserError(f"nothing was fetched yet for profile {paths.name}", "./doit fetch")
    return load_lock(paths.used_lock, "./doit fetch writes it again")


def locked_packages(part: Path, names: Iterable[str]) -> list[LockedPackage]:
    """Return the entries of the packages `names` in a part of the lock, sorted.

    Raises `UserError` for a package that the last fetch did not lock.
    """
    packages = {package.name: package for package in load_lock(part).package}
    wanted = sorted(set(names))
    for name in wanted:
        if name not in packages:
            unused = f" (./doit fetch:{part.stem} if the profile does not use it)"
            hint = f"./doit fetch{unused if part.parent.name == 'tcz' else ''}"
            raise UserError(f"package {name} was not fetched yet", hint)
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
        suite=settings.profile.packages_suite,
        dates=_dates(settings.paths),
        medium=settings.profile.imported,
        imported_name=settings.paths.imported_name if settings.profile.imported else "",
        published=release.published(),
    )


def _dates(paths: Paths) -> tuple[LockedArchive, ...]:
    """Return the dates of the suite's archives, of the last fetch and of the pinned lock."""
    locks = [readable_lock(path) for path in (paths.used_lock, paths.pinned_lock)]
    return tuple(dict.fromkeys(entry for lock in locks for entry in lock.archive))


def package_files(paths: Paths, part: Path, names: Iterable[str]) -> dict[str, Path]:
    """Return the .deb of each of the packages `names` of a part of the lock, by package name.

    Raises `UserError` for a package that was not fetched or is missing from the cache.
    """
    return {
        package.name: _in_cache(paths, package.cached_in(paths.cache))
        for package in locked_packages(part, names)
    }


def library_packages(paths: Paths, part: Path, user: str) -> dict[str, Path]:
    """Return the .deb of each package that the lock adds for the libraries of `user`, by package name.

    Raises `UserError` for one that was not fetched or is missing from the cache.
    """
    return package_files(paths, part, needed_packages(load_lock(part), user))


def source_file(paths: Paths, source: Source) -> Path:
    """Return the fetched file of `source` (for kind `apt` the .deb), or the image that tcbuild made.

    Raises `UserError` if it was not fetched or is missing from the cache.
    """
    if source.is_local:
        return source.local_file()
    if isinstance(source, RecipeSource):
        path = paths.container_image(source.recipe)
        require_file(path, f"./doit image:{source.recipe}")
        return path
    entry = locked_source(paths, source)
    assert not isinstance(entry, LockedCommit)  # its clone has the files
    return _in_cache(paths, entry.cached_in(paths.cache))


def extension_file(paths: Paths, name: str) -> Path:
    """Return the fetched .tcz of an upstream extension.

    Raises `UserError` if it was not fetched or is missing from the cache.
    """
    return _in_cache(paths, locked_extension(paths, name).cached_in(paths.cache))


def base_archives(paths: Paths, profile: Profile) -> list[Path]:
    """Return the archives that a profile's core begins with, in order.  Raises `UserError` if it has none."""
    core = profile.core
    files = [paths.rootfs] if core.rootfs else []
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
